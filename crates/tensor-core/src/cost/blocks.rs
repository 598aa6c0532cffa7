//! What runtimes carry out whose convolution kernels work on blocks of channels.

use super::cost;
use crate::Result;
use crate::graph::{Graph, Node};
use crate::run::Facts;

/// Multiply-accumulates with the channels of convolutions filled up to whole blocks, as ONNX
/// Runtime's CPU kernels compute them (its NCHWc layout): the outputs of every convolution, and the
/// inputs of those without groups that read at least one block. Everything else counts as it is.
///
/// # Errors
/// As [`cost`].
pub fn blocked_macs(graph: &Graph, facts: &Facts, block: usize) -> Result<f64> {
    let total = cost(graph, facts)?;
    let rows = graph.nodes.iter().zip(&total.nodes);
    Ok(rows.map(|(node, row)| row.macs as f64 * filling(node, facts, block)).sum())
}

/// Channels computed per channel used, over both sides of a convolution.
fn filling(node: &Node, facts: &Facts, block: usize) -> f64 {
    let dims = node.input(1).and_then(|weight| facts.dims(weight));
    let Some(&[outputs, inputs, ..]) = dims.filter(|_| node.op == "Conv") else { return 1.0 };
    let filled = |channels: usize| match channels {
        0 => 1.0,
        _ => channels.next_multiple_of(block.max(1)) as f64 / channels as f64,
    };
    let has_groups = node.attributes.int("group", 1).is_ok_and(|groups| groups != 1);
    match has_groups || inputs < block {
        true => filled(outputs),
        false => filled(outputs) * filled(inputs),
    }
}
