//! `kerf prune`: fewer channels under a budget, with proof.

mod args;
mod plan;
mod time;
mod widths;

pub(crate) use args::PruneArgs;
pub(super) use plan::exceeded;

use super::model::{Model, file_name};
use super::proof::{self, Judge, Subject};
use super::{Context, Outcome, Settings, Task, Verdict, engine, provenance, samples};
use crate::args::{OnUnsupported, Shared, describe_budget};
use crate::input;
use crate::output::Target;
use crate::report;
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use tensor_core::measure::{self, Choice};
use tensor_core::text::counted;
use tensor_core::{Result, onnx};

impl Task for PruneArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.files.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![self.files.target()]
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
        let goal = budget.as_ref().map_or("given widths".to_owned(), describe_budget);
        let search = engine::Search::start(Choice::Auto);
        let model = Model::load(&self.files.model, &self.shared)?;
        model.apply_policy(&self.shared, OnUnsupported::Error, cx.console)?;
        let set = samples::calibration(&self.data, &self.shared, &model.graph, cx)?;
        let heading = format!(
            "Goal  {goal}   method {}   data {} ({})\n",
            self.method(),
            self.data.path().display(),
            counted(set.len(), "sample")
        );
        let batch = samples::batch(&self.data, &model)?;
        cx.console.detail(&format!("batches of {}", counted(batch, "sample")));
        let shapes = self.shared.shapes();
        if self.shared.dry_run {
            let batches = samples::arrays(&model.graph, &set, batch, &cx.progress)?;
            let planned = lasso_prune::plan(&model.graph, &shapes, batches, &params, &cx.progress)?;
            return Ok(plan::outcome(&self.files.model, &model.graph, &heading, &planned));
        }
        onnx::check_target(&model.graph, &self.files.output)?;
        let judge = Judge { data: &self.data, proof: &self.proof, shared: &self.shared };
        let judged = judge.samples(&model.graph, &set, cx.console)?;
        let batches = samples::arrays(&model.graph, &set, batch, &cx.progress)?;
        // An engine that was named and cannot be had should be known before the work, not after.
        measure::check_named()?;
        let start = Instant::now();
        let pruned = lasso_prune::prune(&model.graph, &shapes, batches, &params, &cx.progress)?;
        cx.console.note(&format!("pruned in {:.2} s", start.elapsed().as_secs_f64()));
        let engine = search.end(cx.console)?;
        let mut graph = pruned.graph;
        let settings = self.settings();
        let recipe = provenance::write(&mut graph, &self.files, &settings, self.shared.seed)?;
        let before = (self.files.model.as_path(), &model.graph);
        let after = (self.files.output.as_path(), &graph);
        let (sizes, uncounted) = report::change(before, after, &shapes)?;
        let subject = Subject {
            judge,
            files: &self.files,
            made: &graph,
            set: &judged,
            batch,
            word: "pruned",
        };
        let missed = budget
            .as_ref()
            .and_then(|budget| plan::exceeded(budget, &sizes, pruned.report.time.as_ref()));
        let timed = (!self.no_bench).then_some(&sizes);
        let proof = proof::prove(&subject, &*engine, timed, missed.into_iter().collect(), cx)?;
        let time = pruned.report.time.clone().map(|time| time::Time::new(time, proof.latency()));
        if let Some(doubt) = time.as_ref().and_then(time::Time::doubt) {
            cx.console.warn(&doubt);
        }
        let text = format!(
            "{} -> {}\n{heading}\n{}\n{}{}\n{}\nreplay  {}\n",
            file_name(&self.files.model),
            self.files.output.display(),
            report::layers(&pruned.report),
            report::sizes(&sizes, &uncounted),
            time.as_ref().map_or_else(String::new, time::Time::text),
            proof.text(&sizes, "pruned"),
            cx.replay,
        );
        let result = json!({
            "output": { "path": self.files.output, "sha256": input::sha256(&self.files.output)? },
            "recipe": recipe,
            "sizes": sizes,
            "uncounted": uncounted,
            "time": time,
            "pruning": pruned.report,
            "proof": proof,
        });
        let verdict = if proof.failures.is_empty() { Verdict::Pass } else { Verdict::Fail };
        Ok(Outcome { text, result, verdict, hint: None })
    }
}
