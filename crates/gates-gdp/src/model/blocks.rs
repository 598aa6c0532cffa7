//! Branches beside a skip path that can go as a whole.

use super::weights::{Weight, weight};
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::channels::{Channels, ClassId, Contraction};
use tensor_core::graph::{Constant, Graph, Index};
use tensor_core::rewrite::Edit;
use tensor_core::run::Facts;
use tensor_core::{ElementType, NodeId, Result, ValueId, rewrite};

/// The end of a branch: a layer, perhaps a normalization, and the sum with the skip path.
struct Branch {
    layer: NodeId,
    norm: Option<NodeId>,
    add: NodeId,
    /// Which input of the sum the branch is.
    input: usize,
    /// The skip path.
    skip: ValueId,
}

/// The branch that ends in a contraction.
fn branch(
    graph: &Graph,
    facts: &Facts,
    index: &Index,
    contraction: &Contraction,
) -> Option<Branch> {
    let layer = contraction.node;
    let node = graph.node(layer);
    if !node.domain.is_empty() || !["Conv", "Gemm"].contains(&node.op.as_str()) {
        return None;
    }
    // What is left of the layer is its bias.
    let is_plain_gemm = node.attributes.float("beta", 1.0).is_ok_and(|beta| beta == 1.0);
    let bias = node.input(2);
    if !is_plain_gemm || bias.is_some_and(|bias| graph.constant(bias, index).is_none()) {
        return None;
    }
    let only_reader = |value: ValueId| match index.readers(value) {
        &[reader] if !graph.outputs.contains(&value) => Some(reader),
        _ => None,
    };
    let mut value = node.output(0)?;
    let (mut reader, mut input) = only_reader(value)?;
    let mut norm = None;
    if graph.node(reader).op == "BatchNormalization" && input == 0 {
        let is_fixed =
            |i| graph.node(reader).input(i).is_some_and(|v| graph.constant(v, index).is_some());
        let extra = graph.node(reader).outputs.iter().skip(1).any(Option::is_some);
        if extra || !(1..5).all(is_fixed) {
            return None;
        }
        norm = Some(reader);
        value = graph.node(reader).output(0)?;
        (reader, input) = only_reader(value)?;
    }
    let add = graph.node(reader);
    let skip = add.input(1_usize.checked_sub(input)?)?;
    let is_sum = add.op == "Add" && add.domain.is_empty();
    let same = facts.dims(skip)? == facts.dims(value)?;
    let varies = facts.get(skip).is_some_and(|fact| !fact.fixed);
    (is_sum && same && varies).then_some(Branch { layer, norm, add: reader, input, skip })
}

/// What a branch without channels gives: the bias of its layer, through the normalization.
fn remainder(graph: &Graph, index: &Index, facts: &Facts, branch: &Branch) -> Result<Vec<f32>> {
    let node = graph.node(branch.layer);
    let axis =
        if node.op == "Conv" { 1 } else { facts_rank(facts, node.output(0)).saturating_sub(1) };
    let channels = node.output(0).and_then(|v| facts.dims(v)).map_or(0, |dims| dims[axis]);
    let constant = |value: Option<ValueId>| {
        value.and_then(|value| graph.constant(value, index)).map(Constant::to_f64s).transpose()
    };
    let mut values = match constant(node.input(2))? {
        Some(bias) if bias.len() == channels => bias,
        Some(bias) if bias.len() == 1 => vec![bias[0]; channels],
        _ => vec![0.0; channels],
    };
    if let Some(norm) = branch.norm {
        let norm = graph.node(norm);
        let epsilon = f64::from(norm.attributes.float("epsilon", 1e-5)?);
        let mut parameters = Vec::new();
        for input in 1..5 {
            parameters.push(constant(norm.input(input))?.unwrap_or_default());
        }
        for (channel, value) in values.iter_mut().enumerate() {
            let of = |i: usize| parameters[i].get(channel).copied().unwrap_or_default();
            *value = (*value - of(2)) / (of(3) + epsilon).sqrt() * of(0) + of(1);
        }
    }
    Ok(values.into_iter().map(|value| value as f32).collect())
}

fn facts_rank(facts: &Facts, value: Option<ValueId>) -> usize {
    value.and_then(|value| facts.dims(value)).map_or(0, <[usize]>::len)
}

/// A graph without one of its branches.
pub(crate) struct Without {
    /// What is left.
    pub(crate) graph: Graph,
    /// Key of the last layer of the branch.
    pub(crate) key: String,
    /// What its last layer and its normalization added: the constant that is left has their place.
    pub(crate) shifts: Vec<ValueId>,
}

