//! The model that is read and the one that is written.

use crate::output::Target;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of the commands that make a model from another.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ModelArgs {
    /// The model
    pub(crate) model: PathBuf,
    /// Where the new model goes
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace an existing output
    #[arg(long)]
    #[serde(skip)]
    pub(crate) force: bool,
}

impl ModelArgs {
    /// The file that is written.
    pub(crate) fn target(&self) -> Target<'_> {
        Target::File { path: &self.output, force: self.force }
    }
}
