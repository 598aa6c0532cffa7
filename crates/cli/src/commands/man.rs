//! `kerf man`: manual pages, one for each command.

use super::{Context, Outcome, Task};
use crate::args::{Cli, Shared};
use crate::output::Target;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tensor_core::files::write_whole;
use tensor_core::text::counted;
use tensor_core::{Error, Result};

/// Arguments of `kerf man`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ManArgs {
    /// Folder for the pages, such as `~/.local/share/man/man1`
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for ManArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![Target::Folder(&self.output)]
    }

    fn run(&self, _cx: &Context) -> Result<Outcome> {
        let mut written = Vec::new();
        let mut parser = Cli::parser();
        parser.build();
        pages(&parser, "kerf", &self.output, &mut written)?;
        let text = format!(
            "{} in {}; `man -l {}` shows the first\n",
            counted(written.len(), "page"),
            self.output.display(),
            self.output.join("kerf.1").display()
        );
        Ok(Outcome::answer(text, json!({ "pages": written })))
    }
}

/// Writes the page of a command and those of its sub-commands.
fn pages(
    command: &clap::Command,
    name: &str,
    folder: &Path,
    written: &mut Vec<PathBuf>,
) -> Result<()> {
    let page = clap_mangen::Man::new(command.clone()).title(name.to_uppercase());
    let mut text = Vec::new();
    page.render(&mut text).map_err(|error| Error::internal(error.to_string()))?;
    let path = folder.join(format!("{name}.1"));
    write_whole(&path, |part| fs::write(part, &text))?;
    written.push(path);
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        pages(inner, &format!("{name}-{}", inner.get_name()), folder, written)?;
    }
    Ok(())
}
