//! Nodes in execution order.

use crate::graph::Graph;
use crate::{Error, NodeId, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Sorts the nodes so that each comes after those it reads from, as close to the file's order as
/// that allows. ONNX wants sorted files, yet runtimes load others.
///
/// # Errors
/// `E0102` names the nodes of a cycle.
pub(super) fn sort(graph: &mut Graph) -> Result<()> {
    let sources = sources(graph);
    if sources.iter().enumerate().all(|(i, from)| from.iter().all(|&source| source < i)) {
        return Ok(());
    }
    let mut readers = vec![Vec::new(); sources.len()];
    for (i, from) in sources.iter().enumerate() {
        for &source in from {
            readers[source].push(i);
        }
    }
    let mut waiting: Vec<usize> = sources.iter().map(Vec::len).collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..sources.len()).filter(|&i| waiting[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(sources.len());
    while let Some(Reverse(next)) = ready.pop() {
        order.push(next);
        for &reader in &readers[next] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    if order.len() < sources.len() {
        return Err(cyclic(graph, &sources, &waiting));
    }
    let mut nodes: Vec<_> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    graph.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
    Ok(())
}

/// For each node, the nodes it reads from, once for each value read.
fn sources(graph: &Graph) -> Vec<Vec<usize>> {
    let mut producer = vec![None; graph.value_count()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for value in node.outputs.iter().flatten() {
            producer[value.index()].get_or_insert(i);
        }
    }
    // That a node writes one of these is another error, which validation reports.
    for value in graph.inputs.iter().chain(&graph.initializers).chain(&graph.sparse) {
        producer[value.index()] = None;
    }
    let read = |node: &crate::Node| {
        let values = node.inputs.iter().flatten().chain(&node.captures);
        values.filter_map(|value| producer[value.index()]).collect()
    };
    graph.nodes.iter().map(read).collect()
}

fn cyclic(graph: &Graph, sources: &[Vec<usize>], waiting: &[usize]) -> Error {
    // Each node that still waits has a source that waits too, so going from source to source
    // must come round.
    let mut path: Vec<usize> = Vec::new();
    let mut is_seen = vec![false; sources.len()];
    let mut next = waiting.iter().position(|&count| count > 0);
    while let Some(node) = next
        && !std::mem::replace(&mut is_seen[node], true)
    {
        path.push(node);
        next = sources[node].iter().copied().find(|&source| waiting[source] > 0);
    }
    let start = path.iter().position(|&node| Some(node) == next).unwrap_or(0);
    // In the direction of the data, from the node found first.
    let cycle: Vec<usize> =
        path[start..].iter().take(1).chain(path[start..].iter().skip(1).rev()).copied().collect();
    let names: Vec<String> =
        cycle.iter().take(8).map(|&node| graph.describe(NodeId::from_index(node))).collect();
    let first = names.first().cloned().unwrap_or_default();
    let more = if cycle.len() > names.len() { " -> ..." } else { "" };
    let message = match cycle.len() {
        1 => "reads its own result".to_owned(),
        count => format!("{count} nodes form a cycle: {}{more} -> {first}", names.join(" -> ")),
    };
    Error::invalid(message)
        .code_is("E0102")
        .in_node(first)
        .hint("a graph must not read its own results; the model was edited or damaged")
}
