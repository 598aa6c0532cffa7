//! From data sets to what engines and the pruning take.

use super::Context;
use super::model::Model;
use crate::args::{DataArgs, Shared, fixed_batch};
use std::ops::Range;
use tensor_core::calibrate::Batches;
use tensor_core::data::Dataset;
use tensor_core::measure::Named;
use tensor_core::measure::compare::LabelledBatch;
use tensor_core::progress::{self, Progress};
use tensor_core::run::Array;
use tensor_core::text::counted;
use tensor_core::{Error, Graph, Result, ValueId, cost};

/// Samples that calibration uses when `--samples` is not given.
const SAMPLES: usize = 1000;

/// The calibration samples, with everything about them that the user should know.
pub(super) fn calibration(
    data: &DataArgs,
    shared: &Shared,
    graph: &Graph,
    cx: &Context,
) -> Result<Dataset> {
    let set = data.open(graph, shared.seed)?;
    for note in set.notes() {
        cx.console.detail(note);
    }
    let set = if data.is_limited() || set.len() <= SAMPLES {
        set
    } else {
        cx.console.note(&format!(
            "calibrating with {SAMPLES} of {}; `--samples N` changes that",
            counted(set.len(), "sample")
        ));
        set.subset(SAMPLES, shared.seed)
    };
    let set = data.whole_batches(set, graph, cx.console)?;
    for warning in set.summary()?.warnings {
        cx.console.warn(&warning);
    }
    Ok(set)
}

/// Samples per forward pass: as many as were asked for, fewer where activations are large. It
/// does not depend on `--memory`, so neither does the result.
pub(super) fn batch(data: &DataArgs, model: &Model) -> Result<usize> {
    /// Bytes of activations that one pass may have alive.
    const ACTIVATIONS: u64 = 32 << 20;
    let asked = data.batch(&model.graph);
    if fixed_batch(&model.graph).is_some() {
        return Ok(asked);
    }
    let first = model.graph.inputs.first().and_then(|&input| model.facts.dims(input));
    let samples = first.and_then(|dims| dims.first()).copied().unwrap_or(1).max(1) as u64;
    let peak = cost::cost(&model.graph, &model.facts)?.peak_activation_bytes / samples;
    let most = usize::try_from(ACTIVATIONS / peak.max(1)).unwrap_or(usize::MAX);
    Ok(asked.min(most.max(1)))
}

/// Batches of a set in order, with progress between them.
pub(super) fn labelled<'a>(
    set: &'a Dataset,
    size: usize,
    stage: &str,
    progress: &'a dyn Progress,
) -> impl Iterator<Item = Result<LabelledBatch>> + 'a {
    progress.stage(stage, set.len().div_ceil(size.max(1)));
    set.batches(size).map(move |batch| {
        progress::check(progress)?;
        let batch = batch?;
        progress.item("batch");
        Ok((batch.inputs, batch.labels))
    })
}

/// All batches of a set as arrays in the order of the graph's inputs.
pub(super) fn arrays(
    graph: &Graph,
    set: &Dataset,
    size: usize,
    progress: &dyn Progress,
) -> Result<Vec<Vec<Array>>> {
    numbered(graph, set, (size, 0..set.len().div_ceil(size.max(1))), progress)
}

/// The same, spread over the processes of the command.
pub(super) fn shared_arrays(
    graph: &Graph,
    set: &Dataset,
    size: usize,
    cx: &Context,
) -> Result<Batches> {
    let own = cx.group.share(set.len().div_ceil(size.max(1)));
    let arrays = numbered(graph, set, (size, own.clone()), &cx.progress)?;
    Batches::shared(arrays, own.start, cx.group.clone())
}

/// Some batches by their numbers.
fn numbered(
    graph: &Graph,
    set: &Dataset,
    (size, numbers): (usize, Range<usize>),
    progress: &dyn Progress,
) -> Result<Vec<Vec<Array>>> {
    let size = size.max(1);
    progress.stage("read samples", numbers.len());
    let mut batches = Vec::new();
    for number in numbers {
        progress::check(progress)?;
        let batch = set.batch(number * size..((number + 1) * size).min(set.len()))?;
        let named = in_order(graph, &batch.inputs)?;
        batches.push(named.into_iter().map(|(_, array)| array).collect());
        progress.item("batch");
    }
    Ok(batches)
}

/// Named tensors as arrays in the order of the graph's inputs.
pub(super) fn in_order(graph: &Graph, inputs: &[Named]) -> Result<Vec<(ValueId, Array)>> {
    let array = |&input: &ValueId| {
        let name = graph.name(input);
        let (_, tensor) = inputs.iter().find(|(other, _)| other == name).ok_or_else(|| {
            Error::invalid(format!("the data feeds no input `{name}`")).code_is("E0205")
        })?;
        let array = match graph.declared(input).and_then(|declared| declared.element) {
            Some(element) => Array::new(tensor.clone(), element)?,
            None => Array::float(tensor.clone()),
        };
        Ok((input, array))
    };
    graph.inputs.iter().map(array).collect()
}
