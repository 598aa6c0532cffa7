//! What of a graph is compared with labels.

use crate::graph::{Attribute, Graph, Index};
use crate::{Error, Result, ValueId};

/// The value that the loss is taken of: the first output, before a softmax that makes it (and
/// before changes of shape behind the softmax).
///
/// # Errors
/// `E0405` when the graph has no output, or its output is made by a sigmoid or by a softmax over
/// the samples, so that the loss, the cross-entropy of a softmax over classes, does not fit it.
pub fn scores(graph: &Graph) -> Result<ValueId> {
    let output = graph.outputs.first().copied();
    let output = output.ok_or_else(|| unfit("the model has no output".to_owned()))?;
    let index = Index::new(graph);
    let mut value = output;
    while let Some(id) = index.producer(value) {
        let node = graph.node(id);
        let Some(before) = node.input(0).filter(|_| node.domain.is_empty()) else { break };
        match node.op.as_str() {
            "Softmax" | "LogSoftmax" => {
                return match node.attributes.get("axis") {
                    Some(Attribute::Int(0)) => {
                        Err(unfit("the scores are a softmax over the samples".to_owned())
                            .in_node(graph.describe(id)))
                    }
                    _ => Ok(before),
                };
            }
            "Sigmoid" | "HardSigmoid" => {
                return Err(unfit("the scores are made by a sigmoid".to_owned())
                    .in_node(graph.describe(id)));
            }
            "Identity" | "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Dropout" | "Cast" => {
                value = before;
            }
            _ => break,
        }
    }
    Ok(output)
}

/// The refusal of a model that is no classifier.
pub(super) fn unfit(message: String) -> Error {
    Error::unsupported(message)
        .code_is("E0405")
        .hint("training needs a classifier, one row of scores per sample, as they are before a softmax or with one")
}
