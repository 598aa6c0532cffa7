//! Bits of layers, from how a model stores them.

use serde::Serialize;
use tensor_core::ElementType;
use tensor_core::ValueId;
use tensor_core::graph::{Constant, Graph, Index, Node};

/// Bits of a layer; `None` where it computes in floats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct Bits {
    /// Of its weights.
    pub(in crate::commands) weights: Option<u8>,
    /// Of the activations that it reads.
    pub(in crate::commands) activations: Option<u8>,
}

impl Bits {
    /// `W4 A8`, `W8`, or nothing for floats.
    pub(in crate::commands) fn badge(self) -> String {
        let part = |letter: char, bits: Option<u8>| bits.map(|bits| format!("{letter}{bits}"));
        let parts = [part('W', self.weights), part('A', self.activations)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// The bits of a layer in a graph: of integers behind DequantizeLinear, and of what its operator says.
pub(super) fn of(graph: &Graph, index: &Index, node: &Node) -> Bits {
    if matches!(node.op.as_str(), "QLinearConv" | "QLinearMatMul" | "ConvInteger" | "MatMulInteger")
    {
        return Bits { weights: Some(8), activations: Some(8) };
    }
    let weights = stored(graph, index, node).and_then(|constant| width(constant.element()));
    let activations = node.input(0).and_then(|value| activation(graph, index, value));
    Bits { weights, activations }
}

/// Elements of a layer's weights that are stored as integers.
pub(super) fn weight_count(graph: &Graph, index: &Index, node: &Node) -> Option<u64> {
    stored(graph, index, node).map(|constant| constant.count() as u64)
}

/// Bytes of a layer's weights that are stored as integers.
pub(super) fn weight_bytes(graph: &Graph, index: &Index, node: &Node) -> Option<u64> {
    stored(graph, index, node).map(|constant| constant.bytes().len() as u64)
}

/// The integers that stand for a layer's weights: at most some nodes away, behind what scales them.
fn stored<'a>(graph: &'a Graph, index: &Index, node: &Node) -> Option<&'a Constant> {
    /// Nodes between a weight and its integers: scales, shapes, codebooks.
    const FAR: usize = 6;
    let mut value = node.input(1)?;
    for _ in 0..FAR {
        let producer = graph.node(index.producer(value)?);
        // A codebook is read at the places that the integers say.
        let source = producer.input(if producer.op == "Gather" { 1 } else { 0 })?;
        if let Some(constant) = graph.initializer(source) {
            return width(constant.element()).map(|_| constant);
        }
        value = source;
    }
    None
}

/// The bits of a value that comes through a pair of QuantizeLinear and DequantizeLinear.
fn activation(graph: &Graph, index: &Index, value: ValueId) -> Option<u8> {
    let dequantize = graph.node(index.producer(value)?);
    let quantize = graph.node(index.producer(dequantize.input(0)?)?);
    if dequantize.op != "DequantizeLinear" || quantize.op != "QuantizeLinear" {
        return None;
    }
    let zero = quantize.input(2).and_then(|zero| graph.constant(zero, index));
    // Without a zero point the standard says unsigned bytes.
    zero.map_or(Some(8), |zero| width(zero.element()))
}

fn width(element: ElementType) -> Option<u8> {
    match element {
        ElementType::I8 | ElementType::U8 => Some(8),
        ElementType::I4 | ElementType::U4 => Some(4),
        ElementType::I16 | ElementType::U16 => Some(16),
        _ => None,
    }
}
