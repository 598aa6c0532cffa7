//! Where the weight of a layer is stored.

use super::Edit;
use crate::graph::{Constant, Graph, Index};
use crate::{ElementType, Error, NodeId, Result, ValueId};

/// A weight or bias: a constant, or one of another float type behind a Cast.
pub struct Stored<'g> {
    /// As it is in the file.
    pub constant: &'g Constant,
    /// The input that reads what is in the file.
    place: (NodeId, usize),
    element: ElementType,
}

impl<'g> Stored<'g> {
    /// The constant that a node's input reads; `None` where it is no float constant that the node
    /// gets as 32-bit floats.
    pub fn find(graph: &'g Graph, index: &Index, node: NodeId, input: usize) -> Option<Self> {
        let value = graph.node(node).input(input)?;
        if let Some(constant) = graph.constant(value, index) {
            let element = constant.element();
            let is_float = element == ElementType::F32;
            return is_float.then_some(Self { constant, place: (node, input), element });
        }
        let cast = index.producer(value)?;
        let stored = cast_input(graph, index, cast)?;
        let constant = graph.constant(stored, index)?;
        // What others read too keeps its values: then the node gets a constant of its own.
        let is_alone = index.readers(value).len() == 1 && !graph.outputs.contains(&value);
        let (place, element) = match is_alone {
            true => ((cast, 0), constant.element()),
            false => ((node, input), ElementType::F32),
        };
        Some(Self { constant, place, element })
    }

    /// As [`find`](Self::find), for a weight that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn required(graph: &'g Graph, index: &Index, node: NodeId, input: usize) -> Result<Self> {
        Self::find(graph, index, node, input)
            .ok_or_else(|| Error::internal("a weight is no constant").in_node(graph.describe(node)))
    }

    /// Stores another constant in its stead, in the same type.
    ///
    /// # Errors
    /// When a value is outside the range of that type.
    pub fn replaced(&self, constant: &Constant) -> Result<Edit> {
        let (node, input) = self.place;
        Ok(Edit::SetInput { node, input, constant: constant.to_element(self.element)? })
    }
}

/// Gives a node another constant input, in the type that the file has for it where it has one.
///
/// # Errors
/// As [`Stored::replaced`].
pub fn set_stored(
    graph: &Graph,
    index: &Index,
    (node, input): (NodeId, usize),
    constant: Constant,
) -> Result<Edit> {
    match Stored::find(graph, index, node, input) {
        Some(stored) => stored.replaced(&constant),
        None => Ok(Edit::SetInput { node, input, constant }),
    }
}

/// What a Cast of floats to 32 bits reads.
fn cast_input(graph: &Graph, index: &Index, cast: NodeId) -> Option<ValueId> {
    let node = graph.node(cast);
    let is_cast = node.op == "Cast" && node.domain.is_empty();
    let to = node.attributes.int("to", 0).ok()?;
    let to_floats =
        i32::try_from(to).is_ok_and(|to| ElementType::from_onnx(to) == ElementType::F32);
    let value = node.input(0).filter(|_| is_cast && to_floats)?;
    graph.constant(value, index)?.element().is_float().then_some(value)
}

/// The values of a weight: what the node reads and, behind a Cast, what the file holds.
pub fn stored_values(graph: &Graph, index: &Index, node: NodeId, input: usize) -> Vec<ValueId> {
    let value = graph.node(node).input(input);
    let cast = value.and_then(|value| index.producer(value));
    let stored = cast.and_then(|cast| cast_input(graph, index, cast));
    value.into_iter().chain(stored).collect()
}