/// The graph without the first branch whose last layer reads only channels that `is_dead`, with the
/// constant that it leaves added to the skip path; `None` when there is no such branch.
///
/// # Errors
/// When a constant cannot be read.
pub(crate) fn without_branch(
    graph: &Graph,
    facts: &Facts,
    channels: &Channels,
    is_dead: &dyn Fn(ClassId) -> bool,
) -> Result<Option<Without>> {
    let index = Index::new(graph);
    for contraction in &channels.contractions {
        let Ok(weight) = weight(graph, &index, channels, contraction) else { continue };
        if !weight.classes.iter().all(|&class| is_dead(class)) {
            continue;
        }
        let Some(branch) = branch(graph, facts, &index, contraction) else { continue };
        let rest = remainder(graph, &index, facts, &branch)?;
        let add = graph.node(branch.add);
        let is_output = add.output(0).is_some_and(|value| graph.outputs.contains(&value));
        let dead = dead_ends(graph, &index, &branch).into_iter();
        let mut edits: Vec<Edit> = dead.map(|node| Edit::Remove { node }).collect();
        if rest.iter().all(|&value| value == 0.0) && !is_output {
            edits.push(Edit::Bypass { node: branch.add, with: branch.skip });
        } else {
            let rank = facts_rank(facts, Some(branch.skip));
            let mut dims = vec![1; rank];
            let axis = if graph.node(branch.layer).op == "Conv" { 1 } else { rank - 1 };
            dims[axis] = rest.len();
            let constant = Constant::from_f32s(&dims, &rest)?;
            edits.push(Edit::SetInput { node: branch.add, input: branch.input, constant });
        }
        let key = graph.key(branch.layer).to_owned();
        let norm = branch.norm.map(|norm| graph.node(norm));
        let shifts = [graph.node(branch.layer).input(2), norm.and_then(|norm| norm.input(2))];
        let shifts = shifts.into_iter().flatten().collect();
        return Ok(Some(Without { graph: rewrite::apply(graph, &edits)?, key, shifts }));
    }
    Ok(None)
}

/// A branch that one gate on the weight of its last layer can close.
pub(crate) struct Whole<'a> {
    /// Its last layer.
    pub(crate) layer: NodeId,
    /// The weight of that layer.
    pub(crate) weight: Weight<'a>,
    /// The constants that scale and shift what it gives.
    pub(crate) end: Vec<ValueId>,
    /// Values and constants that are gone without it.
    pub(crate) values: BTreeSet<ValueId>,
}

/// All branches beside skip paths, in the order of the graph. Where both sides of a sum are branches,
/// as in a block with a projection, it is the side of more layers.
pub(crate) fn branches<'a>(graph: &Graph, facts: &Facts, channels: &'a Channels) -> Vec<Whole<'a>> {
    let index = Index::new(graph);
    let mut found: BTreeMap<NodeId, (usize, Whole)> = BTreeMap::new();
    for contraction in &channels.contractions {
        let Ok(weight) = weight(graph, &index, channels, contraction) else { continue };
        let Some(branch) = branch(graph, facts, &index, contraction) else { continue };
        let nodes = dead_ends(graph, &index, &branch);
        if found.get(&branch.add).is_some_and(|(count, _)| *count >= nodes.len()) {
            continue;
        }
        let Some(end) = end(graph, &index, &branch, weight.value) else { continue };
        let is_gone = |value: &ValueId| {
            let of_branch = |node: &NodeId| nodes.contains(node);
            index.producer(*value).as_ref().is_some_and(of_branch)
                || graph.initializer(*value).is_some()
                    && index.readers(*value).iter().all(|(node, _)| of_branch(node))
        };
        let own = nodes.iter().map(|&node| graph.node(node));
        let values = own.flat_map(|node| node.inputs.iter().chain(&node.outputs).flatten());
        let values = values.copied().filter(is_gone).collect();
        let whole = Whole { layer: branch.layer, weight, end, values };
        found.insert(branch.add, (nodes.len(), whole));
    }
    found.into_values().map(|(_, whole)| whole).collect()
}

/// The constants that scale and shift what a branch gives, where no other node reads them.
fn end(graph: &Graph, index: &Index, branch: &Branch, weight: ValueId) -> Option<Vec<ValueId>> {
    let end = match branch.norm {
        Some(norm) => graph.node(norm).inputs.iter().skip(1).take(2).flatten().copied().collect(),
        None => [Some(weight), graph.node(branch.layer).input(2)].into_iter().flatten().collect(),
    };
    let is_own = |value: &ValueId| {
        let is_float = |constant: &Constant| constant.element() == ElementType::F32;
        index.readers(*value).len() == 1
            && !graph.outputs.contains(value)
            && graph.initializer(*value).is_some_and(is_float)
    };
    let end: Vec<ValueId> = end;
    end.iter().all(is_own).then_some(end)
}

/// The nodes that only the branch needs.
fn dead_ends(graph: &Graph, index: &Index, branch: &Branch) -> Vec<NodeId> {
    let mut gone = vec![false; graph.nodes.len()];
    let captured = |value: ValueId| graph.nodes.iter().any(|node| node.captures.contains(&value));
    let mut next: Vec<NodeId> = vec![branch.norm.unwrap_or(branch.layer)];
    while let Some(id) = next.pop() {
        let is_needed = graph.node(id).outputs.iter().flatten().any(|&value| {
            let reads = |&(reader, input): &(NodeId, usize)| {
                !gone[reader.index()] && (reader, input) != (branch.add, branch.input)
            };
            graph.outputs.contains(&value)
                || captured(value)
                || index.readers(value).iter().any(reads)
        });
        if is_needed || gone[id.index()] {
            continue;
        }
        gone[id.index()] = true;
        let inputs = graph.node(id).inputs.iter().flatten();
        next.extend(inputs.filter_map(|&value| index.producer(value)));
    }
    graph.node_ids().filter(|id| gone[id.index()]).collect()
}
