//! `kerf train` and `kerf finetune`: one loop, with checkpoints and resume.

mod args;
mod distill;
mod identity;
mod precision;
mod quantization;
mod sparse;
mod text;

pub(crate) use args::TrainArgs;

use super::engine::{self, Own};
use super::gate::{self, Gated, GatesArgs};
use super::model::file_name;
use super::{Context, Outcome, Settings, Task, Verdict, provenance, samples};
use crate::args::Shared;
use crate::output::Target;
use crate::units;
use crate::{input, report, written};
use quantization::Checked;
use serde_json::{Value, json};
use std::path::Path;
use tensor_core::data::Dataset;
use tensor_core::measure::Choice;
use tensor_core::measure::compare::{self, OutputComparison};
use tensor_core::train::{self, Job, Keep, Params, Plugin, Trained};
use tensor_core::{Error, ErrorKind, Graph, Result, onnx};

/// Samples on which the written file is compared with the graph in memory.
const VERIFIED: usize = 32;

/// Largest difference between the engines, relative to the output range.
const TOLERANCE: f64 = 1e-3;

impl Task for TrainArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.files.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        let run = self.run.as_deref().filter(|_| !self.shared.dry_run);
        let force = self.files.force || written::is_own(self.run.as_deref(), &self.files.output);
        let file = Target::File { path: &self.files.output, force };
        // The folder first: the file may be meant to lie in it.
        run.map(Target::Folder).into_iter().chain([file]).collect()
    }

    fn plans(&self) -> bool {
        true
    }

    fn run_folder(&self) -> Option<&Path> {
        self.run.as_deref()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        self.perform(None, &self.settings(), cx)
    }
}

impl TrainArgs {
    /// Trains, with gates where there are flags of them. `settings` are those of the command.
    pub(super) fn perform(
        &self,
        gates: Option<&GatesArgs>,
        settings: &Value,
        cx: &Context,
    ) -> Result<Outcome> {
        self.train(gates, settings, cx).map_err(|error| self.advise(error, cx))
    }

