//! `kerf factor`: thin convolutions in place of wide ones under a budget, with proof.

mod args;

pub(crate) use args::FactorArgs;

use super::model::{Model, file_name};
use super::proof::{self, Judge, Subject};
use super::prune::exceeded;
use super::{Context, Outcome, Settings, Task, Verdict, engine, provenance, samples};
use crate::args::{OnUnsupported, Shared, describe_budget};
use crate::input;
use crate::output::Target;
use crate::report;
use lasso_prune::{Factored, factorize};
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use tensor_core::measure::{self, Choice};
use tensor_core::text::counted;
use tensor_core::{Result, onnx};

impl Task for FactorArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.files.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![self.files.target()]
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let budget = self.budget()?;
        let search = engine::Search::start(Choice::Auto);
        let model = Model::load(&self.files.model, &self.shared)?;
        model.apply_policy(&self.shared, OnUnsupported::Error, cx.console)?;
        let set = samples::calibration(&self.data, &self.shared, &model.graph, cx)?;
        let batch = samples::batch(&self.data, &model)?;
        let shapes = self.shared.shapes();
        onnx::check_target(&model.graph, &self.files.output)?;
        let judge = Judge { data: &self.data, proof: &self.proof, shared: &self.shared };
        let judged = judge.samples(&model.graph, &set, cx.console)?;
        let batches = samples::arrays(&model.graph, &set, batch, &cx.progress)?;
        measure::check_named()?;
        let start = Instant::now();
        let params = self.params()?;
        let Factored { mut graph, report: factoring } =
            factorize(&model.graph, &shapes, batches, &params, &cx.progress)?;
        cx.console.note(&format!("factorized in {:.2} s", start.elapsed().as_secs_f64()));
        let engine = search.end(cx.console)?;
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
            word: "factorized",
        };
        let missed = exceeded(&budget, &sizes, None);
        let timed = (!self.no_bench).then_some(&sizes);
        let proof = proof::prove(&subject, &*engine, timed, missed.into_iter().collect(), cx)?;
        let text = format!(
            "{} -> {}\nGoal  {}   data {} ({})\n\n{}\n{}\n{}\nreplay  {}\n",
            file_name(&self.files.model),
            self.files.output.display(),
            describe_budget(&budget),
            self.data.path().display(),
            counted(set.len(), "sample"),
            report::factored(&factoring),
            report::sizes(&sizes, &uncounted),
            proof.text(&sizes, "factorized"),
            cx.replay,
        );
        let result = json!({
            "output": { "path": self.files.output, "sha256": input::sha256(&self.files.output)? },
            "recipe": recipe,
            "sizes": sizes,
            "uncounted": uncounted,
            "factoring": factoring,
            "proof": proof,
        });
        let verdict = if proof.failures.is_empty() { Verdict::Pass } else { Verdict::Fail };
        Ok(Outcome { text, result, verdict, hint: None })
    }
}
