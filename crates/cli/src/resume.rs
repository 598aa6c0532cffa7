//! What a run folder remembers of the command that works in it.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use tensor_core::files::write_whole;
use tensor_core::{Error, ErrorKind, Result};

/// The file in the run folder.
const FILE: &str = "command.json";

/// A command and where it was given.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// From `kerf` on.
    pub(crate) arguments: Vec<String>,
    /// Its working directory.
    pub(crate) directory: PathBuf,
}

/// Notes in a run folder which command works in it.
///
/// # Errors
/// `E0003` when that cannot be written.
pub(crate) fn remember(folder: &Path, arguments: &[OsString]) -> Result<()> {
    let here = Path::new(".");
    let directory = std::env::current_dir().map_err(|error| Error::io(here, &error))?;
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
    let remembered = Remembered { arguments: arguments.collect(), directory };
    let text = serde_json::to_string_pretty(&remembered)
        .map_err(|error| Error::internal(error.to_string()))?;
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, &error))?;
    write_whole(&folder.join(FILE), |part| fs::write(part, text + "\n"))
}

/// The command that works in a run folder.
///
/// # Errors
/// `E0413` when the folder knows of none.
pub(crate) fn recall(folder: &Path) -> Result<Remembered> {
    let text = fs::read_to_string(folder.join(FILE)).map_err(|error| error.to_string());
    let read = text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    read.map_err(|error| {
        let message = format!("{}: no run to go on with: {error}", folder.display());
        Error::new(ErrorKind::Invalid, "E0413", message)
            .hint("name the folder that was given as `--run`, or repeat the command itself")
    })
}