    fn train(&self, gates: Option<&GatesArgs>, settings: &Value, cx: &Context) -> Result<Outcome> {
        let mut graph = onnx::read(&self.files.model)?;
        onnx::check_target(&graph, &self.files.output)?;
        self.quantization.check(&[
            ("gates", gates.is_some()),
            ("sparsity", self.sparse.is_used()),
            ("`--reinit`", self.is_from_scratch()),
        ])?;
        let set = self.data.open(&graph, self.shared.seed)?;
        let held_out = self.held_out(&graph, cx)?;
        for note in set.notes() {
            cx.console.detail(note);
        }
        let params = self.params(self.data.batch(&graph))?;
        self.data.check_batch(&set, &graph, cx.console)?;
        precision::warn(&graph, &set, &params, cx.console)?;
        let mut plugins = self.plugins(&graph, &set, &params, gates, cx)?;
        let both = (&self.shared, cx);
        if let Some(quantizer) = self.quantization.plugin(&graph, &set, params.batch, both)? {
            graph = quantizer.graph().clone();
            plugins.push(quantizer);
        }
        let job = Job {
            graph: &graph,
            data: &set,
            evaluation: held_out.as_ref(),
            params: &params,
            plugins: &mut plugins,
            folder: self.run.as_deref(),
            identity: identity::of((self, gates), &set, held_out.as_ref())?,
            progress: &cx.progress,
            group: cx.group.clone(),
        };
        if self.shared.dry_run {
            let planned = train::plan(job)?;
            let mut text = text::plan(&file_name(&self.files.model), &params, &planned);
            let mut result = json!({ "dry_run": true, "plan": planned });
            if let Some(gates) = gates {
                let (more, lists) = gate::plan(gates, &plugins)?;
                text.push_str(&more);
                result["gates"] = lists;
            }
            return Ok(Outcome::answer(text, result));
        }
        let Trained { graph: trained, report } = train::train(job)?;
        if !cx.group.is_first() {
            return Ok(Outcome::of_another());
        }
        let mut failures = Vec::new();
        let (graphs, run) = ((&graph, &trained), (&report.planned, plugins.as_slice()));
        let sparsity = self.sparse.report(graphs, run, &mut failures, cx.console)?;
        let exported = quantization::export(&plugins, &trained)?;
        let (mut graph, mut gated) = match gates {
            None if let Some(exported) = &exported => (exported.graph.clone(), None),
            Some(gates) => {
                let shapes = self.shared.shapes();
                let (cut, gated) = Gated::new(gates, &plugins, &trained, &shapes, &mut failures)?;
                (cut, Some(gated))
            }
            None => (trained.clone(), None),
        };
        let recipe = provenance::write(&mut graph, &self.files, settings, self.shared.seed)?;
        if let Some(gated) = &mut gated {
            if !self.no_verify {
                let samples = (held_out.as_ref().unwrap_or(&set), params.batch);
                let both = (&trained, self.files.output.as_path());
                gated.compare(both, samples, &mut failures, (&self.shared, cx))?;
            }
            if let Some(folder) = self.run.as_ref().or(self.shared.report.as_ref()) {
                gated.draw(folder)?;
            }
        }
        if let Some(folder) = &self.run {
            written::remember(folder, &self.files.output)?;
        }
        let (mut verified, mut checked) = (Value::Null, None);
        if !self.no_verify && exported.is_some() {
            let sets = (&set, held_out.as_ref());
            checked = self.check_quantized(sets, &params, &mut failures, cx)?;
        } else if !self.no_verify {
            verified = self.verify(&graph, &set, &params, &mut failures, cx)?;
        }
        let kept = report.kept.as_ref().and_then(|point| point.evaluation);
        let accuracy = kept.map(|score| score.accuracy);
        if let Some(least) = self.assert_top1
            && accuracy.is_none_or(|accuracy| accuracy < least)
        {
            let found = accuracy.map_or("unknown".to_owned(), units::percent_fine);
            let least = units::percent(least);
            failures.push(format!("top-1 accuracy is {found}, less than {least}"));
        }
        let held_out = held_out.as_ref().map(|set| (set, params.batch));
        let distillation = self.distill.report(&set, held_out, &cx.progress)?;
        let mut text =
            text::report(&file_name(&self.files.model), &self.files.output, &report, &params);
        text.push_str(&text::teachers(distillation.as_ref()));
        text.push_str(&sparsity.as_ref().map_or(String::new(), |sparsity| sparsity.text()));
        text.push_str(&gated.as_ref().map_or(String::new(), Gated::text));
        let quantization = exported.map(|exported| exported.report);
        if let Some(report) = &quantization {
            text.push_str(&quantization::text(report, checked.as_ref()));
        }
        for failure in &failures {
            text.push_str(&format!("not met  {failure}\n"));
        }
        text.push_str(&format!("\nreplay  {}\n", cx.replay));
        let result = json!({
            "output": { "path": self.files.output, "sha256": input::sha256(&self.files.output)? },
            "recipe": recipe,
            "training": report,
            "distillation": distillation,
            "sparsity": sparsity,
            "gates": gated,
            "quantization": quantization,
            "quantized_file": checked,
            "verified": verified,
            "failures": failures,
        });
        let verdict = if failures.is_empty() { Verdict::Pass } else { Verdict::Fail };
        Ok(Outcome::new(text, result, verdict))
    }

    /// The techniques that take part.
    fn plugins(
        &self,
        graph: &Graph,
        set: &Dataset,
        params: &Params,
        gates: Option<&GatesArgs>,
        cx: &Context,
    ) -> Result<Vec<Box<dyn Plugin>>> {
        let distiller =
            self.distill.plugin(set, &self.shared, self.device(), &self.files.output)?;
        let sparsifier = self.sparse.plugin(graph, params.keep == Keep::Best, cx.console)?;
        let mut plugins: Vec<_> = distiller.into_iter().chain(sparsifier).collect();
        if let Some(gates) = gates {
            if self.sparse.is_used() {
                let message = "zeros within weights and closed channels cannot be trained at once";
                return Err(Error::new(ErrorKind::Invalid, "E0443", message).hint(
                    "make the small model sparse afterwards, with `kerf finetune --sparsity`",
                ));
            }
            plugins.push(gates.plugin(graph, params, self.shared.shapes())?);
        }
        Ok(plugins)
    }

