//! Where results may be written. Everything that can be known is checked before work starts.

use crate::processes;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use tensor_core::{Error, ErrorKind, Result};

/// Something that a command will write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A file, with its permission to replace an existing one.
    File {
        /// Where.
        path: &'a Path,
        /// May it replace an existing file?
        force: bool,
    },
    /// A folder, made when missing.
    Folder(&'a Path),
}

/// Checks that no file is written twice.
///
/// # Errors
/// `E0022` with its path when one is.
pub(crate) fn check_apart(targets: &[Target]) -> Result<()> {
    let files: Vec<&Path> = targets
        .iter()
        .filter_map(|target| match target {
            Target::File { path, .. } => Some(*path),
            Target::Folder(_) => None,
        })
        .collect();
    for (at, path) in files.iter().enumerate() {
        if files[..at].iter().any(|other| real(other) == real(path)) {
            return Err(unwritable(path, "two outputs have this path"));
        }
    }
    Ok(())
}

/// Where a path leads, also before there is a file.
fn real(path: &Path) -> PathBuf {
    let beside = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).ok()?;
        Some(folder.join(path.file_name()?))
    };
    fs::canonicalize(path).ok().or_else(beside).unwrap_or_else(|| path.to_owned())
}

/// Checks that a target can be written and is none of the inputs.
///
/// # Errors
/// `E0020` when it exists, `E0021` when it is an input, `E0022` when it cannot be written.
pub(crate) fn check(target: Target, inputs: &[&Path]) -> Result<()> {
    match target {
        Target::File { path, force } => check_file(path, force, inputs),
        Target::Folder(path) => check_folder(path),
    }
}

fn check_file(path: &Path, force: bool, inputs: &[&Path]) -> Result<()> {
    let canonical = fs::canonicalize(path).ok();
    let is_input = |input: &&Path| canonical.is_some() && fs::canonicalize(input).ok() == canonical;
    if inputs.iter().any(is_input) {
        let message = format!("the output is the input: {}", path.display());
        return Err(Error::new(ErrorKind::Invalid, "E0021", message)
            .hint("write to another file; the input is never overwritten"));
    }
    if let Ok(metadata) = fs::metadata(path) {
        if !metadata.is_file() {
            return Err(unwritable(path, "not a regular file"));
        }
        if !force {
            let message = format!("the output exists: {}", path.display());
            return Err(
                Error::new(ErrorKind::Invalid, "E0020", message).hint("`--force` replaces it")
            );
        }
    }
    if path.file_name().is_none() {
        return Err(unwritable(path, "not a file name"));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    probe(folder, path)
}

fn check_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| unwritable(path, &error.to_string()))?;
    probe(path, path)
}

/// Tries to make a file, as permissions alone do not tell (read-only mounts, quotas).
fn probe(folder: &Path, target: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Err(unwritable(target, &format!("no folder {}", folder.display())));
    }
    // Processes on several machines may have the same number.
    let (process, rank) = (std::process::id(), processes::rank());
    let name = folder.join(format!(".kerf-probe-{process}-{rank}"));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&name)
        .and_then(|_| fs::remove_file(&name))
        .map_err(|error| unwritable(target, &error.to_string()))
}

fn unwritable(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Io, "E0022", format!("cannot write {}: {why}", path.display()))
        .hint("checked before any work, so nothing was done")
}
