//! The work of `kerf search`.

use super::args::SearchArgs;
use super::{Found, agent, judged, sensitivity};
use crate::commands::{Context, provenance, samples};
use quant_mixed::model::{Prepared, RangeParams};
use quant_mixed::search::{self, Problem, Resource, Rest, Samples, Simulator, Solver, View};
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
    check_flags(method, cx)?;
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
    let (all, unknown) = hardware::known_layers(&prepared.graph, &prepared.facts);
    if let Some(error) = unknown.into_iter().find(|error| is_searched(&prepared, error)) {
        return Err(error);
    }
    let uncounted = hardware::weighted_others(&prepared.graph, &all);
    let (layers, floats): (Vec<Layer>, Vec<Layer>) =
        all.into_iter().partition(|layer| prepared.layer(&layer.name).is_some());
    let space = args.space(budget);
    let mut rest = Rest { floats: &floats, cost: 0.0 };
    if device.counts_a_file() {
        let size = |graph| provenance::bytes(graph, args.shared.seed);
        rest.cost = search::bytes_beside(&prepared, (&layers, &floats), &*device, &space, size)?;
    } else if let Some(first) = uncounted.first() {
        cx.console.warn(&format!(
            "{} with weights cost nothing here, such as {}: `{}` has figures for convolutions and matrix \
             products only",
            counted(uncounted.len(), "node"),
            prepared.graph.describe(*first),
            device.name()
        ));
    }
    let problem = Problem::new(&layers, rest, &*device, budget, &space)?;
    tell_of_floats(&problem, floats.len(), cx);
    if problem.is_interpolated() {
        cx.console.warn("some costs lie between those of other channel counts");
    }
    // What was selected for its accuracy is judged on samples that did not select it.
    let (selecting, judging) = match method.view {
        View::Episodes => halves(&held_out)?,
        View::Costs(_) | View::Sensitivities(_) => (None, held_out.clone()),
    };
    let simulator =
        |set: &Dataset| Simulator::of_problem(&prepared, &problem, judged(&graph, set, size, cx)?);
    let selecting = selecting.as_ref().map(simulator).transpose()?;
    let simulator = simulator(&judging)?;
    let float = simulator.float_judgement()?.score;
    let begin = Instant::now();
    let (mut measured, mut episodes) = (None, Vec::new());
    let bits = match method.view {
        View::Costs(solve) => solve(&problem)?,
        View::Sensitivities(solve) => {
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
        View::Episodes => {
            let samples = (&batches[..], &shuffled, size);
            let selecting =
                selecting.as_ref().ok_or_else(|| Error::internal("no samples to select by"))?;
            let float = selecting.float_judgement()?;
            let found = agent::search(args, (&problem, selecting), samples, float, cx)?;
            episodes = found.episodes;
            found.bits
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    let divergence = simulator.divergence(&bits)?;
    let scores = float.map(|float| Ok::<_, Error>((float, simulator.score(&bits)?)));
    let scores = scores.transpose()?;
    let own = (scores.map(|(_, score)| score), divergence);
    let judged = judged::all(&problem, &simulator, &episodes, (&args.method, &bits), own)?;
    Ok(Found { bits, scores, divergence, seconds, problem, sensitivities: measured, judged })
}

/// A flag that would do nothing is a mistake.
fn check_flags(method: &Solver, cx: &Context) -> Result<()> {
    let of_agent = ["episodes", "constraint", "reward", "episode_steps"];
    let of_layers = ["sensitivity", "sensitivity_samples"];
    let (unused, methods): (&[&[&str]], _) = match method.view {
        View::Episodes => (&[&of_layers], "exact` or `--method greedy"),
        View::Sensitivities(_) => (&[&of_agent], "ddpg"),
        View::Costs(_) => (&[&of_agent, &of_layers], "exact` or `--method ddpg"),
    };
    let Some(flag) = unused.iter().copied().flatten().find(|flag| cx.given.contains_key(**flag))
    else {
        return Ok(());
    };
    let flag = flag.replace('_', "-");
    let message = format!("`--method {}` does not use `--{flag}`", method.name);
    Err(Error::new(ErrorKind::Invalid, "E0010", message)
        .hint(format!("leave it out, or take `--method {methods}`")))
}

/// Is it about a layer whose bits would be searched?
fn is_searched(prepared: &Prepared, error: &Error) -> bool {
    let graph = &prepared.graph;
    prepared.layers.iter().any(|layer| error.node() == Some(&*graph.describe(layer.node)))
}

/// One half to select by and one to judge by.
fn halves(set: &Dataset) -> Result<(Option<Dataset>, Dataset)> {
    let half = set.len().div_ceil(2);
    let rest = set.without_first(half);
    if rest.is_empty() {
        return Err(Error::invalid("one sample cannot both select bits and judge them")
            .code_is("E0205")
            .hint("give more samples, or `--eval-data`"));
    }
    Ok((Some(set.first(half)), rest))
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
