//! Files that are whole or not there.

use crate::{Error, Result};
use std::fs::{self, File};
use std::path::Path;

/// Lets `write` make a file under another name, waits until it is stored, and renames it: whatever
/// happens, `path` has the old or the new content, never a part. When it fails nothing is left; a
/// process that is killed leaves `<path>.part`, which the next attempt replaces.
///
/// # Errors
/// `E0003` when it cannot be written.
pub fn write_whole(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = write(&part)
        .and_then(|()| File::open(&part)?.sync_all())
        .and_then(|()| fs::rename(&part, path));
    written.map_err(|error| {
        // The write failed already; a leftover that cannot be removed either changes nothing.
        let _ = fs::remove_file(&part);
        Error::io(path, &error)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_whole(&path, |part| fs::write(part, "old")).unwrap();
        let error = write_whole(&path, |part| {
            fs::write(part, "ne")?;
            Err(std::io::Error::other("the disk is full"))
        });
        assert_eq!(error.unwrap_err().code(), "E0003");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