    /// The samples that accuracy is measured on.
    fn held_out(&self, graph: &Graph, cx: &Context) -> Result<Option<Dataset>> {
        let (set, path) = match &self.eval_data {
            Some(path) => (self.data.open_path(path, self.eval_labels.clone(), graph)?, &**path),
            None => match self.data.open_held_out(graph, self.shared.seed)? {
                // What is held out of samples without labels can still judge a later step.
                Some(set) if set.has_labels() || self.assert_top1.is_some() => {
                    (set, self.data.path())
                }
                _ => return Ok(None),
            },
        };
        if !set.has_labels() {
            let message = format!("the held-out samples have no labels: {}", path.display());
            return Err(Error::new(ErrorKind::Invalid, "E0207", message)
                .hint("give them with `--eval-labels`, or use one sub-folder per class"));
        }
        self.data.whole_batches(set, graph, cx.console).map(Some)
    }

    /// Says how an interrupted run goes on.
    fn advise(&self, error: Error, cx: &Context) -> Error {
        match (error.kind(), &self.run) {
            (ErrorKind::Interrupted, Some(_)) => error.hint(format!("go on with\n  {}", cx.replay)),
            (ErrorKind::Interrupted, None) => {
                error.hint("nothing was kept; `--run DIR` writes checkpoints to go on from")
            }
            _ => error,
        }
    }

    /// Compares the written integers with ours in another engine, and takes their accuracy there.
    fn check_quantized(
        &self,
        (set, held_out): (&Dataset, Option<&Dataset>),
        params: &Params,
        failures: &mut Vec<String>,
        cx: &Context,
    ) -> Result<Option<Checked>> {
        let engine = engine::foreign(Choice::Auto, cx.console)?;
        let size = params.batch.min(set.len());
        let some = set.first(size.max(VERIFIED / size.max(1) * size));
        let (file, both) = (&self.files.output, (&self.shared, cx));
        match Checked::new(file, &*engine, (&some, held_out), size, both) {
            Ok(checked) => {
                failures.extend(checked.failures());
                Ok(Some(checked))
            }
            Err(error) if ["E0302", "E0303"].contains(&error.code()) => {
                failures.push(format!("the written file could not be checked: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Compares the written file in another engine with the graph in memory in ours.
    fn verify(
        &self,
        graph: &Graph,
        set: &Dataset,
        params: &Params,
        failures: &mut Vec<String>,
        cx: &Context,
    ) -> Result<Value> {
        let engine = engine::foreign(Choice::Auto, cx.console)?;
        let size = params.batch.min(set.len());
        let set = set.first(size.max(VERIFIED / size.max(1) * size));
        let read = engine.load_file(&self.files.output, engine::threads(&self.shared));
        let compared = read.and_then(|mut read| {
            let batches = samples::labelled(&set, size, "verify", &cx.progress);
            compare::compare(&mut Own::new(graph)?, &mut *read, batches)
        });
        let comparison = match compared {
            Err(error) if ["E0302", "E0303"].contains(&error.code()) => {
                failures.push(format!("the written file could not be checked: {error}"));
                return Ok(Value::Null);
            }
            compared => compared?,
        };
        for output in &comparison.outputs {
            if !output.within(TOLERANCE, report::ROUNDING) {
                failures.push(difference(output));
            }
        }
        Ok(json!({ "engine": engine.name(), "comparison": comparison }))
    }
}

/// In what an output of the written file is not what was trained.
fn difference(output: &OutputComparison) -> String {
    let name = &output.name;
    if output.is_void() {
        return format!("`{name}` of the trained model is not finite on any training sample");
    }
    if output.non_finite > 0 {
        let count = output.non_finite;
        return format!("{count} elements of `{name}` are finite in one engine only");
    }
    format!(
        "the written file differs from what was trained by {:.1e} of the range of `{name}`",
        report::relative(output)
    )
}
