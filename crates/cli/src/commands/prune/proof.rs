//! What is checked and measured after the pruned model was written, by an engine that is not ours.

use super::super::engine::{self, Own};
use super::super::latency::{self, Plan, Timed};
use super::super::model::{file_name, unknown};
use super::super::{Context, samples};
use super::PruneArgs;
use crate::console::Console;
use crate::report::{self, Change, Sizes, Weight};
use crate::units;
use lasso_prune::{Budget, Limit};
use serde::Serialize;
use std::time::Duration;
use tensor_core::cost::Resource;
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
    /// Original against pruned on the evaluation samples; absent when no engine here runs them.
    evaluation: Option<Evaluation>,
    /// Original against pruned, by batch size; empty with `--no-bench`.
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

/// Original against pruned.
#[derive(Debug, Serialize)]
struct Evaluation {
    engine: String,
    data: String,
    comparison: Comparison,
}

/// The samples that the result is judged on.
pub(super) fn evaluation_set(
    args: &PruneArgs,
    graph: &Graph,
    calibration: &Dataset,
    console: &Console,
) -> Result<Dataset> {
    let set = match &args.proof.eval_data {
        Some(path) => {
            let set = args.data.open_path(path, args.proof.eval_labels.clone(), graph)?;
            args.data.whole_batches(set, graph, console)?
        }
        // A drop to be asserted is worth every sample there is.
        None if args.proof.assert_max_drop.is_some() => calibration.clone(),
        None => {
            let batch = args.data.batch(graph);
            calibration.subset(JUDGED.next_multiple_of(batch), args.shared.seed)
        }
    };
    if args.proof.assert_max_drop.is_some() && !set.has_labels() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "E0207",
            "`--assert-max-drop` needs labels, and the evaluation samples have none",
        )
        .hint("give them with `--eval-labels PATH` or `--labels PATH`"));
    }
    Ok(set)
}

/// What is to be proved.
pub(super) struct Subject<'a> {
    pub(super) args: &'a PruneArgs,
    /// The pruned model in memory; its file is the output of `args`.
    pub(super) pruned: &'a Graph,
    /// The samples that it is judged on.
    pub(super) set: &'a Dataset,
    /// Samples per forward pass.
    pub(super) batch: usize,
}

