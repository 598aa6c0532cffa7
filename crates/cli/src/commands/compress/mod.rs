//! `kerf compress`: trials of ways to a smaller model, until the goals are met with the least loss.

mod args;
mod means;
mod propose;
mod search;
mod text;
mod trial;
mod variant;

pub(crate) use args::CompressArgs;
pub(super) use variant::name as variant_name;

use super::{Context, Outcome, Task, Verdict};
use crate::args::Shared;
use crate::input;
use crate::output::{self, Target};
use crate::{resume, written};
use search::Search;
use serde_json::json;
use std::path::{Path, PathBuf};
use tensor_core::{Error, ErrorKind, Result};

impl Task for CompressArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn plans(&self) -> bool {
        true
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        if !self.goal.is_any() {
            return Err(Error::new(ErrorKind::Invalid, "E0010", "no goal was given").hint(
                "say what to reach: `--latency 50%`, `--size 25%` or `--macs 50%`, and what may be \
                 lost: `--max-drop 0.5%` or `--min-agreement 95%`",
            ));
        }
        let output = self.output();
        let folder = self.run.clone().unwrap_or_else(|| output.with_extension("run"));
        if self.shared.dry_run {
            return search::plan(self, &output, &folder, cx);
        }
        output::check(Target::Folder(&folder), &[&self.model])?;
        let force = self.force || written::is_own(Some(&folder), &output);
        output::check(Target::File { path: &output, force }, &[&self.model])?;
        resume::remember(&folder, cx.arguments)?;
        let mut search = Search::open(self, &output, &folder, cx)?;
        search.run()?;
        let best = search.best()?;
        let verdict = if best.meets() { Verdict::Pass } else { Verdict::Fail };
        let result = json!({
            "output": { "path": output, "sha256": input::sha256(&output)? },
            "run": folder,
            "best": best.variant.name(),
            "measured": best.measured,
            "trials": search.trials(),
        });
        let text = text::report(self, &output, &folder, search.trials(), best, &cx.replay);
        Ok(Outcome::new(text, result, verdict).kept_in(&folder))
    }
}

impl CompressArgs {
    /// Where the result goes.
    fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| {
            let stem = self.model.file_stem().unwrap_or_default().to_string_lossy();
            PathBuf::from(format!("{stem}-small.onnx"))
        })
    }

    /// Does it train?
    fn trains(&self) -> bool {
        self.train || self.data.labels_are_given() || self.epochs.is_some()
    }
}
