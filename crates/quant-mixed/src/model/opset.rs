//! Raising the operator set of a model.

use tensor_core::graph::{Attribute, Graph, Node};
use tensor_core::{Constant, Error, Result, ValueId};

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
    /// An attribute became the second input.
    Input(&'static str),
    /// Its default axis became the last one, and it no longer flattens the axes behind.
    LastAxis,
    /// It states its number of outputs where it does not state their sizes.
    Outputs,
    /// A share that matters in training only became an input.
    Ratio,
    /// The default of an attribute changed: what it was.
    Default(&'static str, &'static str),
    /// Something that is not converted here.
    Other,
}

/// What changed in the meaning of an operator, with the sets in which it did.
fn changes(op: &str) -> &'static [(i64, Change)] {
    match op {
        "Squeeze" | "Unsqueeze" | "ReduceSum" => &[(13, Change::Input("axes"))],
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax"
        | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSumSquare" => {
            &[(18, Change::Input("axes"))]
        }
        "Softmax" | "LogSoftmax" | "Hardmax" => &[(13, Change::LastAxis)],
        "Dropout" => &[(12, Change::Ratio)],
        "Split" => &[(13, Change::Input("split")), (18, Change::Outputs)],
        "RoiAlign" => {
            &[(16, Change::Default("coordinate_transformation_mode", "output_half_pixel"))]
        }
        "BatchNormalization" => &[(15, Change::Other)],
        "Celu" => &[(18, Change::Other)],
        "GridSample" => &[(20, Change::Other)],
        "GroupNormalization" => &[(21, Change::Other)],
        _ => &[],
    }
}

/// Raises the default operator set to `opset` where it is lower, and the IR version with it. `rank`
/// is that of a value, where it is known.
///
/// # Errors
/// `E0505` when a node means something else there that is not converted.
pub(super) fn raise_opset(
    graph: &mut Graph,
    opset: i64,
    rank: impl Fn(ValueId) -> Option<usize>,
) -> Result<()> {
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
        if !node.domain.is_empty() {
            continue;
        }
        let crossed =
            changes(&node.op).iter().filter(|(since, _)| from < *since && *since <= opset);
        for (since, change) in crossed {
            if !convert(graph, id.index(), change, &rank)? {
                let message =
                    format!("{} is another operator since set {since}", graph.node(id).op);
                return Err(refused(message).in_node(graph.describe(id)));
            }
        }
    }
    graph.opsets.insert(String::new(), opset);
    graph.ir_version = graph.ir_version.max(ir_version(opset));
    Ok(())
}

fn has_graph(node: &Node) -> bool {
    ["If", "Loop", "Scan"].contains(&node.op.as_str())
}

/// Makes a node mean the same after a change; false where that is not known how.
fn convert(
    graph: &mut Graph,
    node: usize,
    change: &Change,
    rank: &impl Fn(ValueId) -> Option<usize>,
) -> Result<bool> {
    match change {
        Change::Input(attribute) => attribute_as_input(graph, node, attribute),
        Change::LastAxis => {
            let axis = graph.nodes[node].attributes.int("axis", 1)?;
            let rank = graph.nodes[node].input(0).and_then(rank);
            // Flattened or not, over the last axis it is the same.
            let is_last = axis == -1 || rank.is_some_and(|rank| axis == rank as i64 - 1);
            if is_last {
                graph.nodes[node].attributes.set("axis", Attribute::Int(-1));
            }
            Ok(is_last)
        }
        Change::Outputs => {
            let node = &mut graph.nodes[node];
            if node.input(1).is_none() {
                let count = node.outputs.len() as i64;
                node.attributes.set("num_outputs", Attribute::Int(count));
            }
            Ok(true)
        }
        Change::Ratio => {
            graph.nodes[node].attributes.remove("ratio");
            Ok(true)
        }
        Change::Default(attribute, before) => {
            let attributes = &mut graph.nodes[node].attributes;
            if attributes.get(attribute).is_none() {
                attributes.set(attribute, Attribute::Bytes(before.as_bytes().to_vec()));
            }
            Ok(true)
        }
        Change::Other => Ok(is_plain(&graph.nodes[node])),
    }
}

/// Does a node use nothing that changed?
fn is_plain(node: &Node) -> bool {
    node.op == "BatchNormalization" && node.outputs.iter().flatten().count() == 1
}

/// Moves a list of integers from an attribute to the second input.
fn attribute_as_input(graph: &mut Graph, node: usize, attribute: &str) -> Result<bool> {
    let Some(list) = graph.nodes[node].attributes.ints(attribute)?.map(<[i64]>::to_vec) else {
        return Ok(true);
    };
    let name = graph.nodes[node].output(0).map(|value| graph.name(value).to_owned());
    let name = graph.fresh_name(&format!("{}_{attribute}", name.unwrap_or_default()));
    let value = graph.value(&name);
    graph.set_initializer(value, Constant::from_i64s(&[list.len()], &list)?);
    let node = &mut graph.nodes[node];
    node.attributes.remove(attribute);
    node.inputs.resize(node.inputs.len().max(2), None);
    node.inputs[1] = Some(value);
    Ok(true)
}
