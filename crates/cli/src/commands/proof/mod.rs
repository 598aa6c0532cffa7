//! What is checked and measured after a smaller model was written, by an engine that is not ours.

mod args;

pub(crate) use args::ProofArgs;

use super::engine::{self, Own};
use super::latency::{self, Plan, Timed};
use super::layerwise::{self, Layerwise};
use super::model::{file_name, unknown};
use super::{Context, samples};
use crate::args::{DataArgs, EvaluationArgs, ModelArgs, Shared};
use crate::console::Console;
use crate::report::{self, Change, Sizes, Weight};
use serde::Serialize;
use std::time::Duration;
use tensor_core::data::Dataset;
use tensor_core::measure::compare::{self, Comparison};
use tensor_core::measure::latency::Report;
use tensor_core::measure::{Choice, Engine, Runner};
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Graph, Result, onnx};

/// Samples on which the written file is compared with the graph in memory.
const VERIFIED: usize = 32;

/// Calibration samples that the result is judged on where nothing better is given: they say little,
/// as the weights were fitted on them.
const JUDGED: usize = 128;

/// Batch sizes to time, the largest first that is affordable beside 1.
const BATCHES: [usize; 2] = [64, 16];

/// Most multiply-accumulates of one timed run: some tenths of a second.
const AFFORDABLE: u64 = 10_000_000_000;

/// Everything that is known about the result beyond its size.
#[derive(Debug, Serialize)]
pub(super) struct Proof {
    /// Is the written file what was made? Absent with `--no-verify` and where kerf cannot run it.
    written: Option<Written>,
    /// Are the quantized activations of the written file those of the graph in memory? Absent where
    /// there are none.
    activations: Option<Layerwise>,
    /// Original against result on the evaluation samples; absent when no engine here runs them.
    evaluation: Option<Evaluation>,
    /// Original against result, by batch size; empty where nothing was timed.
    latency: Vec<Report>,
    /// Goals that were not met, in words.
    pub(super) failures: Vec<String>,
}

/// The written file in another engine against the graph in memory in ours.
#[derive(Debug, Serialize)]
struct Written {
    engine: String,
    comparison: Comparison,
}

/// Original against result.
#[derive(Debug, Serialize)]
struct Evaluation {
    engine: String,
    data: String,
    comparison: Comparison,
}

/// What the result is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) data: &'a DataArgs,
    pub(super) evaluation: &'a EvaluationArgs,
    /// Must samples have labels, to assert a drop of accuracy?
    pub(super) asserts_drop: bool,
    pub(super) shared: &'a Shared,
}

impl Judge<'_> {
    /// The samples that the result is judged on.
    pub(super) fn samples(
        &self,
        graph: &Graph,
        calibration: &Dataset,
        console: &Console,
    ) -> Result<Dataset> {
        let apart = match &self.evaluation.eval_data {
            Some(path) => {
                Some(self.data.open_path(path, self.evaluation.eval_labels.clone(), graph)?)
            }
            None => self.data.open_held_out(graph, self.shared.seed)?,
        };
        let set = match apart {
            Some(set) => self.data.whole_batches(set, graph, console)?,
            // A drop to be asserted is worth every sample there is.
            None if self.asserts_drop => calibration.clone(),
            None => {
                let batch = self.data.batch(graph);
                calibration.subset(JUDGED.next_multiple_of(batch), self.shared.seed)
            }
        };
        if self.asserts_drop && !set.has_labels() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "E0207",
                "`--assert-max-drop` needs labels, and the evaluation samples have none",
            )
            .hint("give them with `--eval-labels PATH` or `--labels PATH`"));
        }
        Ok(set)
    }
}

/// What is to be proved.
pub(super) struct Subject<'a> {
    pub(super) judge: Judge<'a>,
    pub(super) proof: &'a ProofArgs,
    pub(super) files: &'a ModelArgs,
    /// The result in memory; its file is the output of `files`.
    pub(super) made: &'a Graph,
    /// The samples that it is judged on.
    pub(super) set: &'a Dataset,
    /// Samples per forward pass.
    pub(super) batch: usize,
    /// What was done to the model, such as `pruned`.
    pub(super) word: &'static str,
}

