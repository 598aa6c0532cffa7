//! Raising the operator set of a model.

use tensor_core::graph::{Graph, Node};
use tensor_core::{Constant, Error, Result};

/// Oldest operator set that is raised; what came before differs in too much.
const OLDEST: i64 = 11;

/// First IR version that has an operator set.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        _ => 10,
    }
}

/// What became of an operator in a later set.
enum Change {
    /// Its attribute `axes` became the second input.
    Axes,
    /// Its default axis became the last one, and it no longer flattens the axes behind.
    LastAxis,
    /// Something that is not converted here.
    Other,
}

/// The operators whose meaning changed, with the first set in which it did.
fn change(op: &str) -> Option<(i64, Change)> {
    Some(match op {
        "Squeeze" | "Unsqueeze" | "ReduceSum" => (13, Change::Axes),
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax"
        | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSumSquare" => (18, Change::Axes),
        "Softmax" | "LogSoftmax" | "Hardmax" => (13, Change::LastAxis),
        "Dropout" => (12, Change::Other),
        "Split" | "Celu" => (18, Change::Other),
        "BatchNormalization" => (15, Change::Other),
        "GridSample" => (20, Change::Other),
        "GroupNormalization" => (21, Change::Other),
        _ => return None,
    })
}

/// Raises the default operator set to `opset` where it is lower, and the IR version with it.
///
/// # Errors
/// `E0505` when a node means something else there that is not converted.
pub(super) fn raise_opset(graph: &mut Graph, opset: i64) -> Result<()> {
    let from = graph.opset();
    if from >= opset {
        return Ok(());
    }
    let refused = |what: String| {
        Error::unsupported(format!("{what}, and quantizing needs operator set {opset}"))
            .code_is("E0505")
            .hint("convert the model first with `onnx.version_converter`")
    };
    if from < OLDEST {
        return Err(refused(format!("the model uses operator set {from}")));
    }
    for id in graph.node_ids() {
        let node = graph.node(id);
        let place = || graph.describe(id);
        if !node.captures.is_empty() || has_graph(node) {
            return Err(refused("a sub-graph is not converted".to_owned()).in_node(place()));
        }
        let Some((since, change)) = change(&node.op).filter(|_| node.domain.is_empty()) else {
            continue;
        };
        if since <= from || since > opset {
            continue;
        }
        let changed = match change {
            Change::Axes => axes_as_input(graph, id.index())?,
            Change::LastAxis => {
                // Only an axis that is stated as the last one means the same.
                node.attributes.int("axis", 1)? == -1
            }
            Change::Other => is_plain(node),
        };
        if !changed {
            let message = format!("{} is another operator since set {since}", graph.node(id).op);
            return Err(refused(message).in_node(graph.describe(id)));
        }
    }
    graph.opsets.insert(String::new(), opset);
    graph.ir_version = graph.ir_version.max(ir_version(opset));
    Ok(())
}

fn has_graph(node: &Node) -> bool {
    ["If", "Loop", "Scan"].contains(&node.op.as_str())
}

/// Does a node use nothing that changed?
fn is_plain(node: &Node) -> bool {
    match node.op.as_str() {
        "Dropout" => node.attributes.get("ratio").is_none(),
        "BatchNormalization" => node.outputs.iter().flatten().count() == 1,
        _ => false,
    }
}

/// Moves `axes` from the attribute to the second input.
fn axes_as_input(graph: &mut Graph, node: usize) -> Result<bool> {
    let Some(axes) = graph.nodes[node].attributes.ints("axes")?.map(<[i64]>::to_vec) else {
        return Ok(true);
    };
    let name = graph.nodes[node].output(0).map(|value| graph.name(value).to_owned());
    let name = graph.fresh_name(&format!("{}_axes", name.unwrap_or_default()));
    let value = graph.value(&name);
    graph.set_initializer(value, Constant::from_i64s(&[axes.len()], &axes)?);
    let node = &mut graph.nodes[node];
    node.attributes.remove("axes");
    node.inputs.resize(node.inputs.len().max(2), None);
    node.inputs[1] = Some(value);
    Ok(true)
}
