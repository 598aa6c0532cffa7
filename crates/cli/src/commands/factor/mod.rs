//! `kerf factor`: thin convolutions in place of wide ones under a budget, with proof.

mod args;

pub(crate) use args::FactorArgs;

use super::one_shot::{Job, Made};
use super::prune::exceeded;
use super::{Context, Outcome, Settings, Task};
use crate::args::{OnUnsupported, Shared, describe_budget};
use crate::output::Target;
use crate::report;
use lasso_prune::{Factored, ThreeC, factorize, three_c};
use serde_json::json;
use std::path::Path;
use tensor_core::Result;

impl Task for FactorArgs {
    fn shared(&self) -> &Shared {
        &self.common.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.common.files.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![self.common.files.target()]
    }

    fn check(&self) -> Result<()> {
        self.params()?;
        self.pruning().map(|_| ())
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let params = self.params()?;
        let mut job = Job::begin(&self.common, OnUnsupported::Error, cx)?;
        let judged = job.judged()?;
        let heading = format!("Goal  {}   {}", describe_budget(&params.budget), job.data());
        let batches = job.batches()?;
        let (graph, text, did) = match self.pruning()? {
            Some(pruning) => {
                let params = (&params, &pruning);
                let ThreeC { graph, report } =
                    three_c(&job.model.graph, &job.shapes, &batches, params, &cx.progress)?;
                (graph, report::three_c(&report), ("three_c", json!(report)))
            }
            None => {
                let Factored { graph, report } =
                    factorize(&job.model.graph, &job.shapes, batches, &params, &cx.progress)?;
                (graph, report::factored(&report), ("factoring", json!(report)))
            }
        };
        let made = Made {
            graph,
            word: "factorized",
            settings: &self.settings(),
            is_timed: !self.no_bench,
            missed: &|sizes| exceeded(&params.budget, sizes, None),
        };
        let proved = job.prove(made, &judged)?;
        proved.outcome(&self.common, (&heading, &text), did, None, cx)
    }
}
