//! Finding NaN and infinity among the constants.

use super::{Attribute, Constant, Graph, ValueId};
use crate::ElementType;

impl Constant {
    /// Are all elements finite? True for types without NaN and infinity, and for types that are
    /// not understood.
    pub fn is_finite(&self) -> bool {
        let bytes = self.bytes();
        match self.element() {
            ElementType::F32 => {
                bytes.as_chunks().0.iter().all(|&b| f32::from_le_bytes(b).is_finite())
            }
            ElementType::F64 => {
                bytes.as_chunks().0.iter().all(|&b| f64::from_le_bytes(b).is_finite())
            }
            ElementType::F16 => {
                bytes.as_chunks().0.iter().all(|&b| half::f16::from_le_bytes(b).is_finite())
            }
            ElementType::BF16 => {
                bytes.as_chunks().0.iter().all(|&b| half::bf16::from_le_bytes(b).is_finite())
            }
            _ => true,
        }
    }
}

impl Graph {
    /// Constants that hold NaN or infinity: initializers in file order, then the outputs of
    /// `Constant` nodes in execution order.
    pub fn non_finite(&self) -> Vec<ValueId> {
        let initializers = self
            .initializers()
            .iter()
            .copied()
            .filter(|&value| self.initializer(value).is_some_and(|c| !c.is_finite()));
        let nodes = self
            .nodes
            .iter()
            .filter(|node| node.op == "Constant" && node.domain.is_empty())
            .filter(|node| !node.attributes.iter().all(|(_, value)| is_finite(value)))
            .filter_map(|node| node.output(0));
        initializers.chain(nodes).collect()
    }
}

fn is_finite(attribute: &Attribute) -> bool {
    match attribute {
        Attribute::Float(value) => value.is_finite(),
        Attribute::Floats(values) => values.iter().all(|value| value.is_finite()),
        Attribute::Tensor(constant) => constant.is_finite(),
        _ => true,
    }
}