/// Checks and measures the written file.
pub(super) fn prove(
    subject: &Subject,
    engine: &dyn Engine,
    sizes: &Change<Sizes>,
    cx: &Context,
) -> Result<Proof> {
    let args = subject.args;
    let unknown = unknown(subject.pruned).len();
    let mut failures = Vec::new();
    let mut written_file = None;
    if unknown > 0 {
        cx.console.warn(&format!(
            "the written file was not compared with what kerf computes, as operators of {} are not \
             implemented",
            counted(unknown, "node")
        ));
    } else if !args.proof.no_verify {
        let written = subject.written(engine, cx);
        let written = match written {
            Err(error) if is_refusal(&error) && subject.refuses_original(engine) => {
                cx.console.warn(&format!("rten checks the written file: {error}"));
                subject.written(&*engine::foreign(Choice::Rten, cx.console)?, cx)
            }
            done => done,
        };
        match written {
            Ok(written) => written_file = Some(written),
            Err(error) if is_refusal(&error) => {
                failures.push(format!("the written file could not be checked: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    let evaluation = match subject.evaluation(engine, cx) {
        Err(error) if is_refusal(&error) && unknown > 0 => {
            cx.console.warn(&format!("original and pruned model were not compared: {error}"));
            None
        }
        Err(error) if is_refusal(&error) => {
            cx.console.warn(&format!("kerf's own executor evaluates instead: {error}"));
            Some(subject.evaluation_by_us(cx)?)
        }
        done => Some(done?),
    };
    let latency = match args.proof.no_bench {
        true => Ok(Vec::new()),
        false => timed(args, subject.pruned, sizes, cx),
    };
    let latency = match latency {
        Err(error) if is_refusal(&error) => {
            cx.console.warn(&format!("latency was not measured: {error}"));
            Vec::new()
        }
        done => done?,
    };
    let mut proof = Proof { written: written_file, evaluation, latency, failures };
    proof.judge(args, sizes);
    Ok(proof)
}

/// Is it the engine that cannot handle a model? Then what was done so far is still worth having.
fn is_refusal(error: &Error) -> bool {
    ["E0302", "E0303"].contains(&error.code())
}

impl Subject<'_> {
    fn written(&self, engine: &dyn Engine, cx: &Context) -> Result<Written> {
        let mut read =
            engine.load_file(&self.args.files.output, engine::threads(&self.args.shared))?;
        // Whole batches, as the model may fix their size.
        let set = self.set.first(self.batch.max(VERIFIED / self.batch * self.batch));
        let batches = samples::labelled(&set, self.batch, "verify", &cx.progress);
        let comparison = compare::compare(&mut Own::new(self.pruned)?, &mut *read, batches)?;
        Ok(Written { engine: engine.name(), comparison })
    }

    /// Does the engine not even take the model that was given? Then its word on the result says
    /// nothing: ONNX Runtime wants different names for all nodes, which ONNX does not.
    fn refuses_original(&self, engine: &dyn Engine) -> bool {
        engine.load_file(&self.args.files.model, 1).is_err_and(|error| is_refusal(&error))
    }

    fn evaluation(&self, engine: &dyn Engine, cx: &Context) -> Result<Evaluation> {
        let threads = engine::threads(&self.args.shared);
        let mut before = engine.load_file(&self.args.files.model, threads)?;
        let mut after = engine.load_file(&self.args.files.output, threads)?;
        self.compared(&mut *before, &mut *after, engine.name(), cx)
    }

    fn evaluation_by_us(&self, cx: &Context) -> Result<Evaluation> {
        let original = onnx::read(&self.args.files.model)?;
        let (mut before, mut after) = (Own::new(&original)?, Own::new(self.pruned)?);
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
        let data = self.args.proof.eval_data.as_deref().unwrap_or(self.args.data.path());
        Ok(Evaluation { engine, data: data.display().to_string(), comparison })
    }
}

fn timed(
    args: &PruneArgs,
    pruned: &Graph,
    sizes: &Change<Sizes>,
    cx: &Context,
) -> Result<Vec<Report>> {
    let models = [
        Timed::read(&file_name(&args.files.model), &args.files.model)?,
        Timed::read(&file_name(&args.files.output), &args.files.output)?,
    ];
    let large = BATCHES.into_iter().find(|&b| sizes.before.macs * b as u64 <= AFFORDABLE);
    let wanted: Vec<usize> = std::iter::once(1).chain(large).collect();
    let plan = Plan {
        engine: Choice::Auto,
        batches: &latency::batches(pruned, &wanted),
        runs: 100,
        limit: Duration::from_secs(10),
    };
    latency::measure(&models, &plan, &args.shared, cx)
}

/// Says so when the model costs more than was asked for.
fn exceeded(budget: &Budget, sizes: &Change<Sizes>) -> Option<String> {
    let (what, before, after) = match budget.resource {
        Resource::Macs => ("MACs", sizes.before.macs, sizes.after.macs),
        Resource::Parameters => ("parameters", sizes.before.parameters, sizes.after.parameters),
        Resource::Bytes => {
            ("bytes of constants", sizes.before.constant_bytes, sizes.after.constant_bytes)
        }
    };
    let limit = match budget.limit {
        Limit::Keep(share) => share * before as f64,
        Limit::AtMost(most) => most,
    };
    // The budget itself may round to a fraction of one.
    (after as f64 > limit + 1.0).then(|| {
        let shown = units::percent_fine(after as f64 / before.max(1) as f64);
        format!("{after} {what} remain ({shown}), more than the {limit:.0} asked for")
    })
}

impl Proof {
    /// Adds the goals that were not met.
    fn judge(&mut self, args: &PruneArgs, sizes: &Change<Sizes>) {
        let failures = &mut self.failures;
        failures.extend(args.budget().and_then(|budget| exceeded(&budget, sizes)));
        for output in self.written.iter().flat_map(|written| &written.comparison.outputs) {
            let difference = report::relative(output);
            // What is not finite is reported with the evaluation.
            if !output.is_void()
                && !output.within(args.proof.tolerance, report::ROUNDING.min(args.proof.tolerance))
            {
                failures.push(format!(
                    "the written file differs from what was made by {difference:.1e} of the range \
                     of `{}`, more than {:.1e}",
                    output.name, args.proof.tolerance
                ));
            }
        }
        for output in self.evaluation.iter().flat_map(|e| &e.comparison.outputs) {
            failures.extend(report::incomparable(output));
        }
        let outputs = self.evaluation.as_ref().map(|e| e.comparison.outputs.as_slice());
        let top1 = outputs.and_then(|outputs| outputs.first()?.top1);
        if args.proof.assert_max_drop.is_some() && top1.is_none() {
            failures.push("the drop of top-1 accuracy could not be measured".to_owned());
        }
        if let (Some(most), Some(top1)) = (args.proof.assert_max_drop, top1)
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
    pub(super) fn text(&self, sizes: &Change<Sizes>) -> String {
        let mut text = String::new();
        if !self.latency.is_empty() {
            let weight = |s: Sizes| Weight { macs: s.macs, file_bytes: s.file_bytes };
            let weights = [weight(sizes.before), weight(sizes.after)];
            text.push_str(&report::latency(&self.latency, &weights));
            text.push('\n');
        }
        if let Some(evaluation) = &self.evaluation {
            text.push_str(&format!(
                "original against pruned on {} ({}), by {}\n{}",
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
        for failure in &self.failures {
            text.push_str(&format!("not met  {failure}\n"));
        }
        text
    }
}
