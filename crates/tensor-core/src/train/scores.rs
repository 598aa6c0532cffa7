//! What of a graph is compared with labels.

use crate::graph::{Graph, Index};
use crate::{Error, Result, ValueId};

/// The value that the loss is taken of: the first output, before a softmax that makes it.
///
/// # Errors
/// `E0405` when the graph has no output.
pub fn scores(graph: &Graph) -> Result<ValueId> {
    let output = graph.outputs.first().copied();
    let output = output.ok_or_else(|| unfit("the model has no output".to_owned()))?;
    let softmax = Index::new(graph).producer(output).map(|id| graph.node(id));
    let softmax = softmax.filter(|node| ["Softmax", "LogSoftmax"].contains(&node.op.as_str()));
    Ok(softmax.and_then(|node| node.input(0)).unwrap_or(output))
}

/// The refusal of a model that is no classifier.
pub(super) fn unfit(message: String) -> Error {
    Error::unsupported(message)
        .code_is("E0405")
        .hint("training needs a classifier, one row of scores per sample")
}
