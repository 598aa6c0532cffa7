//! `kerf resume`: the command of a run folder once more, which goes on where it was interrupted.

use super::{Context, Outcome, Task};
use crate::app;
use crate::args::{Cli, Shared};
use crate::{resume, shell};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf resume`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ResumeArgs {
    /// The run folder
    folder: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for ResumeArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn plans(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let remembered = resume::recall(&self.folder)?;
        let arguments: Vec<OsString> = remembered.arguments.iter().map(OsString::from).collect();
        let line = shell::replay(&arguments);
        if self.shared.dry_run {
            let text = format!("in {}\n{line}\n", remembered.directory.display());
            return Ok(Outcome::answer(text, json!({ "dry_run": true, "command": remembered })));
        }
        // Its paths are those of where it was given.
        std::env::set_current_dir(&remembered.directory)
            .map_err(|error| Error::io(&remembered.directory, &error))?;
        cx.console.note(&line);
        let (matches, cli) = Cli::read(&arguments).map_err(|error| {
            let message = format!("{}: {error}", self.folder.display());
            Error::new(ErrorKind::Invalid, "E0413", message.trim_end())
        })?;
        let done = app::execute(cli.task(), &matches, &arguments, cx.console)?;
        if !cx.group.is_first() {
            return Ok(Outcome::of_another());
        }
        let result = serde_json::from_str(&done.document)
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(Outcome::new(done.text, result, done.verdict))
    }
}
