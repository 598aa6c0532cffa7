//! The constants that hold the weights of contractions.

use tensor_core::channels::{Channels, ClassId, Contraction};
use tensor_core::graph::{Graph, Index};
use tensor_core::{ElementType, ValueId};

/// A weight in a constant of its own, and its axis that meets the channels.
#[derive(Debug, Clone)]
pub(crate) struct Weight<'a> {
    pub(crate) value: ValueId,
    pub(crate) axis: usize,
    /// The class at each position of the axis.
    pub(crate) classes: &'a [ClassId],
}

/// The weight that a contraction reads, as it is or transposed; the reason where it cannot be scaled
/// by input channel.
pub(crate) fn weight<'a>(
    graph: &Graph,
    index: &Index,
    channels: &'a Channels,
    contraction: &Contraction,
) -> Result<Weight<'a>, String> {
    let node = graph.describe(contraction.node);
    let Some((input, mut axis)) = contraction.weight else {
        return Err(format!("{node} multiplies two values that depend on the data"));
    };
    let Some(mut value) = graph.node(contraction.node).input(input) else {
        return Err(format!("{node} has no weight"));
    };
    let wanted = channels.positions(value, axis).unwrap_or_default();
    while graph.initializer(value).is_none() {
        let is_alone = index.readers(value).len() == 1;
        let producer = index.producer(value).map(|id| graph.node(id));
        let Some(producer) = producer.filter(|producer| is_alone && producer.op == "Transpose")
        else {
            return Err(format!("the weight of {node} is computed"));
        };
        let permutation = producer.attributes.ints("perm").ok().flatten();
        let rank = graph_rank(channels, value);
        let from = match permutation {
            Some(permutation) => permutation.get(axis).and_then(|&a| usize::try_from(a).ok()),
            None => rank.checked_sub(axis + 1),
        };
        let (Some(from), Some(before)) = (from, producer.input(0)) else {
            return Err(format!("the weight of {node} is computed"));
        };
        (value, axis) = (before, from);
    }
    if index.readers(value).len() != 1 || graph.outputs.contains(&value) {
        return Err(format!("the weight of {node} has other readers too"));
    }
    let is_f32 = graph.initializer(value).is_some_and(|c| c.element() == ElementType::F32);
    match channels.positions(value, axis) {
        Some(classes) if is_f32 && classes == wanted => Ok(Weight { value, axis, classes }),
        _ => Err(format!("the weight of {node} is no list of 32-bit floats by channel")),
    }
}

fn graph_rank(channels: &Channels, value: ValueId) -> usize {
    (0..).take_while(|&axis| channels.axis(value, axis).is_some()).count()
}
