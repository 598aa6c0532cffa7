//! `kerf sparsify`: exact zeros in the weights, with what is left refitted, and proof.

mod args;

pub(crate) use args::SparsifyArgs;

use super::one_shot::{Job, Made};
use super::{Context, Outcome, Settings, Task};
use crate::args::{OnUnsupported, Shared};
use crate::output::Target;
use crate::report;
use magnitude_schedule::model::sparsify;
use serde_json::json;
use std::path::Path;
use tensor_core::Result;

impl Task for SparsifyArgs {
    fn shared(&self) -> &Shared {
        &self.common.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.common.files.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![self.common.files.target()]
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        self.params().map(|_| ())
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let params = self.params()?.check()?;
        let mut job = Job::begin(&self.common, OnUnsupported::Error, cx)?;
        let judged = job.judged()?;
        let heading = job.data();
        let batches = job.shared_batches()?;
        let made = sparsify(&job.model.graph, &job.shapes, batches, &params, &cx.progress)?;
        if !cx.group.is_first() {
            return Ok(Outcome::of_another());
        }
        let report = made.report;
        let made = Made {
            graph: made.graph,
            word: "sparsified",
            settings: &self.settings(),
            // Runtimes multiply by zeros as by other numbers.
            is_timed: false,
            missed: &|_| None,
        };
        let proved = job.prove(made, &judged)?;
        let text = report::sparsity(&report);
        proved.outcome(&self.common, (&heading, &text), ("sparsity", json!(report)), None, cx)
    }
}
