//! The layers of a model that reconstruction can refit, and the sets of channels they read.

use tensor_core::calibrate::{LinearMap, Place, shortcut};
use tensor_core::channels::{Channels, ClassId};
use tensor_core::graph::{Graph, Index};
use tensor_core::ops::{self, Inputs, NodeCx};
use tensor_core::rewrite::Stored;
use tensor_core::run::Facts;
use tensor_core::{NodeId, Result, ValueId};

/// A convolution or matrix product with a constant weight.
pub(crate) struct Layer {
    pub(crate) node: NodeId,
    pub(crate) input: ValueId,
    pub(crate) output: ValueId,
    /// Position of the data input, and the axis that is summed over.
    pub(crate) data: (usize, usize),
    /// Position of the weight input, and its axis that meets the channels.
    pub(crate) weight: (usize, usize),
    pub(crate) map: Box<dyn LinearMap>,
    /// Class of each position on the contracted axis.
    pub(crate) classes: Vec<ClassId>,
    /// The other operand where the output is only added to an earlier value of the same shape.
    pub(crate) shortcut: Option<ValueId>,
}

/// All layers of a graph in execution order.
pub(crate) fn find_layers(graph: &Graph, facts: &Facts, channels: &Channels) -> Result<Vec<Layer>> {
    let index = Index::new(graph);
    let mut layers = Vec::new();
    for contraction in &channels.contractions {
        let id = contraction.node;
        let cx = NodeCx::new(graph, id);
        let Some(weight) = contraction.weight else { continue };
        let Some(operator) = ops::lookup(&cx.node.domain, &cx.node.op) else { continue };
        let (Some(input), Some(output)) = (cx.node.input(contraction.input), cx.node.output(0))
        else {
            continue;
        };
        // Behind an unknown operator nothing can be sampled.
        if facts.get(input).is_none() || facts.get(output).is_none() {
            continue;
        }
        let floats = Stored::find(graph, &index, id, weight.0).is_some();
        let inputs = cx.node.inputs.iter().map(|v| v.and_then(|v| facts.get(v))).collect();
        let map = operator.linear(&cx, &Inputs::new(inputs)).map_err(|error| cx.locate(error))?;
        let Some(map) = map.filter(|_| floats) else { continue };
        let classes = channels.positions(input, contraction.axis).unwrap_or_default().to_vec();
        if classes.len() != map.shape().channels {
            continue;
        }
        layers.push(Layer {
            node: id,
            input,
            output,
            data: (contraction.input, contraction.axis),
            weight,
            map,
            classes,
            shortcut: shortcut(graph, facts, &index, id, output),
        });
    }
    layers.extend(depthwise_layers(graph, facts, channels, &index)?);
    layers.sort_by_key(|layer| layer.node);
    Ok(layers)
}

/// The depthwise convolutions. They sum over no channels, so nobody chooses channels for them, but
/// their weights can make up for a part of what the layers before them lost.
fn depthwise_layers(
    graph: &Graph,
    facts: &Facts,
    channels: &Channels,
    index: &Index,
) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    for id in graph.node_ids() {
        let cx = NodeCx::new(graph, id);
        if cx.node.op != "Conv" || channels.contractions.iter().any(|c| c.node == id) {
            continue;
        }
        let Some(operator) = ops::lookup(&cx.node.domain, &cx.node.op) else { continue };
        let (Some(input), Some(output)) = (cx.node.input(0), cx.node.output(0)) else { continue };
        if facts.get(input).is_none() || facts.get(output).is_none() {
            continue;
        }
        let inputs = cx.node.inputs.iter().map(|v| v.and_then(|v| facts.get(v))).collect();
        let map = operator.linear(&cx, &Inputs::new(inputs)).map_err(|error| cx.locate(error))?;
        let is_stored = Stored::find(graph, index, id, 1).is_some();
        let Some(map) = map.filter(|_| is_stored) else { continue };
        let classes = channels.positions(input, 1).unwrap_or_default().to_vec();
        let shape = map.shape();
        if shape.groups != shape.channels || classes.len() != shape.channels {
            continue;
        }
        layers.push(Layer {
            node: id,
            input,
            output,
            data: (0, 1),
            weight: (1, 1),
            map,
            classes,
            shortcut: shortcut(graph, facts, index, id, output),
        });
    }
    Ok(layers)
}

impl Layer {
    /// Where its statistics are collected.
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            node: self.node,
            input: self.input,
            output: self.output,
            map: &*self.map,
            shortcut: self.shortcut,
        }
    }

    /// For each convolution group, the columns that each of the given classes owns.
    pub(crate) fn blocks(&self, classes: &[ClassId]) -> Vec<Vec<Vec<usize>>> {
        let shape = self.map.shape();
        let mut blocks = vec![vec![Vec::new(); classes.len()]; shape.groups];
        for (channel, class) in self.classes.iter().enumerate() {
            if let Some(i) = classes.iter().position(|other| other == class) {
                let (group, place) = shape.place(channel);
                let first = place * shape.taps;
                blocks[group][i].extend(first..first + shape.taps);
            }
        }
        blocks
    }
}
