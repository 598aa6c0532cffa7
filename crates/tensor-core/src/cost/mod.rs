//! What a model costs: multiply-accumulates, parameters, bytes, activation memory.

mod blocks;
mod grid;
pub mod hardware;
mod price;
mod widths;

pub use blocks::blocked_macs;
pub use price::{Price, layer_latency};
pub use widths::{Resource, Scalable, WidthAxis, WidthCost, WidthTerm};

use crate::graph::{Constant, Graph, Node};
use crate::ops::{self, Inputs, NodeCx};
use crate::run::Facts;
use crate::{NodeId, Result};
use serde::Serialize;

/// Cost of one node at the inferred shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct NodeCost {
    /// Multiply-accumulates of convolutions and matrix products.
    pub macs: u64,
}

/// Cost of one node with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRow {
    /// Index of the node.
    pub index: usize,
    /// Name, or the name of the first output.
    pub key: String,
    /// Operator.
    pub op: String,
    /// Shape of the first output.
    pub output: Vec<usize>,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Elements of the initializers that this node is the first to read.
    pub parameters: u64,
    /// Bytes of those initializers.
    pub parameter_bytes: u64,
    /// Bytes of the outputs.
    pub activation_bytes: u64,
}

/// Cost of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Sum of multiply-accumulates.
    pub macs: u64,
    /// Elements of float constants, and of integers that stand for them behind DequantizeLinear, without
    /// their scales: what training would learn.
    pub parameters: u64,
    /// Bytes of all constants.
    pub parameter_bytes: u64,
    /// Largest sum of bytes of values alive at once, in node order, without constants.
    pub peak_activation_bytes: u64,
    /// One row per node.
    pub nodes: Vec<NodeRow>,
    /// Keys of the nodes whose multiply-accumulates are not in the sum: their operator is not
    /// implemented, or a shape is not known.
    pub uncounted: Vec<String>,
}

/// Adds up the cost of all nodes at the inferred shapes.
///
/// # Errors
/// When a node's attributes are invalid.
pub fn cost(graph: &Graph, facts: &Facts) -> Result<Cost> {
    let mut total = Cost { peak_activation_bytes: peak(graph, facts), ..Cost::default() };
    let mut counted = vec![false; graph.value_count()];
    for id in graph.node_ids() {
        let node = graph.node(id);
        let outputs: Vec<_> =
            node.outputs.iter().flatten().filter_map(|&v| facts.get(v).cloned()).collect();
        let mut row = NodeRow {
            index: id.index(),
            key: graph.key(id).to_owned(),
            op: node.op.clone(),
            output: outputs.first().map(|fact| fact.dims.clone()).unwrap_or_default(),
            macs: node_macs(graph, id, facts, &outputs),
            parameters: 0,
            parameter_bytes: 0,
            activation_bytes: outputs.iter().map(bytes).sum(),
        };
        for (input, value) in node.inputs.iter().enumerate() {
            let Some(value) = *value else { continue };
            if let Some(constant) = graph.initializer(value)
                && !std::mem::replace(&mut counted[value.index()], true)
            {
                add_constant(&mut row, constant, is_parameter(node, input, constant));
            }
        }
        if let Some(crate::graph::Attribute::Tensor(constant)) = node.attributes.get("value")
            && node.op == "Constant"
        {
            add_constant(&mut row, constant, constant.element().is_float());
            row.activation_bytes = 0;
        }
        if outputs.len() < node.outputs.iter().flatten().count()
            || ops::lookup(&node.domain, &node.op).is_none()
        {
            total.uncounted.push(row.key.clone());
        }
        total.macs += row.macs;
        total.parameters += row.parameters;
        total.parameter_bytes += row.parameter_bytes;
        total.nodes.push(row);
    }
    Ok(total)
}

/// Would training learn a constant that a node reads?
fn is_parameter(node: &Node, input: usize, constant: &Constant) -> bool {
    match (node.op.as_str(), input) {
        ("DequantizeLinear", 0) => true,
        ("DequantizeLinear" | "QuantizeLinear", _) => false,
        _ => constant.element().is_float(),
    }
}

fn add_constant(row: &mut NodeRow, constant: &Constant, is_parameter: bool) {
    if is_parameter {
        row.parameters += constant.count() as u64;
    }
    row.parameter_bytes += constant.bytes().len() as u64;
}

fn node_macs(graph: &Graph, id: NodeId, facts: &Facts, outputs: &[crate::run::Fact]) -> u64 {
    let cx = NodeCx::new(graph, id);
    let inputs = cx.node.inputs.iter().map(|value| value.and_then(|v| facts.get(v))).collect();
    match ops::lookup(&cx.node.domain, &cx.node.op) {
        Some(operator) if !outputs.is_empty() => {
            operator.cost(&cx, &Inputs::new(inputs), outputs).macs
        }
        _ => 0,
    }
}

fn bytes(fact: &crate::run::Fact) -> u64 {
    fact.element.bytes(fact.count()).unwrap_or(fact.count()) as u64
}

/// Peak of the bytes alive, freeing each value after its last reader.
fn peak(graph: &Graph, facts: &Facts) -> u64 {
    let mut last = vec![0; graph.value_count()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for value in node.inputs.iter().flatten().chain(&node.captures) {
            last[value.index()] = i;
        }
    }
    for output in &graph.outputs {
        last[output.index()] = usize::MAX;
    }
    // What depends on no input is a constant, however it is written.
    let size = |value: crate::ValueId| facts.get(value).filter(|fact| !fact.fixed).map_or(0, bytes);
    let mut alive: u64 = graph.inputs.iter().map(|&value| size(value)).sum();
    let mut peak = alive;
    for (i, node) in graph.nodes.iter().enumerate() {
        alive += node.outputs.iter().flatten().map(|&value| size(value)).sum::<u64>();
        peak = peak.max(alive);
        let mut ended: Vec<_> = node.inputs.iter().flatten().copied().collect();
        ended.sort_unstable();
        ended.dedup();
        for value in ended {
            if last[value.index()] == i {
                alive = alive.saturating_sub(size(value));
            }
        }
    }
    peak
}
