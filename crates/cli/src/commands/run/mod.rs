//! `kerf run`: the steps of a recipe, in order, and what came of them.

mod journal;
mod judge;
mod pipeline;

pub(super) use judge::{JudgedArgs, Measured};
pub(super) use pipeline::Pipeline;

use super::{Context, Outcome, Task};
use crate::args::Shared;
use crate::output::Target;
use crate::recipe::Recipe;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf run`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct RunArgs {
    /// The recipe, a TOML file; `kerf explain E0012` shows one
    recipe: PathBuf,
    /// The model to begin with, instead of the recipe's
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Where the result goes, instead of where the recipe says
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    #[serde(skip)]
    force: bool,
    /// Folder for the journal and what the steps make; the same command goes on where it was
    /// interrupted [default: the output's name with `.run`]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for RunArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        self.model.as_deref()
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        let run = self.run.as_deref().filter(|_| !self.shared.dry_run).map(Target::Folder);
        // An output that the recipe names is checked when it was read.
        let path = self.output.as_deref();
        let force = self.force || self.run.is_some();
        run.into_iter().chain(path.map(|path| Target::File { path, force })).collect()
    }

    fn plans(&self) -> bool {
        true
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let recipe = Recipe::read(&self.recipe)?;
        let missing = |what: &str, flag: &str| {
            let message = format!("the recipe names no {what}: {}", self.recipe.display());
            Error::new(ErrorKind::Invalid, "E0012", message)
                .hint(format!("write `{what} = \"...\"` in it, or give `{flag}`"))
        };
        let model = self.model.clone().or_else(|| recipe.model.clone());
        let output = self.output.clone().or_else(|| recipe.output.clone());
        let model = model.ok_or_else(|| missing("model", "--model"))?;
        let output = output.ok_or_else(|| missing("output", "--output"))?;
        let folder = self.run.clone().unwrap_or_else(|| output.with_extension("run"));
        let pipeline =
            Pipeline { recipe, model, output, force: self.force, folder, shared: &self.shared };
        match self.shared.dry_run {
            true => pipeline.plan(),
            false => Ok(pipeline.run(cx)?.outcome.kept_in(&pipeline.folder)),
        }
    }
}
