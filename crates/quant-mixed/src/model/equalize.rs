//! Cross-layer equalization: channels between two layers are scaled so that the weights before and
//! behind have equal ranges.

use super::layers::Layer;
use serde::Serialize;
use tensor_core::graph::{Graph, Index};
use tensor_core::rewrite::{self, Edit, Stored};
use tensor_core::{Constant, NodeId, Result};

/// Rounds over all pairs; ranges settle within a few.
const ROUNDS: usize = 20;

/// Change of every factor below which nothing is left to do.
const SETTLED: f32 = 1e-3;

/// Two layers whose channels between them were scaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Equalized {
    /// The layer that writes the channels.
    pub before: String,
    /// The layer that reads them.
    pub behind: String,
}

/// A layer behind which nothing was scaled though another layer follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotEqualized {
    /// The layer that writes the channels.
    pub before: String,
    /// Why.
    pub reason: String,
}

/// What equalization did.
pub(super) struct Equalization {
    pub(super) graph: Graph,
    pub(super) pairs: Vec<Equalized>,
    pub(super) skipped: Vec<NotEqualized>,
}

/// Equalizes every pair of layers between which there are only operators that a positive factor
/// passes through (Nagel et al., "Data-free quantization", 2019, Eq. 11): rectifiers and pooling by
/// maxima. A ReLU6 or Clip bounds every channel alike, so behind one the scaled network would be
/// another function: such pairs are left, and so are channels that anything else reads.
pub(super) fn equalize(graph: &Graph, layers: &[Layer]) -> Result<Equalization> {
    let index = Index::new(graph);
    let mut weights = Vec::new();
    for layer in layers {
        weights.push(Weights::read(graph, &index, layer)?);
    }
    let (mut pairs, mut skipped) = (Vec::new(), Vec::new());
    for (first, layer) in layers.iter().enumerate() {
        match follower(graph, &index, layers, layer) {
            Ok(second) if weights[second].inputs() == layer.outputs() && layer.has_bias => {
                pairs.push((first, second));
            }
            Ok(_) => {}
            Err(None) => {}
            Err(Some(reason)) => {
                skipped.push(NotEqualized { before: layer.key.clone(), reason: reason.to_owned() })
            }
        }
    }
    for _ in 0..ROUNDS {
        let mut most = 0.0_f32;
        for &(first, second) in &pairs {
            most = most.max(scale_pair(&mut weights, first, second));
        }
        if most < SETTLED {
            break;
        }
    }
    let mut edits = Vec::new();
    for (layer, weights) in layers.iter().zip(&weights) {
        if weights.is_scaled {
            let constant = Constant::from_f32s(&layer.dims, &weights.weight)?;
            edits.push(Edit::SetInput { node: layer.node, input: 1, constant });
            if layer.has_bias {
                let constant = Constant::from_f32s(&[weights.bias.len()], &weights.bias)?;
                edits.push(Edit::SetInput { node: layer.node, input: 2, constant });
            }
        }
    }
    let pairs = pairs.into_iter().map(|(first, second)| Equalized {
        before: layers[first].key.clone(),
        behind: layers[second].key.clone(),
    });
    Ok(Equalization { graph: rewrite::apply(graph, &edits)?, pairs: pairs.collect(), skipped })
}

/// The layer that alone reads the channels of another, or why there is none worth a note.
fn follower(
    graph: &Graph,
    index: &Index,
    layers: &[Layer],
    layer: &Layer,
) -> std::result::Result<usize, Option<&'static str>> {
    let mut value = layer.output;
    let mut bounded = false;
    loop {
        let [(reader, 0)] = index.readers(value) else { return Err(None) };
        if graph.outputs.contains(&value) {
            return Err(None);
        }
        if let Some(found) = layers.iter().position(|layer| layer.node == *reader) {
            return if bounded { Err(Some("a clip bounds all channels alike")) } else { Ok(found) };
        }
        let node = graph.node(*reader);
        match (node.op.as_str(), node.domain.is_empty(), node.output(0)) {
            ("Relu" | "MaxPool", true, Some(next)) => value = next,
            ("Clip", true, Some(next)) => (value, bounded) = (next, true),
            _ => return Err(None),
        }
    }
}

/// The constants of a layer, with how they are indexed.
struct Weights {
    weight: Vec<f32>,
    bias: Vec<f32>,
    node: NodeId,
    axis: usize,
    outputs: usize,
    groups: usize,
    /// Inputs of a group.
    inputs: usize,
    taps: usize,
    is_scaled: bool,
}

impl Weights {
    fn read(graph: &Graph, index: &Index, layer: &Layer) -> Result<Self> {
        let weight = Stored::required(graph, index, layer.node, 1)?.constant.to_f32s()?;
        let bias = match layer.has_bias {
            true => Stored::required(graph, index, layer.node, 2)?.constant.to_f32s()?,
            false => Vec::new(),
        };
        let groups = graph.node(layer.node).attributes.int("group", 1)?;
        Ok(Self {
            weight,
            bias,
            node: layer.node,
            axis: layer.axis,
            outputs: layer.outputs(),
            groups: usize::try_from(groups).unwrap_or(1).max(1),
            inputs: layer.dims[1 - layer.axis],
            taps: layer.dims[2..].iter().product(),
            is_scaled: false,
        })
    }

    fn inputs(&self) -> usize {
        self.inputs * self.groups
    }

    /// Output and input channel of each weight.
    fn channels(&self, i: usize) -> (usize, usize) {
        let (outer, inner) = (i / self.taps / self.second(), i / self.taps % self.second());
        let (output, input) = if self.axis == 0 { (outer, inner) } else { (inner, outer) };
        (output, output / (self.outputs / self.groups).max(1) * self.inputs + input)
    }

    fn second(&self) -> usize {
        if self.axis == 0 { self.inputs } else { self.outputs }
    }

    /// Largest magnitude by output or input channel.
    fn ranges(&self, of_outputs: bool) -> Vec<f32> {
        let mut ranges = vec![0.0_f32; if of_outputs { self.outputs } else { self.inputs() }];
        for (i, &weight) in self.weight.iter().enumerate() {
            let (output, input) = self.channels(i);
            let range = &mut ranges[if of_outputs { output } else { input }];
            *range = range.max(weight.abs());
        }
        ranges
    }
}

/// Scales the channels between two layers by `sqrt(r1 / r2)`; gives the largest change.
fn scale_pair(weights: &mut [Weights], first: usize, second: usize) -> f32 {
    if weights[first].node == weights[second].node {
        return 0.0;
    }
    let before = weights[first].ranges(true);
    let behind = weights[second].ranges(false);
    let factors: Vec<f32> = before
        .iter()
        .zip(&behind)
        .map(|(&a, &b)| {
            let factor = (a / b).sqrt();
            if factor.is_normal() && a > 0.0 && b > 0.0 { factor } else { 1.0 }
        })
        .collect();
    let one = &mut weights[first];
    for i in 0..one.weight.len() {
        one.weight[i] /= factors[one.channels(i).0];
    }
    one.bias.iter_mut().zip(&factors).for_each(|(bias, factor)| *bias /= factor);
    one.is_scaled = true;
    let two = &mut weights[second];
    for i in 0..two.weight.len() {
        two.weight[i] *= factors[two.channels(i).1];
    }
    two.is_scaled = true;
    factors.iter().map(|factor| (factor - 1.0).abs()).fold(0.0, f32::max)
}