/// Checks the written file, and times it where sizes are given. `failures` are goals that are known
/// not to be met.
pub(super) fn prove(
    subject: &Subject,
    engine: &dyn Engine,
    timed_sizes: Option<&Change<Sizes>>,
    mut failures: Vec<String>,
    cx: &Context,
) -> Result<Proof> {
    let unknown = unknown(subject.made).len();
    let (mut written_file, mut activations) = (None, None);
    if unknown > 0 {
        cx.console.warn(&format!(
            "the written file was not compared with what kerf computes, as operators of {} are not \
             implemented",
            counted(unknown, "node")
        ));
    } else if !subject.proof.no_verify {
        let written = subject.written(engine, cx);
        let written = match written {
            Err(error) if is_refusal(&error) && subject.refuses_original(engine) => {
                cx.console.warn(&format!("rten checks the written file: {error}"));
                subject.written(&*engine::foreign(Choice::Rten, cx.console)?, cx)
            }
            done => done,
        };
        match written {
            Ok((written, found)) => (written_file, activations) = (Some(written), found),
            Err(error) if is_refusal(&error) => {
                failures.push(format!("the written file could not be checked: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    let evaluation = match subject.evaluation(engine, cx) {
        Err(error) if is_refusal(&error) && unknown > 0 => {
            let word = subject.word;
            cx.console.warn(&format!("original and {word} model were not compared: {error}"));
            None
        }
        Err(error) if is_refusal(&error) => {
            cx.console.warn(&format!("kerf's own executor evaluates instead: {error}"));
            Some(subject.evaluation_by_us(cx)?)
        }
        done => Some(done?),
    };
    let latency = match timed_sizes {
        None => Ok(Vec::new()),
        Some(sizes) => timed(subject, sizes, cx),
    };
    let latency = match latency {
        Err(error) if is_refusal(&error) => {
            cx.console.warn(&format!("latency was not measured: {error}"));
            Vec::new()
        }
        done => done?,
    };
    let mut proof = Proof { written: written_file, activations, evaluation, latency, failures };
    proof.judge(subject.proof);
    Ok(proof)
}

/// Is it the engine that cannot handle a model? Then what was done so far is still worth having.
fn is_refusal(error: &Error) -> bool {
    ["E0302", "E0303"].contains(&error.code())
}

impl Subject<'_> {
    fn written(&self, engine: &dyn Engine, cx: &Context) -> Result<(Written, Option<Layerwise>)> {
        let mut read = engine.load_file(&self.files.output, engine::threads(self.judge.shared))?;
        // Whole batches, as the model may fix their size.
        let set = self.set.first(self.batch.max(VERIFIED / self.batch * self.batch));
        let batches = samples::labelled(&set, self.batch, "verify", &cx.progress);
        let comparison = compare::compare(&mut Own::new(self.made)?, &mut *read, batches)?;
        let written = Written { engine: engine.name(), comparison };
        if !layerwise::is_quantized(self.made) {
            return Ok((written, None));
        }
        let file = onnx::read(&self.files.output)?;
        let batches = samples::labelled(&set, self.batch, "verify layers", &cx.progress);
        let found = layerwise::compare(&file, engine, batches, self.judge.shared)?;
        Ok((written, Some(found)))
    }

    /// Does the engine not even take the model that was given? Then its word on the result says
    /// nothing: ONNX Runtime wants different names for all nodes, which ONNX does not.
    fn refuses_original(&self, engine: &dyn Engine) -> bool {
        engine.load_file(&self.files.model, 1).is_err_and(|error| is_refusal(&error))
    }

    fn evaluation(&self, engine: &dyn Engine, cx: &Context) -> Result<Evaluation> {
        let threads = engine::threads(self.judge.shared);
        let mut before = engine.load_file(&self.files.model, threads)?;
        let mut after = engine.load_file(&self.files.output, threads)?;
        self.compared(&mut *before, &mut *after, engine.name(), cx)
    }

    fn evaluation_by_us(&self, cx: &Context) -> Result<Evaluation> {
        let original = onnx::read(&self.files.model)?;
        let (mut before, mut after) = (Own::new(&original)?, Own::new(self.made)?);
        self.compared(&mut before, &mut after, engine::own_name(), cx)
    }

    fn compared(
        &self,
        before: &mut dyn Runner,
        after: &mut dyn Runner,
        engine: String,
        cx: &Context,
    ) -> Result<Evaluation> {
        let batches = samples::labelled(self.set, self.batch, "evaluate", &cx.progress);
        let comparison = compare::compare(before, after, batches)?;
        let data = match &self.judge.evaluation.eval_data {
            Some(path) => path.display().to_string(),
            None if self.judge.data.is_given() => self.judge.data.path().display().to_string(),
            None => "the samples kept with the statistics".to_owned(),
        };
        Ok(Evaluation { engine, data, comparison })
    }
}

fn timed(subject: &Subject, sizes: &Change<Sizes>, cx: &Context) -> Result<Vec<Report>> {
    let files = subject.files;
    let models = [
        Timed::read(&file_name(&files.model), &files.model)?,
        Timed::read(&file_name(&files.output), &files.output)?,
    ];
    let large = BATCHES.into_iter().find(|&b| sizes.before.macs * b as u64 <= AFFORDABLE);
    let wanted: Vec<usize> = std::iter::once(1).chain(large).collect();
    let plan = Plan {
        engine: Choice::Auto,
        batches: &latency::batches(subject.made, &wanted),
        runs: 100,
        limit: Duration::from_secs(10),
    };
    latency::measure(&models, &plan, subject.judge.shared, cx)
}

impl Proof {
    /// Share of the evaluation samples for which both name the same class.
    pub(super) fn agreement(&self) -> Option<f64> {
        let first = self.evaluation.as_ref()?.comparison.outputs.first()?;
        Some(first.top1?.agreement)
    }

    /// Top-1 accuracy of the original and of the result, where there are labels.
    pub(super) fn accuracy(&self) -> Option<(f64, f64)> {
        let top1 = self.evaluation.as_ref()?.comparison.outputs.first()?.top1?;
        Some((top1.reference_accuracy?, top1.candidate_accuracy?))
    }

    /// Latency of one sample (or the smallest batch that was timed) in microseconds: median of the
    /// original and of the result.
    pub(super) fn single_latency_us(&self) -> Option<(f64, f64)> {
        let [before, after] = self.latency.first()?.models.as_slice() else { return None };
        Some((before.latency_us_p50, after.latency_us_p50))
    }

    /// Original against result, by batch size.
    pub(super) fn latency(&self) -> &[Report] {
        &self.latency
    }

    /// Adds the goals that were not met.
    fn judge(&mut self, args: &ProofArgs) {
        let failures = &mut self.failures;
        // Numbers between two steps fall on either side; what follows from that is no error.
        failures.extend(self.activations.iter().flat_map(Layerwise::failures));
        let exact = self.written.iter().filter(|_| self.activations.is_none());
        for output in exact.flat_map(|written| &written.comparison.outputs) {
            let difference = report::relative(output);
            // What is not finite is reported with the evaluation.
            if !output.is_void()
                && !output.within(args.tolerance, report::ROUNDING.min(args.tolerance))
            {
                failures.push(format!(
                    "the written file differs from what was made by {difference:.1e} of the range \
                     of `{}`, more than {:.1e}",
                    output.name, args.tolerance
                ));
            }
        }
        for output in self.evaluation.iter().flat_map(|e| &e.comparison.outputs) {
            failures.extend(report::incomparable(output));
        }
        let outputs = self.evaluation.as_ref().map(|e| e.comparison.outputs.as_slice());
        let top1 = outputs.and_then(|outputs| outputs.first()?.top1);
        if args.assert_max_drop.is_some() && top1.is_none() {
            failures.push("the drop of top-1 accuracy could not be measured".to_owned());
        }
        if let (Some(most), Some(top1)) = (args.assert_max_drop, top1)
            && let (Some(before), Some(after)) = (top1.reference_accuracy, top1.candidate_accuracy)
            && before - after > most
        {
            failures.push(format!(
                "top-1 accuracy drops by {:.2} points, more than {:.2}",
                (before - after) * 100.0,
                most * 100.0
            ));
        }
    }

    /// For people.
    pub(super) fn text(&self, sizes: &Change<Sizes>, word: &str) -> String {
        let mut text = String::new();
        if !self.latency.is_empty() {
            let weight = |s: Sizes| Weight { macs: s.macs, file_bytes: s.file_bytes };
            let weights = [weight(sizes.before), weight(sizes.after)];
            text.push_str(&report::latency(&self.latency, &weights));
            text.push('\n');
        }
        if let Some(evaluation) = &self.evaluation {
            text.push_str(&format!(
                "original against {word} on {} ({}), by {}\n{}",
                evaluation.data,
                counted(evaluation.comparison.samples, "sample"),
                evaluation.engine,
                report::comparison(&evaluation.comparison),
            ));
        }
        if let Some(written) = &self.written {
            text.push_str(&format!(
                "\nverified  the written file in {} gives what kerf computes, within {} ({})\n",
                written.engine,
                report::distance(&written.comparison),
                counted(written.comparison.samples, "sample")
            ));
        }
        if let Some(activations) = &self.activations {
            text.push_str(&activations.text());
        }
        for failure in &self.failures {
            text.push_str(&format!("not met  {failure}\n"));
        }
        text
    }
}
