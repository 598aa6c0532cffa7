//! `kerf prune`: fewer channels under a budget, with proof.

mod args;
mod plan;
mod time;
mod widths;

pub(crate) use args::PruneArgs;
pub(super) use plan::exceeded;

use super::one_shot::{Job, Made};
use super::{Context, Outcome, Settings, Task};
use crate::args::{OnUnsupported, Shared, describe_budget};
use crate::output::Target;
use crate::report;
use lasso_prune::{plan, prune};
use serde_json::json;
use std::path::Path;
use tensor_core::Result;

impl Task for PruneArgs {
    fn shared(&self) -> &Shared {
        &self.common.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.common.files.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![self.common.files.target()]
    }

    fn plans(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        self.params().map(|_| ())
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let (params, budget) = self.params()?;
        let params = params.check()?;
        let mut job = Job::begin(&self.common, OnUnsupported::Error, cx)?;
        let goal = budget.as_ref().map_or("given widths".to_owned(), describe_budget);
        let heading = format!("Goal  {goal}   method {}   {}", self.method(), job.data());
        if self.common.shared.dry_run {
            let batches = job.batches()?;
            let graph = &job.model.graph;
            let planned = plan(graph, &job.shapes, batches, &params, &cx.progress)?;
            let heading = format!("{heading}\n");
            return Ok(plan::outcome(&self.common.files.model, graph, &heading, &planned));
        }
        let judged = job.judged()?;
        let batches = job.batches()?;
        let pruned = prune(&job.model.graph, &job.shapes, batches, &params, &cx.progress)?;
        let predicted = &pruned.report.time;
        let made = Made {
            graph: pruned.graph,
            word: "pruned",
            settings: &self.settings(),
            is_timed: !self.no_bench,
            missed: &|sizes| exceeded(budget.as_ref()?, sizes, predicted.as_ref()),
        };
        let proved = job.prove(made, &judged)?;
        let time = predicted.clone().map(|time| time::Time::new(time, proved.proof.latency()));
        if let Some(doubt) = time.as_ref().and_then(time::Time::doubt) {
            cx.console.warn(&doubt);
        }
        let behind =
            ("time", time.as_ref().map_or_else(String::new, time::Time::text), json!(time));
        let text = report::layers(&pruned.report);
        let did = ("pruning", json!(pruned.report));
        proved.outcome(&self.common, (&heading, &text), did, Some(behind), cx)
    }
}
