//! A model as it is shown: its nodes with channels, bits, groups and costs, and what they read.
//!
//! Nodes that only prepare constants, and the pairs that take a value through integers, are no rows of
//! their own: the layers between them carry their bits.

mod bits;
mod blocks;
mod family;
mod lanes;

pub(super) use bits::Bits;
pub(super) use blocks::{Row, rows};
pub(super) use family::Family;
pub(super) use lanes::{Lanes, lanes};

use super::model::Model;
use std::collections::BTreeMap;
use tensor_core::channels::group_id;
use tensor_core::cost::{self, Cost};
use tensor_core::graph::{Graph, Index, Node};
use tensor_core::run;
use tensor_core::{NodeId, Result, ValueId};

/// The nodes of a model, in execution order.
#[derive(Debug, Clone)]
pub(super) struct Network {
    /// The nodes.
    pub(super) nodes: Vec<Shown>,
    /// What the whole model costs.
    pub(super) cost: Cost,
}

/// One node.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// Its name, or that of its first output.
    pub(super) key: String,
    /// Operator.
    pub(super) op: String,
    /// What kind of operator it is.
    pub(super) family: Family,
    /// Name of what it reads first.
    pub(super) input: String,
    /// Name of its first output.
    pub(super) output: String,
    /// Shape of that output, where it is known.
    pub(super) dims: Option<Vec<usize>>,
    /// Places in [`Network::nodes`] of what it reads.
    pub(super) reads: Vec<usize>,
    /// Channels that it makes, for a layer with weights.
    pub(super) channels: Option<usize>,
    /// The group of these channels.
    pub(super) group: Option<Group>,
    /// Bits of a layer's weights and of what it reads.
    pub(super) bits: Bits,
    /// Is every output made of one input channel?
    pub(super) is_depthwise: bool,
    /// Is its kernel larger than one position?
    pub(super) is_spatial: bool,
    /// Multiply-accumulates.
    pub(super) macs: u64,
    /// Elements of its weights.
    pub(super) parameters: u64,
    /// Bytes of its weights and of what it writes: what it moves at least.
    pub(super) bytes: u64,
}

/// Channels that are cut together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Short name, as `kerf groups` lists it.
    pub(super) id: String,
    /// Why none of them can be removed.
    pub(super) frozen: Option<String>,
}

impl Network {
    /// The nodes of an analysed model.
    ///
    /// # Errors
    /// When costs cannot be counted.
    pub(super) fn of(model: &Model, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Self> {
        let graph = &model.graph;
        let cost = cost::cost(graph, &run::infer_declared(graph, shapes)?)?;
        let index = Index::new(graph);
        let mut place: BTreeMap<ValueId, usize> = BTreeMap::new();
        let mut nodes: Vec<Shown> = Vec::new();
        for (id, row) in graph.node_ids().zip(&cost.nodes) {
            let node = graph.node(id);
            let mut reads: Vec<usize> = node
                .inputs
                .iter()
                .flatten()
                .filter_map(|value| place.get(value))
                .copied()
                .collect();
            reads.dedup();
            let is_input =
                |value: &ValueId| place.contains_key(value) || graph.inputs.contains(value);
            let is_constant =
                !node.inputs.iter().flatten().any(is_input) && !node.outputs.is_empty();
            if is_constant || is_plumbing(node) {
                // What reads the value reads what this node was given.
                if let (Some(&from), false) = (reads.first(), is_constant) {
                    place.extend(node.outputs.iter().flatten().map(|&value| (value, from)));
                } else if !is_constant {
                    hidden_inputs(graph, node, &mut place);
                }
                continue;
            }
            place.extend(node.outputs.iter().flatten().map(|&value| (value, nodes.len())));
            nodes.push(shown(model, &index, id, row, reads));
        }
        // Inputs that go through integers have no place.
        for node in &mut nodes {
            node.reads.retain(|&at| at != NOWHERE);
        }
        Ok(Self { nodes, cost })
    }

    /// The node of a key.
    pub(super) fn find(&self, key: &str) -> Option<&Shown> {
        self.nodes.iter().find(|node| node.key == key)
    }
}

/// The place of a graph input behind a pair of QuantizeLinear and DequantizeLinear.
const NOWHERE: usize = usize::MAX;

fn hidden_inputs(graph: &Graph, node: &Node, place: &mut BTreeMap<ValueId, usize>) {
    let is_known = node
        .inputs
        .iter()
        .flatten()
        .any(|value| graph.inputs.contains(value) || place.get(value) == Some(&NOWHERE));
    if is_known {
        place.extend(node.outputs.iter().flatten().map(|&value| (value, NOWHERE)));
    }
}

fn is_plumbing(node: &Node) -> bool {
    matches!(node.op.as_str(), "QuantizeLinear" | "DequantizeLinear")
}

fn shown(
    model: &Model,
    index: &Index,
    id: NodeId,
    row: &cost::NodeRow,
    reads: Vec<usize>,
) -> Shown {
    let graph = &model.graph;
    let node = graph.node(id);
    let family = Family::of(node);
    let output = node.output(0);
    let dims = output.and_then(|value| model.facts.dims(value)).map(<[usize]>::to_vec);
    let makes = model.channels.contractions.iter().any(|c| c.node == id && c.weight.is_some());
    let is_layer = makes || matches!(family, Family::Convolution | Family::Product);
    let weight = node.input(1).and_then(|value| model.facts.dims(value)).unwrap_or_default();
    let is_convolution = family == Family::Convolution && weight.len() > 2;
    let axis = if is_convolution { 1 } else { dims.as_ref().map_or(0, |d| d.len().max(1) - 1) };
    let is_grouped = node.attributes.int("group", 1).is_ok_and(|groups| groups > 1);
    let weight_bits = bits::of(graph, index, node);
    Shown {
        key: row.key.clone(),
        op: node.op.clone(),
        family,
        input: node.input(0).map(|value| graph.name(value).to_owned()).unwrap_or_default(),
        output: output.map(|value| graph.name(value).to_owned()).unwrap_or_default(),
        channels: dims.as_ref().filter(|_| is_layer).and_then(|dims| dims.get(axis).copied()),
        dims,
        reads,
        group: if is_layer { group(model, output) } else { None },
        bits: if is_layer { weight_bits } else { Bits::default() },
        is_depthwise: is_grouped && is_convolution && weight.get(1) == Some(&1),
        is_spatial: is_convolution && weight.iter().skip(2).any(|&size| size > 1),
        macs: row.macs,
        parameters: bits::weight_count(graph, index, node).unwrap_or(row.parameters),
        bytes: bits::weight_bytes(graph, index, node).unwrap_or(row.parameter_bytes)
            + row.activation_bytes,
    }
}

/// The group of the channels that a value carries.
fn group(model: &Model, value: Option<ValueId>) -> Option<Group> {
    let value = value?;
    let rank = model.facts.dims(value)?.len();
    let classes = (0..rank).filter_map(|axis| model.channels.positions(value, axis));
    let index = classes.flatten().find_map(|&class| model.group_of(class))?;
    let frozen = model.channels.groups[index].frozen.clone();
    Some(Group { id: group_id(index), frozen })
}
