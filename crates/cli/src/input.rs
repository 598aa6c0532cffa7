//! Input files: identity and existence.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tensor_core::{Error, Result};

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// `E0003` when it cannot be read.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    };
    read().map_err(|error| Error::io(path, &error))
}

/// What identifies samples: the hash of a file, or of the names and sizes of all files in a folder,
/// as hashing a large image folder would take longer than reading it. A path that stands for a file
/// in its folder (`folder/train`) is identified by that folder.
///
/// # Errors
/// `E0003` when it cannot be read.
pub(crate) fn fingerprint(path: &Path) -> Result<String> {
    if path.is_file() {
        return sha256(path);
    }
    let path = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let mut hash = Sha256::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let error = |error| Error::io(&folder, &error);
        let entries = std::fs::read_dir(&folder).map_err(error)?;
        let mut entries = entries.collect::<std::io::Result<Vec<_>>>().map_err(error)?;
        entries.sort_by_key(std::fs::DirEntry::path);
        for entry in entries {
            let metadata = std::fs::metadata(entry.path()).map_err(error)?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(path).unwrap_or(&entry.path()).to_owned();
                hash.update(name.as_os_str().as_encoded_bytes());
                hash.update(metadata.len().to_le_bytes());
            }
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
