//! Nodes and values.

use super::{Attributes, Constant, Declared, Opaque};

/// Index of a value in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

/// Index of a node in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

macro_rules! index {
    ($id:ident) => {
        impl $id {
            /// From a position in the graph's list.
            pub fn from_index(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }

            /// Position in the graph's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}
index!(ValueId);
index!(NodeId);

/// A named value: the output of a node, a graph input or an initializer.
#[derive(Debug, Clone)]
pub struct Value {
    pub(super) name: String,
    pub(super) declared: Option<Declared>,
    pub(super) initializer: Option<Constant>,
}

impl Value {
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), declared: None, initializer: None }
    }
}

/// One operator application.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Name; may be empty.
    pub name: String,
    /// Operator type, such as `Conv`.
    pub op: String,
    /// Domain; empty for ONNX's own operators.
    pub domain: String,
    /// Inputs; `None` for an optional input left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs; `None` for an optional output left out.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes.
    pub attributes: Attributes,
    /// Outer values that a sub-graph of this node reads by name.
    pub captures: Vec<ValueId>,
    /// What remains of the `NodeProto`.
    pub opaque: Opaque,
}

impl Node {
    /// A node of the default domain.
    pub fn new(name: &str, op: &str, inputs: &[ValueId], outputs: &[ValueId]) -> Self {
        Self {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: outputs.iter().copied().map(Some).collect(),
            ..Self::default()
        }
    }

    /// Input `i`, when present.
    pub fn input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// Output `i`, when present.
    pub fn output(&self, i: usize) -> Option<ValueId> {
        self.outputs.get(i).copied().flatten()
    }
}
