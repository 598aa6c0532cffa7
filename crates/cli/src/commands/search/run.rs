//! The work of `kerf search`.

use super::args::{MeasureArg, SearchArgs};
use super::{Found, judged};
use crate::commands::{Context, samples};
use crate::input;
use quant_mixed::model::{Prepared, RangeParams};
use quant_mixed::search::{
    self, Bits, LayerSensitivity, Problem, Resource, Samples, Score, Sensitivities, ShortTraining,
    Simulator, View, ddpg, hessian,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;
use tensor_core::cost::hardware::{self, Layer};
use tensor_core::data::Dataset;
use tensor_core::journal::{Identity, Journal};
use tensor_core::measure::compare::LabelledBatch;
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Graph, Result, onnx};

/// What counts bytes where no device was named: what becomes of the file.
const FILE_SIZE: &str = "size-onnx";

/// Samples, gradients and vectors of a trace: enough for the order of layers.
const TRACE_BATCH: usize = 32;
const TRACE_DRAWS: usize = 8;

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
            let sensitivities = sensitivities(args, &prepared, &problem, few, &batches, cx)?;
            let found = solve(&problem, &sensitivities);
            if let Some(warning) = found.warning {
                cx.console.warn(warning);
            }
            measured = Some(sensitivities);
            found.bits
        }
        (View::Accuracy, Some(float)) => {
            let trained = args.episode_steps.map(|steps| (steps, training(args, &shuffled)));
            let mut score = |bits: &[Bits]| match &trained {
                Some((steps, data)) => ShortTraining {
                    simulator: &simulator,
                    calibration: &batches,
                    data,
                    steps: *steps,
                    batch: size,
                    seed: args.shared.seed,
                }
                .score(bits),
                None => simulator.score(bits),
            };
            let found = agent(args, &problem, &mut score, float, cx)?;
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

/// Samples that neither calibrate nor judge; those that calibrate where no others are left.
fn training(args: &SearchArgs, shuffled: &Dataset) -> Dataset {
    let calibration = args.calibration as usize;
    let is_apart = args.eval_data.is_some() || args.data.is_held_out();
    let judging = if is_apart { 0 } else { args.eval_samples as usize };
    let rest = shuffled.without_first(calibration + judging);
    if rest.is_empty() { shuffled.first(calibration) } else { rest }
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

/// Measured, or read from the run folder when they are of the same model and samples.
fn sensitivities(
    args: &SearchArgs,
    prepared: &Prepared,
    problem: &Problem,
    samples: Vec<Samples>,
    batches: &[Vec<tensor_core::run::Array>],
    cx: &Context,
) -> Result<Sensitivities> {
    let names: Vec<&str> = (0..problem.len()).map(|layer| problem.name(layer)).collect();
    let min_bits = problem.params().min_bits;
    let measure = format!(
        "divergence on {} samples of {} prepared as {} with shapes {:?} at seed {}, {} for ranges, from \
         {min_bits} bits, model {}",
        args.sensitivity_samples,
        input::fingerprint(args.data.path())?,
        args.data.preparation()?,
        args.shared.shapes(),
        args.shared.seed,
        args.calibration,
        input::sha256(&args.model)?
    );
    let path = args.run.as_ref().map(|folder| folder.join("sensitivity.json"));
    let mut known = None;
    if let Some(path) = &path {
        known = Sensitivities::read(path, &measure, &names)?;
    }
    let measured = match known {
        Some(known) => known,
        None => {
            let simulator = Simulator::new(prepared, &names, samples)?;
            let mut divergence = |bits: &[Bits]| simulator.divergence(bits);
            match (&path, &args.run) {
                (Some(path), Some(folder)) => {
                    let what = (&names[..], min_bits, measure.as_str());
                    let partly = folder.join("sensitivity");
                    let measured = layer_by_layer(what, &partly, &mut divergence, cx)?;
                    measured.write(path)?;
                    std::fs::remove_dir_all(&partly).map_err(|error| Error::io(&partly, &error))?;
                    measured
                }
                _ => Sensitivities::measure(
                    &names,
                    min_bits,
                    &measure,
                    &mut divergence,
                    &cx.progress,
                )?,
            }
        }
    };
    if args.sensitivity == MeasureArg::Outputs {
        return Ok(measured);
    }
    let few: Vec<_> =
        batches.iter().take(1.max(TRACE_BATCH / batch_len(batches))).cloned().collect();
    let seed = args.shared.seed;
    let traces = hessian::mean_traces(prepared, &names, &few, TRACE_DRAWS, seed, &cx.progress)?;
    hessian::replace(&measured, prepared, &traces, min_bits)
}

/// Measures what the journal of a folder does not hold yet.
fn layer_by_layer(
    (names, min_bits, measure): (&[&str], u32, &str),
    folder: &Path,
    divergence: &mut dyn FnMut(&[Bits]) -> Result<f64>,
    cx: &Context,
) -> Result<Sensitivities> {
    let mut identity = Identity::new();
    identity.insert("measure".to_owned(), json!(measure));
    identity.insert("layers".to_owned(), json!(names));
    let (mut journal, entries) = Journal::open(folder, "sensitivity", &identity)?;
    let known = entries.iter().map(LayerSensitivity::from_json).collect::<Result<Vec<_>>>()?;
    if !known.is_empty() {
        cx.console.note(&format!("goes on behind {}", counted(known.len(), "measured layer")));
    }
    let mut after = |layer: &LayerSensitivity| journal.append(&json!(layer));
    let what = (names, min_bits, measure);
    Sensitivities::resume(what, known, divergence, &mut after, &cx.progress)
}

fn batch_len(batches: &[Vec<tensor_core::run::Array>]) -> usize {
    let first = batches.first().and_then(|batch| batch.first());
    first.and_then(|array| array.dims().first().copied()).unwrap_or(1).max(1)
}

/// The agent's search, which goes on with the episodes of its run folder.
fn agent(
    args: &SearchArgs,
    problem: &Problem,
    score: &mut dyn FnMut(&[Bits]) -> Result<Score>,
    float: Score,
    cx: &Context,
) -> Result<ddpg::Found> {
    let params = args.ddpg();
    let Some(folder) = &args.run else {
        let mut ignore = |_: &ddpg::Episode| Ok(());
        return ddpg::search(problem, &params, float, &[], score, &mut ignore, &cx.progress);
    };
    let (mut journal, entries) = Journal::open(folder, "search", &identity(args, problem, float)?)?;
    let known = entries.iter().map(read_score).collect::<Result<Vec<Score>>>()?;
    let mut write = |episode: &ddpg::Episode| journal.append(&json!(episode));
    ddpg::search(problem, &params, float, &known, score, &mut write, &cx.progress)
}

fn read_score(entry: &Value) -> Result<Score> {
    let number = |name: &str| entry["score"][name].as_u64();
    match (number("right"), number("of")) {
        (Some(right), Some(of)) => Ok(Score { right, of }),
        _ => Err(Error::invalid("an episode of the journal has no score").code_is("E0404")),
    }
}

/// Everything that determines the episodes; their number only says where they end.
fn identity(args: &SearchArgs, problem: &Problem, float: Score) -> Result<Identity> {
    let mut identity = Identity::new();
    let mut add = |name: &str, value: Value| identity.insert(name.to_owned(), value);
    add("kerf", json!(env!("CARGO_PKG_VERSION")));
    add("model", json!(input::sha256(&args.model)?));
    add("data", json!(input::fingerprint(args.data.path())?));
    let eval_data = args.eval_data.as_deref().map(input::fingerprint).transpose()?;
    add("eval_data", json!(eval_data));
    add("samples", json!([args.calibration, args.eval_samples]));
    add("episode_steps", json!(args.episode_steps));
    add("preparation", args.data.preparation()?);
    add("shapes", json!(args.shared.shapes()));
    add("float", json!(float));
    add("device", json!(problem.device()));
    add("budget", json!(problem.limits()));
    add("full", json!(problem.full()));
    add("space", json!(problem.params()));
    let params = ddpg::DdpgParams { episodes: 0, ..args.ddpg() };
    add("agent", json!(params));
    Ok(identity)
}
