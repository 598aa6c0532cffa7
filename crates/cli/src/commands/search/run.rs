//! The work of `kerf search`.

use super::args::SearchArgs;
use super::{Found, agent, judged, sensitivity};
use crate::commands::{Context, samples};
use quant_mixed::model::{Prepared, RangeParams};
use quant_mixed::search::{self, Problem, Resource, Samples, Simulator, View};
use std::time::Instant;
use tensor_core::cost::hardware::{self, Layer};
use tensor_core::data::Dataset;
use tensor_core::measure::compare::LabelledBatch;
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Graph, Result, onnx};

/// What counts bytes where no device was named: what becomes of the file.
const FILE_SIZE: &str = "size-onnx";

/// Loads, searches, judges.
pub(super) fn search(args: &SearchArgs, cx: &Context) -> Result<Found> {
    let method = search::solver(&args.method)?;
    if args.episode_steps.is_some() && !matches!(method.view, View::Accuracy) {
        let message = format!("`--method {}` has no episodes to train in", method.name);
        return Err(Error::new(ErrorKind::Invalid, "E0010", message)
            .hint("leave out `--episode-steps`, or take `--method ddpg`"));
    }
    let graph = onnx::read(&args.model)?;
    let shapes = args.shared.shapes();
    let budget = args.budget()?;
    let device = match budget.resource {
        Resource::Size => args.device.open_or(FILE_SIZE)?,
        Resource::Latency | Resource::Energy => args.device.open()?,
    };
    let data = args.data.open(&graph, args.shared.seed)?;
    let shuffled = data.shuffled(args.shared.seed);
    let calibration = shuffled.first(args.calibration as usize);
    let held_out = held_out(args, &graph, &shuffled)?;
    let size = args.data.batch(&graph);
    let batches = samples::arrays(&graph, &calibration, size, &cx.progress)?;
    let params = RangeParams::default();
    let prepared = Prepared::new(&graph, &shapes, &batches, &params, &cx.progress)?;
    let all = hardware::layers(&prepared.graph, &prepared.facts)?;
    let (layers, floats): (Vec<Layer>, Vec<Layer>) =
        all.into_iter().partition(|layer| prepared.layer(&layer.name).is_some());
    let problem = Problem::new(&layers, &floats, &*device, budget, &args.space(budget))?;
    tell_of_floats(&problem, floats.len(), cx);
    if problem.is_interpolated() {
        cx.console.warn("some costs lie between those of other channel counts");
    }
    let judged = judged(&graph, &held_out, size, cx)?;
    let simulator = Simulator::of_problem(&prepared, &problem, judged)?;
    let mut scores = None;
    if held_out.has_labels() {
        scores = Some(simulator.float_score()?);
    } else if matches!(method.view, View::Accuracy) {
        return Err(Error::invalid("this method goes by accuracy, which needs labels")
            .code_is("E0207")
            .hint("give `labels`, or `--method exact`"));
    }
    let begin = Instant::now();
    let (mut measured, mut episodes) = (None, Vec::new());
    let bits = match (method.view, scores) {
        (View::Costs(solve), _) => solve(&problem)?,
        (View::Sensitivities(solve), _) => {
            let few = calibration_samples(&graph, args, &shuffled, size, cx)?;
            let sensitivities =
                sensitivity::measured(args, (&prepared, &problem), few, &batches, cx)?;
            let found = solve(&problem, &sensitivities);
            if let Some(warning) = found.warning {
                cx.console.warn(warning);
            }
            measured = Some(sensitivities);
            found.bits
        }
        (View::Accuracy, Some(float)) => {
            let samples = (&batches[..], &shuffled, size);
            let found = agent::search(args, (&problem, &simulator), samples, float, cx)?;
            episodes = found.episodes;
            found.bits
        }
        (View::Accuracy, None) => return Err(Error::internal("a search without labels")),
    };
    let seconds = begin.elapsed().as_secs_f64();
    let divergence = simulator.divergence(&bits)?;
    let scores = scores.map(|float| Ok::<_, Error>((float, simulator.score(&bits)?)));
    let scores = scores.transpose()?;
    let own = (scores.map(|(_, score)| score), divergence);
    let judged = judged::all(&problem, &simulator, &episodes, (&args.method, &bits), own)?;
    Ok(Found { bits, scores, divergence, seconds, problem, sensitivities: measured, judged })
}

/// Says what layers cost that cannot be quantized.
fn tell_of_floats(problem: &Problem, floats: usize, cx: &Context) {
    if let Some(first) = problem.unpriced().first() {
        cx.console.warn(&format!(
            "{} cannot be quantized, and `{}` has no figures for floats: they cost nothing here, such as \
             `{first}`",
            counted(problem.unpriced().len(), "layer"),
            problem.device()
        ));
    }
    let priced = floats - problem.unpriced().len();
    if priced > 0 {
        cx.console.note(&format!(
            "{} cannot be quantized and cost {} of the budget",
            counted(priced, "layer"),
            problem.limits().resource.show(problem.fixed())
        ));
    }
}

/// Samples that judge allocations: those of `--eval-data`, or those that do not calibrate.
fn held_out(args: &SearchArgs, graph: &Graph, shuffled: &Dataset) -> Result<Dataset> {
    let most = args.eval_samples as usize;
    if let Some(path) = &args.eval_data {
        let set = args.data.open_path(path, args.eval_labels.clone(), graph)?;
        return Ok(set.shuffled(args.shared.seed).first(most));
    }
    if let Some(set) = args.data.open_held_out(graph, args.shared.seed)? {
        return Ok(set.first(most));
    }
    let rest = shuffled.without_first(args.calibration as usize).first(most);
    if rest.is_empty() {
        return Err(Error::invalid("no samples are left to judge allocations")
            .code_is("E0205")
            .hint(
                "give more samples, `--eval-data`, or calibrate on fewer with `--calibration N`",
            ));
    }
    Ok(rest)
}

fn judged(graph: &Graph, set: &Dataset, size: usize, cx: &Context) -> Result<Vec<Samples>> {
    let batches = samples::labelled(set, size, "read samples", &cx.progress);
    let made = batches.map(|batch: Result<LabelledBatch>| {
        let (inputs, labels) = batch?;
        let arrays = samples::in_order(graph, &inputs)?;
        Ok(Samples { inputs: arrays.into_iter().map(|(_, array)| array).collect(), labels })
    });
    made.collect()
}

/// Samples for sensitivities, from those that calibrate.
fn calibration_samples(
    graph: &Graph,
    args: &SearchArgs,
    shuffled: &Dataset,
    size: usize,
    cx: &Context,
) -> Result<Vec<Samples>> {
    judged(graph, &shuffled.first(args.sensitivity_samples as usize), size, cx)
}
