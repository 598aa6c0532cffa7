//! What is said about a run.

use super::evaluate::Score;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a run is about to do.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    /// Optimizer steps.
    pub steps: u64,
    /// Steps per pass over the data.
    pub steps_per_epoch: u64,
    /// Number of training samples.
    pub samples: usize,
    /// Trained values.
    pub trained_values: usize,
    /// Names of the parameters that stay.
    pub frozen: Vec<String>,
    /// Layers that have a BatchNormalization during the run, see [`Params::restore_norms`](super::Params::restore_norms).
    pub restored_norms: Vec<String>,
    /// The learning rate at some hundred steps, the first and the last among them.
    pub rates: Vec<Rate>,
}

/// The learning rate of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// The step, from 0.
    pub step: u64,
    /// Its rate.
    pub rate: f64,
}

/// How a run went.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was to be done.
    #[serde(flatten)]
    pub planned: Planned,
    /// The step that the run went on from, when it was interrupted before.
    pub resumed_from: Option<u64>,
    /// All evaluations, those of before an interruption too.
    pub points: Vec<Point>,
    /// The point whose weights were kept; absent without held-out data.
    pub kept: Option<Point>,
    /// Training samples per second of the steps since the start or the resumption; `None` when
    /// there were none.
    pub samples_per_second: Option<f64>,
    /// The processes that shared the batches; absent where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Processes>,
}

/// Processes that shared the batches of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Processes {
    /// How many.
    pub count: usize,
    /// Seconds that the first one was in sums over all of them, waiting for the others included.
    pub seconds_in_sums: f64,
    /// Seconds since the start or the resumption.
    pub seconds: f64,
}

/// What is known after some steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Optimizer steps done.
    pub step: u64,
    /// Mean training loss since the point before, all terms.
    pub train_loss: f64,
    /// Accuracy on the training batches since the point before; `None` without labels.
    pub train_accuracy: Option<f64>,
    /// On the held-out data.
    pub evaluation: Option<Score>,
    /// What the training loss is the sum of, where it has several terms: their weighted means since the
    /// point before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, f64>,
}
