//! Accuracy and loss on held-out data.

use super::loss::{check_labels, log_softmax};
use super::scores::unfit;
use super::views::{Views, Watched};
use super::{Mode, Plugin};
use crate::data::{Batch, Dataset};
use crate::graph::Graph;
use crate::group::Group;
use crate::progress::{self, Progress};
use crate::run::{Array, Session};
use crate::{Error, Result, ValueId};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// What an evaluation found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean cross-entropy, without smoothing.
    pub loss: f64,
    /// Share of samples whose class has the highest score; the first of equal ones counts.
    pub accuracy: f64,
    /// Number of samples.
    pub samples: usize,
}

/// Scores as N x classes; axes of length 1 at the end are dropped.
pub(super) fn as_matrix(scores: &Tensor, samples: usize) -> Result<Tensor> {
    match *scores.dims() {
        [n, classes] if n == samples && classes > 0 => Ok(scores.clone()),
        [n, classes, ref rest @ ..] if n == samples && rest.iter().all(|&d| d == 1) => {
            Ok(scores.reshape((n, classes))?)
        }
        _ => Err(unfit(format!(
            "the model's first output has shape {:?} for {samples} samples, not samples x classes",
            scores.dims()
        ))),
    }
}

/// A batch as arrays in the order of the graph's inputs.
pub(super) fn arrays(graph: &Graph, batch: &Batch) -> Result<Vec<Array>> {
    let array = |&input: &ValueId| {
        let name = graph.name(input);
        let found = batch.inputs.iter().find(|(other, _)| other == name);
        let (_, tensor) = found.ok_or_else(|| {
            Error::invalid(format!("the data feed no input `{name}`")).code_is("E0205")
        })?;
        match graph.declared(input).and_then(|declared| declared.element) {
            Some(element) => Array::new(tensor.clone(), element),
            None => Ok(Array::float(tensor.clone())),
        }
    };
    graph.inputs.iter().map(array).collect()
}

/// Evaluates a graph that holds its weights, as `plugins` let it see values; `session` is prepared
/// for its scores. Each process of `group` takes some of the batches, and all get the same.
pub(super) fn evaluate(
    session: &Session,
    graph: &Graph,
    scores: ValueId,
    (set, size, group): (&Dataset, usize, &Group),
    plugins: &mut [Box<dyn Plugin>],
    progress: &dyn Progress,
) -> Result<Score> {
    let watched = Watched::new(graph, plugins)?;
    let (mut loss, mut right, mut stops) = (0.0, 0_usize, false);
    for number in group.share(set.len().div_ceil(size)) {
        if progress.cancelled() {
            stops = true;
            break;
        }
        let start = number * size;
        let batch = set.batch(start..(start + size).min(set.len()))?;
        let inputs: Vec<(ValueId, Array)> =
            graph.inputs.iter().copied().zip(arrays(graph, &batch)?).collect();
        let outputs = if watched.replaces() {
            let mut views = Views::new(graph, &watched, plugins, Mode::Evaluate);
            session.run_for(&inputs, &[scores], &mut views)?
        } else {
            session.fetch(&inputs, &[scores])?
        };
        let labels = batch.labels.unwrap_or_default();
        let rows = outputs.first().map(|array| as_matrix(&array.tensor, labels.len()));
        let rows = rows.ok_or_else(|| Error::internal("no scores"))??;
        check_labels("held-out ", &labels, rows.dim(1)?)?;
        right += correct(&rows, &labels)?;
        let logs = log_softmax(&rows)?.to_vec2::<f32>()?;
        loss -= logs.iter().zip(&labels).map(|(row, &y)| f64::from(row[y as usize])).sum::<f64>();
    }
    let samples = set.len().max(1) as f64;
    // All processes stop when one was asked to.
    let mut sums = [loss, right as f64, f64::from(u8::from(stops))];
    group.sum_f64(&mut sums)?;
    let [loss, right, stopped] = sums.map(|sum| sum / samples);
    if stopped > 0.0 {
        return Err(progress::interrupted());
    }
    Ok(Score { loss, accuracy: right, samples: set.len() })
}

/// Number of samples whose class has the highest score.
pub(super) fn correct(scores: &Tensor, labels: &[u32]) -> Result<usize> {
    let rows = scores.to_vec2::<f32>()?;
    let best = |row: &Vec<f32>| {
        let mut best = 0;
        for (class, &score) in row.iter().enumerate() {
            if score > row[best] {
                best = class;
            }
        }
        best
    };
    Ok(rows.iter().zip(labels).filter(|(row, label)| best(row) == **label as usize).count())
}
