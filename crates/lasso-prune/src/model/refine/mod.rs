//! A pruned model in gradient steps towards the original's responses, without labels (feature `train`).
//!
//! Least squares fits one layer after the other; what the errors of a layer do to those behind it is
//! seen only as far as these can make up for it. Here all layers move together:
//!
//! ```text
//! L = 1/m sum_z |z - z*|^2 / |z*|^2 + 1/n sum_v |v - v*|^2 / |v*|^2
//! ```
//!
//! with the m outputs `z`, the first before its softmax, and what layers read, `v`, of the pruned model and,
//! starred, the same channels of the original (the block outputs of Li et al., "BRECQ", 2021, where they are reconstructed for
//! quantization, all at once).

mod distance;
mod params;
mod responses;

pub use params::RefineParams;

use super::Pruned;
use distance::distance;
use responses::{Responses, pairs};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;
use tensor_core::data::Dataset;
use tensor_core::group::Group;
use tensor_core::progress::{Progress, Silent};
use tensor_core::run::infer;
use tensor_core::train::{Job, Length, Optimizer, Params, Plugin, Schedule, plan, train};
use tensor_core::{Graph, Result};

/// A refined model.
#[derive(Debug, Clone)]
pub struct Refined {
    /// The model, with the nodes of the pruned one.
    pub graph: Graph,
    /// What it cost and gained.
    pub report: RefineReport,
}

/// What refinement cost and gained.
#[derive(Debug, Clone, Serialize)]
pub struct RefineReport {
    /// Optimizer steps.
    pub steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// Values that are compared beside the outputs.
    pub values: usize,
    /// Squared error of the outputs before, relative to their mean square, on the samples that judge.
    pub before: f64,
    /// And after the steps, whether they were kept or not.
    pub after: f64,
    /// Did the error fall? Otherwise the model stays as it was.
    pub is_kept: bool,
    /// Samples that judge.
    pub judges: usize,
    /// Wall-clock seconds, both measurements included.
    pub seconds: f64,
}

/// Share of the run in which the learning rate rises.
const WARMUP: f64 = 0.1;

/// Trains a pruned model to respond as the original does to samples without labels.
///
/// `judge` are samples that neither pruning nor the steps saw: least squares can fit a wide layer to few
/// samples exactly, which says nothing. Where the error on them does not fall, the model stays as it was.
/// `shapes` are those of inputs with open dimensions. Deterministic, whatever the number of threads.
///
/// # Errors
/// `E0147` for parameters outside their range; `E0405` when the first output is no table of scores; `E0401`
/// when the steps diverge; `E0130` when interrupted.
pub fn refine(
    original: &Graph,
    pruned: &Pruned,
    shapes: &BTreeMap<String, Vec<usize>>,
    (data, judge): (&Dataset, &Dataset),
    params: &RefineParams,
    progress: &dyn Progress,
) -> Result<Refined> {
    params.check()?;
    let start = Instant::now();
    let before = distance(original, &pruned.graph, judge)?;
    let pairs = pairs(original, pruned, shapes)?;
    let values = pairs.len();
    let training = training(original, shapes, data, params)?;
    let mut plugins: [Box<dyn Plugin>; 1] = [Box::new(Responses::new(original, pairs)?)];
    let trained = train(job(&pruned.graph, data, &training, &mut plugins, progress))?;
    let after = distance(original, &trained.graph, judge)?;
    let is_kept = after < before;
    let graph = if is_kept { trained.graph } else { pruned.graph.clone() };
    let report = RefineReport {
        steps: params.steps,
        batch: training.batch,
        values,
        before,
        after,
        is_kept,
        judges: judge.len(),
        seconds: start.elapsed().as_secs_f64(),
    };
    Ok(Refined { graph, report })
}

/// What [`refine`] would refuse, known before a model is pruned.
///
/// # Errors
/// As [`refine`], apart from what only the steps can tell.
pub fn check_refine(
    original: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    data: &Dataset,
    params: &RefineParams,
) -> Result<()> {
    params.check()?;
    let training = training(original, shapes, data, params)?;
    let mut plugins: [Box<dyn Plugin>; 1] = [Box::new(Responses::new(original, Vec::new())?)];
    plan(job(original, data, &training, &mut plugins, &Silent)).map(|_| ())
}

fn training(
    original: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    data: &Dataset,
    params: &RefineParams,
) -> Result<Params> {
    Ok(Params {
        length: Length::Steps(params.steps),
        batch: batch(original, shapes, params)?.min(data.len()),
        rate: params.rate,
        schedule: Schedule::Cosine,
        // The first moments of AdamW are those of a few samples.
        warmup: Some(WARMUP),
        optimizer: Optimizer::adam_w(),
        weight_decay: 0.0,
        clip_norm: Some(1.0),
        seed: params.seed,
        ..Params::default()
    })
}

/// Samples whose values, with gradients, fit the memory.
fn batch(
    original: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    params: &RefineParams,
) -> Result<usize> {
    let facts = infer(original, shapes)?;
    let samples = original.inputs.first().and_then(|&input| facts.dims(input)?.first().copied());
    let made = original.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
    let values: usize = made.filter_map(|&value| Some(facts.get(value)?.count())).sum();
    let bytes = 2 * size_of::<f32>() * values / samples.unwrap_or(1).max(1);
    Ok((params.memory / bytes.max(1)).clamp(1, params.batch))
}

fn job<'a>(
    graph: &'a Graph,
    data: &'a Dataset,
    params: &'a Params,
    plugins: &'a mut [Box<dyn Plugin>],
    progress: &'a dyn Progress,
) -> Job<'a> {
    Job {
        graph,
        data,
        evaluation: None,
        params,
        plugins,
        folder: None,
        identity: serde_json::Map::new(),
        progress,
        group: Group::alone(),
    }
}
