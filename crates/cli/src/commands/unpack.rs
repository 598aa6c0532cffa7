//! `kerf unpack`: the model that was packed.

use super::{Context, Outcome, Task};
use crate::args::Shared;
use crate::output;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tensor_core::{Error, Result, files, pack};

/// Arguments of `kerf unpack`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct UnpackArgs {
    /// The packed file
    packed: PathBuf,
    /// Where to write the model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for UnpackArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.packed)
    }

    fn outputs(&self) -> Vec<output::Target<'_>> {
        vec![output::Target::File { path: &self.output, force: self.force }]
    }

    fn run(&self, _cx: &Context) -> Result<Outcome> {
        let packed = fs::read(&self.packed).map_err(|error| Error::io(&self.packed, &error))?;
        let model = pack::unpack(&packed)?;
        files::write_whole(&self.output, |part| fs::write(part, &model))?;
        let (from, to) = (packed.len(), model.len());
        let text = format!(
            "{from} bytes became {to}, the same as were packed\nwrote {}\n",
            self.output.display()
        );
        Ok(Outcome::answer(
            text,
            json!({ "output": self.output, "sizes": { "packed": from, "model": to } }),
        ))
    }
}
