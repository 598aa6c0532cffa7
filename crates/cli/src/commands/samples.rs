//! From data sets to what engines and the pruning take.

use tensor_core::data::Dataset;
use tensor_core::measure::Named;
use tensor_core::measure::compare::LabelledBatch;
use tensor_core::progress::{self, Progress};
use tensor_core::run::Array;
use tensor_core::{Error, Graph, Result, ValueId};

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
    progress.stage("read samples", set.len().div_ceil(size.max(1)));
    let mut batches = Vec::new();
    for batch in set.batches(size) {
        progress::check(progress)?;
        let named = in_order(graph, &batch?.inputs)?;
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
