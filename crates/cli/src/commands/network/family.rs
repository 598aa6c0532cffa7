//! Kinds of operators.

use serde::Serialize;
use tensor_core::graph::Node;
use tensor_core::ops;

/// What kind of operator a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::commands) enum Family {
    /// Convolutions
    Convolution,
    /// Matrix products
    Product,
    /// Normalizations
    Normalization,
    /// Functions of single values
    Activation,
    /// Pooling, reductions and resizing
    Pooling,
    /// Sums and products of values
    Arithmetic,
    /// Shapes, slices, joins
    Movement,
    /// Anything else that is known
    Other,
    /// Operators that are not understood: channels end there
    Unknown,
}

/// Operators by family.
const MEMBERS: [(Family, &[&str]); 7] = [
    (Family::Convolution, &["Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv"]),
    (
        Family::Product,
        &["Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "MatMulNBits", "Attention"],
    ),
    (
        Family::Normalization,
        &[
            "BatchNormalization",
            "InstanceNormalization",
            "LayerNormalization",
            "GroupNormalization",
            "LRN",
            "LpNormalization",
        ],
    ),
    (
        Family::Activation,
        &[
            "Relu",
            "LeakyRelu",
            "PRelu",
            "Sigmoid",
            "HardSigmoid",
            "HardSwish",
            "Tanh",
            "Clip",
            "Elu",
            "Selu",
            "Gelu",
            "Softmax",
            "LogSoftmax",
            "Softplus",
            "Mish",
            "Erf",
            "Dropout",
        ],
    ),
    (
        Family::Pooling,
        &[
            "MaxPool",
            "AveragePool",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "ReduceMean",
            "ReduceMax",
            "ReduceSum",
            "Resize",
            "Upsample",
            "DepthToSpace",
            "SpaceToDepth",
        ],
    ),
    (Family::Arithmetic, &["Add", "Sub", "Mul", "Div", "Sum", "Pow", "Sqrt", "Max", "Min", "Mean"]),
    (
        Family::Movement,
        &[
            "Reshape",
            "Flatten",
            "Transpose",
            "Concat",
            "Split",
            "Slice",
            "Gather",
            "Squeeze",
            "Unsqueeze",
            "Pad",
            "Expand",
            "Tile",
            "Shape",
            "Identity",
            "Cast",
        ],
    ),
];

impl Family {
    /// The family of a node's operator.
    pub(super) fn of(node: &Node) -> Self {
        let op = node.op.as_str();
        match MEMBERS.iter().find(|(_, members)| members.contains(&op)) {
            Some((family, _))
                if node.domain.is_empty() || ops::lookup(&node.domain, op).is_some() =>
            {
                *family
            }
            _ if ops::lookup(&node.domain, op).is_some() => Self::Other,
            _ => Self::Unknown,
        }
    }

    /// Its name for people.
    pub(in crate::commands) fn name(self) -> &'static str {
        match self {
            Self::Convolution => "convolution",
            Self::Product => "matrix product",
            Self::Normalization => "normalization",
            Self::Activation => "activation",
            Self::Pooling => "pooling, resize",
            Self::Arithmetic => "arithmetic",
            Self::Movement => "shape, join",
            Self::Other => "other",
            Self::Unknown => "not understood",
        }
    }
}
