//! From data sets to what the executor takes.

use tensor_core::data::{Batch, Dataset};
use tensor_core::progress::{self, Progress};
use tensor_core::run::Array;
use tensor_core::{Error, Graph, Result, ValueId};

/// The arrays of a batch in the order of the graph's inputs.
pub(crate) fn arrays(graph: &Graph, batch: &Batch) -> Result<Vec<Array>> {
    graph.inputs.iter().map(|&input| array(graph, batch, input)).collect()
}

fn array(graph: &Graph, batch: &Batch, input: ValueId) -> Result<Array> {
    let name = graph.name(input);
    let (_, tensor) = batch.inputs.iter().find(|(other, _)| other == name).ok_or_else(|| {
        Error::invalid(format!("the data feeds no input `{name}`")).code_is("E0205")
    })?;
    let element = graph.declared(input).and_then(|declared| declared.element);
    match element {
        Some(element) => Array::new(tensor.clone(), element),
        None => Ok(Array::float(tensor.clone())),
    }
}

/// All batches of a set.
pub(crate) fn batches(
    graph: &Graph,
    set: &Dataset,
    size: usize,
    progress: &dyn Progress,
) -> Result<Vec<Vec<Array>>> {
    progress.stage("read samples", set.len().div_ceil(size.max(1)));
    let mut batches = Vec::new();
    for batch in set.batches(size) {
        progress::check(progress)?;
        batches.push(arrays(graph, &batch?)?);
        progress.item("batch");
    }
    Ok(batches)
}
