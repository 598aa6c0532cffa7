//! Which layers make what a graph gives.

use tensor_core::graph::{Graph, Index};
use tensor_core::{NodeId, ValueId};

/// Operators that work on each channel by itself, or only move channels.
const KEEP_CHANNELS: [&str; 53] = [
    "Abs",
    "Add",
    "ArgMax",
    "ArgMin",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "DepthToSpace",
    "Div",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Flatten",
    "Floor",
    "Gelu",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MaxPool",
    "Max",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "TopK",
    "Transpose",
    "Unsqueeze",
];

/// Are the outputs of a node those of the graph, directly or through elementwise operators, poolings
/// and changes of shape?
pub(crate) fn makes_outputs(graph: &Graph, index: &Index, node: NodeId) -> bool {
    let mut is_seen = vec![false; graph.value_count()];
    let mut open: Vec<ValueId> = graph.node(node).outputs.iter().flatten().copied().collect();
    while let Some(value) = open.pop() {
        if graph.outputs.contains(&value) {
            return true;
        }
        if std::mem::replace(&mut is_seen[value.index()], true) {
            continue;
        }
        for &(reader, input) in index.readers(value) {
            let reader = graph.node(reader);
            let passes = reader.domain.is_empty() && KEEP_CHANNELS.contains(&reader.op.as_str());
            // What is no input of the node itself is read by a branch of it.
            if passes && input < reader.inputs.len() {
                open.extend(reader.outputs.iter().flatten());
            }
        }
    }
    false
}
