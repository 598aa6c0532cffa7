//! A pruned model in gradient steps towards the original's responses, without labels (feature `train`).
//!
//! Least squares fits one layer after the other; what the errors of a layer do to those behind it is
//! seen only as far as these can make up for it. Here all layers move together:
//!
//! ```text
//! L = |z - z*|^2 / |z*|^2 + 1/n sum_v |v - v*|^2 / |v*|^2
//! ```
//!
//! with the scores `z` and what layers read, `v`, of the pruned model and, starred, the same channels of
//! the original (the block outputs of Li et al., "BRECQ", 2021, where they are reconstructed for
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
use tensor_core::progress::Progress;
use tensor_core::train::{Job, Length, Optimizer, Params, Schedule, train};
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
    /// Values that are compared beside the scores.
    pub values: usize,
    /// Squared error of the scores before, relative to their mean square, on samples that were not trained on;
    /// on all where there were too few to leave some out.
    pub before: f64,
    /// And after.
    pub after: f64,
    /// Were those samples left out of the training?
    pub is_held_out: bool,
    /// Wall-clock seconds, both measurements included.
    pub seconds: f64,
}

/// Share of the samples on which the error is measured, in place of training on them: one in so many.
const HELD_OUT: usize = 10;

/// Share of the run in which the learning rate rises.
const WARMUP: f64 = 0.1;

/// Fewer samples are all trained on.
const FEW: usize = 50;

/// Trains a pruned model to respond as the original does to samples without labels.
///
/// `shapes` are those of inputs with open dimensions. Deterministic, whatever the number of threads. Where the error on samples that were left out does not
/// fall, the model stays as it was.
///
/// # Errors
/// `E0147` for parameters outside their range; `E0405` when the model has no table of scores; what
/// [`train`] says.
pub fn refine(
    original: &Graph,
    pruned: &Pruned,
    shapes: &BTreeMap<String, Vec<usize>>,
    data: &Dataset,
    params: &RefineParams,
    progress: &dyn Progress,
) -> Result<Refined> {
    params.check()?;
    let start = Instant::now();
    let is_held_out = data.len() >= FEW;
    let shuffled = data.shuffled(params.seed);
    let (trained_on, judged_on) = match is_held_out {
        true => {
            let count = data.len() / HELD_OUT;
            (shuffled.without_first(count), shuffled.first(count))
        }
        false => (shuffled.clone(), shuffled),
    };
    let batch = params.batch.min(trained_on.len());
    let pairs = pairs(original, pruned, shapes)?;
    let values = pairs.len();
    let before = distance(original, &pruned.graph, &judged_on)?;
    let training = Params {
        length: Length::Steps(params.steps),
        batch,
        rate: params.rate,
        schedule: Schedule::Cosine,
        // The first moments of AdamW are those of a few samples.
        warmup: Some(WARMUP),
        optimizer: Optimizer::adam_w(),
        weight_decay: 0.0,
        clip_norm: Some(1.0),
        seed: params.seed,
        ..Params::default()
    };
    let trained = train(Job {
        graph: &pruned.graph,
        data: &trained_on,
        evaluation: None,
        params: &training,
        plugins: &mut [Box::new(Responses::new(original, pairs)?)],
        folder: None,
        identity: serde_json::Map::new(),
        progress,
        group: Group::alone(),
    })?;
    let after = distance(original, &trained.graph, &judged_on)?;
    let (graph, after) = match after < before {
        true => (trained.graph, after),
        false => (pruned.graph.clone(), before),
    };
    let seconds = start.elapsed().as_secs_f64();
    let steps = params.steps;
    let report = RefineReport { steps, batch, values, before, after, is_held_out, seconds };
    Ok(Refined { graph, report })
}
