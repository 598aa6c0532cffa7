//! Ranges of activations, from one run of the calibration data.

use super::sites::Sites;
use crate::Histogram;
use rayon::prelude::*;
use tensor_core::graph::{Dim, Graph};
use tensor_core::progress::{self, Progress};
use tensor_core::run::{Array, Facts, Session};
use tensor_core::{Error, Result, ValueId};

/// Bytes of activations that are held at once.
const MEMORY: usize = 2 << 20;

/// Values that one task counts.
const CHUNK: usize = 1 << 18;

/// One histogram for each class of values with one scale.
pub(super) fn calibrate(
    graph: &Graph,
    facts: &Facts,
    sites: &Sites,
    batches: &[Vec<Array>],
    progress: &dyn Progress,
) -> Result<Vec<Histogram>> {
    let roots: Vec<(ValueId, usize)> = sites
        .classes
        .iter()
        .enumerate()
        .flat_map(|(number, class)| class.roots.iter().map(move |&value| (value, number)))
        .collect();
    if roots.is_empty() {
        return Ok(Vec::new());
    }
    let targets: Vec<ValueId> = roots.iter().map(|(value, _)| *value).collect();
    let session = Session::until(graph, &targets)?;
    let mut histograms = vec![Histogram::new(); sites.classes.len()];
    let take = samples_at_once(graph, facts, &targets);
    progress.stage("calibrate", batches.len());
    for (number, batch) in batches.iter().enumerate() {
        progress::check(progress)?;
        for part in parts(batch, take)? {
            let inputs: Vec<_> = graph.inputs.iter().copied().zip(part).collect();
            let arrays = session.fetch(&inputs, &targets)?;
            for ((value, class), array) in roots.iter().zip(&arrays) {
                let counted = count(array).map_err(|error| {
                    Error::invalid(format!(
                        "`{}` on calibration data: {}",
                        graph.name(*value),
                        error.message()
                    ))
                    .code_is("E0503")
                    .hint("`kerf check` finds weights that are not finite")
                })?;
                histograms[*class].merge(&counted);
            }
        }
        progress.item(&number.to_string());
    }
    Ok(histograms)
}

/// The histogram of an array; merging leaves no trace of the order.
fn count(array: &Array) -> Result<Histogram> {
    let values = array.f32s()?;
    let values: &[f32] = &values;
    values
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut histogram = Histogram::new();
            histogram.push(chunk)?;
            Ok(histogram)
        })
        .try_reduce(Histogram::new, |mut a, b| {
            a.merge(&b);
            Ok(a)
        })
}

/// Samples whose activations fit the memory.
pub(super) fn samples_at_once(graph: &Graph, facts: &Facts, targets: &[ValueId]) -> usize {
    let fact = |value: &ValueId| facts.get(*value);
    let batch = graph.inputs.first().and_then(fact).and_then(|fact| fact.dims.first().copied());
    let bytes: usize = targets.iter().filter_map(fact).map(|fact| fact.count() * 4).sum();
    let take = (MEMORY / (bytes / batch.unwrap_or(1).max(1)).max(1)).max(1);
    // A model of a fixed batch takes nothing else.
    let declared = graph.inputs.iter().filter_map(|&input| graph.declared(input));
    let firsts = declared.filter_map(|declared| declared.dims.as_ref()?.first());
    let fixed = firsts.filter_map(|dim| match dim {
        Dim::Known(size) => Some((*size).max(1)),
        _ => None,
    });
    fixed.max().map_or(take, |fixed| (take / fixed).max(1) * fixed)
}

/// A batch in parts of at most `take` samples. Inputs that do not have the samples on their first
/// axis keep the batch together.
pub(super) fn parts(batch: &[Array], take: usize) -> Result<Vec<Vec<Array>>> {
    let first = |array: &Array| array.dims().first().copied();
    let samples = batch.first().and_then(first).unwrap_or(1);
    if samples <= take || batch.iter().any(|array| first(array) != Some(samples)) {
        return Ok(vec![batch.to_vec()]);
    }
    (0..samples)
        .step_by(take)
        .map(|start| {
            let length = take.min(samples - start);
            batch
                .iter()
                .map(|array| {
                    let tensor = array.tensor.narrow(0, start, length)?.contiguous()?;
                    Array::new(tensor, array.element)
                })
                .collect()
        })
        .collect()
}
