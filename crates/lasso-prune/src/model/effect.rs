//! What the error of a layer does to the outputs of the network, without labels.

use rayon::prelude::*;
use tensor_core::calibrate::{Held, Move, Replay};
use tensor_core::graph::Graph;
use tensor_core::progress::{self, Progress};
use tensor_core::rewrite::{self, Edit};
use tensor_core::run::{Array, Facts};
use tensor_core::{NodeId, Result, ValueId};

/// Samples that effects are measured on, spread over the data.
const SAMPLES: usize = 256;

/// A change of some layers, to see what it does to the outputs.
pub(crate) struct Trial {
    /// The first layer that it changes.
    pub(crate) node: NodeId,
    pub(crate) edits: Vec<Edit>,
}

/// Squared error of the network's outputs, relative to their centred energy, when one of
/// the `trials` is made and nothing else changes; one number per trial.
///
/// Only the part of the network behind the first changed layer runs, and only samples of odd blocks count:
/// trials are fitted on even ones.
///
/// None when no output tells: each depends on an unknown operator, is no real number, does not vary
/// or is not finite.
///
/// # Errors
/// When a node fails.
pub(crate) fn effects(
    (graph, facts): (&Graph, &Facts),
    replay: &Replay,
    trials: &[Trial],
    progress: &dyn Progress,
) -> Result<Option<Vec<f64>>> {
    let is_real = |value: &ValueId| facts.get(*value).is_some_and(|fact| fact.element.is_float());
    let outputs: Vec<ValueId> = graph.outputs.iter().copied().filter(is_real).collect();
    if outputs.is_empty() {
        return Ok(None);
    }
    let mut replay = replay.thinned(SAMPLES);
    let mut by_place: Vec<usize> = (0..trials.len()).collect();
    by_place.sort_by_key(|&trial| trials[trial].node);
    let mut expected: Vec<Vec<Array>> = Vec::new();
    let mut effects = vec![0.0; trials.len()];
    progress.stage("effects", trials.len());
    for at in by_place {
        let Trial { node, edits } = &trials[at];
        progress::check(progress)?;
        let wanted: &[ValueId] = if expected.is_empty() { &outputs } else { &[] };
        let step = replay.prepare(graph, facts, *node, wanted)?;
        let (values, held): (Vec<_>, Vec<_>) = run(&replay, &step)?.into_iter().unzip();
        for (batch, held) in held.into_iter().enumerate() {
            replay.advance(&step, batch, held);
        }
        replay.settle(&step);
        if expected.is_empty() {
            expected = values;
        }
        let changed = rewrite::apply(graph, edits)?;
        let step = replay.prepare(&changed, facts, *node, &outputs)?;
        let actual: Vec<_> = run(&replay, &step)?.into_iter().map(|(values, _)| values).collect();
        let pair = (expected.as_slice(), actual.as_slice());
        let Some(effect) = relative_error(&replay, pair, outputs.len())? else { return Ok(None) };
        effects[at] = effect;
        progress.item(graph.key(*node));
    }
    Ok(Some(effects))
}

/// The wanted values of a move, and what the replay may keep, for every batch.
fn run(replay: &Replay, step: &Move) -> Result<Vec<(Vec<Array>, Held)>> {
    (0..replay.batches())
        .into_par_iter()
        .map(|batch| Ok(replay.run(step, batch)?.split()))
        .collect()
}

/// Squared difference over centred energy on odd blocks of samples of all processes, summed over the outputs that
/// vary and are finite; none when no output is.
fn relative_error(
    replay: &Replay,
    (expected, actual): (&[Vec<Array>], &[Vec<Array>]),
    outputs: usize,
) -> Result<Option<f64>> {
    let mut sum = None;
    for output in 0..outputs {
        let (mut count, mut total, mut square, mut error) = (0.0, 0.0, 0.0, 0.0);
        for (batch, (expected, actual)) in expected.iter().zip(actual).enumerate() {
            let (expected, actual) = (&expected[output], &actual[output]);
            let samples = expected.dims().first().copied().unwrap_or(1).max(1);
            let (expected, actual) = (expected.to_f32s()?, actual.to_f32s()?);
            let length = (expected.len() / samples).max(1);
            let pairs = expected.chunks(length).zip(actual.chunks(length)).enumerate();
            for (_, (e, a)) in pairs.filter(|(sample, _)| replay.is_odd(batch, *sample)) {
                for (&e, &a) in e.iter().zip(a) {
                    let (e, a) = (f64::from(e), f64::from(a));
                    count += 1.0;
                    total += e;
                    square += e * e;
                    error += (e - a).powi(2);
                }
            }
        }
        let mut sums = [count, total, square, error];
        replay.group().sum_f64(&mut sums)?;
        let [count, total, square, error] = sums;
        let energy = square - total * total / f64::max(count, 1.0);
        // A sum of squares is positive by rounding even where nothing varies.
        if energy.is_finite() && error.is_finite() && energy > 1e-9 * square {
            sum = Some(sum.unwrap_or(0.0) + error / energy);
        }
    }
    Ok(sum)
}
