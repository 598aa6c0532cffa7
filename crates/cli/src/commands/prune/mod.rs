//! `kerf prune`: fewer channels under a budget, with proof.

mod args;
mod plan;
mod time;
mod widths;

pub(crate) use args::{AttentionArg, PruneArgs};
pub(super) use plan::exceeded;

use super::one_shot::{Job, Made, OneShotArgs};
use super::statistics;
use super::{Context, Outcome, Settings, Task, samples};
use crate::args::{OnUnsupported, Shared, describe_budget};
use crate::output::Target;
use crate::report;
use crate::units;
use lasso_prune::{RefineParams, RefineReport, Source, check_refine, plan, prune, refine};
use serde_json::json;
use std::path::Path;
use tensor_core::data::Dataset;
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Graph, Result};

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
        let (mut params, budget) = self.params()?;
        let OneShotArgs { files, data, sampling, shared, .. } = &self.common;
        let stored = self.known.open(&files.model, data, sampling, shared)?;
        // Statistics alone come with the positions that they were sampled at.
        let alone = stored.as_ref().filter(|_| !data.is_given());
        if let Some(calibration) = alone {
            params.positions = params.positions.or(calibration.positions());
        }
        let params = params.check()?;
        let refinement = self.refinement();
        if stored.is_some() && refinement.is_some() {
            let message =
                "refinement is judged on samples that nothing else saw, and statistics saw all";
            return Err(Error::new(ErrorKind::Invalid, "E0147", message)
                .hint("leave out `--statistics` or `--refine`"));
        }
        let read = |graph: &Graph| match alone {
            Some(calibration) => statistics::few_samples(calibration, graph),
            None => samples::calibration(data, shared, graph, cx),
        };
        let mut job = Job::begin_on(&self.common, OnUnsupported::Error, &read, cx)?;
        let judges = refinement.as_ref().map(|params| self.judges(&mut job, params)).transpose()?;
        let source = |job: &mut Job| -> Result<Source> {
            Ok(match (alone, &stored) {
                (Some(calibration), _) => Source::Statistics(calibration),
                (None, Some(calibration)) => Source::Both(job.batches()?, calibration),
                (None, None) => Source::Samples(job.batches()?),
            })
        };
        let goal = budget.as_ref().map_or("given widths".to_owned(), describe_budget);
        let from = match (&self.known.statistics, alone) {
            (Some(path), Some(calibration)) => {
                let samples = counted(calibration.samples(), "sample");
                format!("statistics {} ({samples})", path.display())
            }
            _ => job.data(),
        };
        let heading = format!("Goal  {goal}   method {}   {from}", self.method());
        if self.common.shared.dry_run {
            let source = source(&mut job)?;
            let graph = &job.model.graph;
            let planned = plan(graph, &job.shapes, source, &params, &cx.progress)?;
            let heading = format!("{heading}\n");
            return Ok(plan::outcome(&self.common.files.model, graph, &heading, &planned));
        }
        let judged = job.judged()?;
        let source = source(&mut job)?;
        let pruned = prune(&job.model.graph, &job.shapes, source, &params, &cx.progress)?;
        let mut refined = None;
        if let Some((params, judges)) = refinement.as_ref().zip(judges) {
            let (original, sets) = (&job.model.graph, (&job.set, &judges));
            refined = Some(refine(original, &pruned, &job.shapes, sets, params, &cx.progress)?);
        }
        let (graph, refinement) = match refined {
            Some(refined) => (refined.graph, Some(refined.report)),
            None => (pruned.graph, None),
        };
        let predicted = &pruned.report.time;
        let made = Made {
            graph,
            word: "pruned",
            settings: &alone.map_or(self.settings(), |calibration| {
                statistics::as_with_data(self.settings(), calibration)
            }),
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
        let mut text = report::layers(&pruned.report);
        let mut done = json!(pruned.report);
        if let Some(refinement) = &refinement {
            text.push_str(&refinement_text(refinement));
            done["refinement"] = json!(refinement);
        }
        let did = ("pruning", done);
        proved.outcome(&self.common, (&heading, &text), did, Some(behind), cx)
    }
}

/// One in so many samples judges refinement.
const JUDGES: usize = 10;

/// Fewest samples that judge.
const LEAST: usize = 5;

impl PruneArgs {
    /// Takes samples away that are to judge refinement, and looks whether it can be done at all.
    fn judges(&self, job: &mut Job, params: &RefineParams) -> Result<Dataset> {
        let count = job.set.len() / JUDGES;
        if count < LEAST {
            let message = format!(
                "of {} one in {JUDGES} judges refinement, which is fewer than {LEAST}",
                counted(job.set.len(), "sample")
            );
            return Err(Error::new(ErrorKind::Invalid, "E0147", message)
                .hint("give more samples: refinement gains from about a thousand on"));
        }
        let (others, judges) = job.set.split_runs(count);
        job.set = others;
        check_refine(&job.model.graph, &job.shapes, &job.set, params)?;
        Ok(judges)
    }
}

/// What gradient steps cost and gained, for people.
fn refinement_text(report: &RefineReport) -> String {
    let RefineReport { steps, batch, values, before, after, is_kept, judges, seconds } = report;
    let end = if *is_kept { "" } else { ", so they were given up" };
    format!(
        "refined in {steps} steps of {} by outputs and {} ({seconds:.1} s): squared error of the outputs {} -> {} on \
         {} that nothing else saw{end}\n",
        counted(*batch, "sample"),
        counted(*values, "response"),
        units::percent_fine(*before),
        units::percent_fine(*after),
        counted(*judges, "sample"),
    )
}
