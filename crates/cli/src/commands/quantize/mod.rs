//! `kerf quantize`: integers in place of floats, as any runtime reads them, with proof.

mod args;

pub(crate) use args::QuantizeArgs;

use super::model::{Model, file_name};
use super::proof::{self, Judge, Subject};
use super::{Context, Outcome, Settings, Task, Verdict, engine, provenance, samples};
use crate::args::{OnUnsupported, Shared};
use crate::input;
use crate::output::Target;
use crate::report;
use quant_mixed::model::quantize;
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use tensor_core::measure::{self, Choice};
use tensor_core::text::counted;
use tensor_core::{Result, onnx};

impl Task for QuantizeArgs {
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
        let params = self.params()?.check()?;
        let search = engine::Search::start(Choice::Auto);
        let model = Model::load(&self.files.model, &self.shared)?;
        model.apply_policy(&self.shared, OnUnsupported::Skip, cx.console)?;
        onnx::check_target(&model.graph, &self.files.output)?;
        let set = samples::calibration(&self.data, &self.shared, &model.graph, cx)?;
        let judge = Judge { data: &self.data, proof: &self.proof, shared: &self.shared };
        let judged = judge.samples(&model.graph, &set, cx.console)?;
        let batch = samples::batch(&self.data, &model)?;
        let batches = samples::arrays(&model.graph, &set, batch, &cx.progress)?;
        // An engine that was named and cannot be had should be known before the work, not after.
        measure::check_named()?;
        let start = Instant::now();
        let shapes = self.shared.shapes();
        let made = quantize(&model.graph, &shapes, &batches, &params, &cx.progress)?;
        drop(batches);
        cx.console.note(&format!("quantized in {:.2} s", start.elapsed().as_secs_f64()));
        let engine = search.end(cx.console)?;
        let mut graph = made.graph;
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
            word: "quantized",
        };
        let timed = (!self.no_bench).then_some(&sizes);
        let proof = proof::prove(&subject, &*engine, timed, Vec::new(), cx)?;
        let text = format!(
            "{} -> {}\ndata {} ({})\n\n{}\n{}\n{}\nreplay  {}\n",
            file_name(&self.files.model),
            self.files.output.display(),
            self.data.path().display(),
            counted(set.len(), "sample"),
            report::quantization(&made.report),
            report::sizes(&sizes, &uncounted),
            proof.text(&sizes, subject.word),
            cx.replay,
        );
        let result = json!({
            "output": { "path": self.files.output, "sha256": input::sha256(&self.files.output)? },
            "recipe": recipe,
            "sizes": sizes,
            "uncounted": uncounted,
            "quantization": made.report,
            "proof": proof,
        });
        let verdict = if proof.failures.is_empty() { Verdict::Pass } else { Verdict::Fail };
        Ok(Outcome { text, result, verdict, hint: None })
    }
}
