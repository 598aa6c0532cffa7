//! Which output belongs to a run folder: the same command may replace it, as after an interruption
//! between writing and checking it.

use crate::input;
use std::fs;
use std::path::{Path, PathBuf};
use tensor_core::Result;
use tensor_core::files::write_whole;

/// Notes that a run wrote this file.
pub(crate) fn remember(folder: &Path, output: &Path) -> Result<()> {
    let hash = input::sha256(output)?;
    write_whole(&note(folder), |part| fs::write(part, hash))
}

/// Is the file what the run in the folder wrote, unchanged?
pub(crate) fn is_own(folder: Option<&Path>, output: &Path) -> bool {
    let known = folder.and_then(|folder| fs::read_to_string(note(folder)).ok());
    known.is_some_and(|known| input::sha256(output).is_ok_and(|hash| hash == known))
}

fn note(folder: &Path) -> PathBuf {
    folder.join("output.sha256")
}
