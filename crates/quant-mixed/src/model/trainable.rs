//! A quantized model as training goes on from it, and the quantized graph of what was trained.

use super::build::{Built, Numbers, build};
use super::params::QuantizeParams;
use super::prepared::Prepared;
use super::quantize::{Started, start};
use super::rounding::edits;
use super::weights::QuantizedWeight;
use crate::bits::Assignment;
use crate::quantizer::{Affine, Quantizer};
use std::collections::BTreeMap;
use tensor_core::graph::Graph;
use tensor_core::progress::Progress;
use tensor_core::rewrite;
use tensor_core::run::Array;
use tensor_core::train::{prepare, scores};
use tensor_core::{Node, NodeId, Result, ValueId};

/// How far from its integer a weight may begin: nearer than the middle between two of them.
const CELL: f32 = 0.49;

/// A class of activations and its bits: what has a scale.
pub(crate) type ScaleKey = (usize, u8);

/// An activation that is quantized before others read it.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The value, in the graph to train.
    pub(crate) value: String,
    /// What it shares its scale with.
    pub(crate) key: ScaleKey,
    /// Its grid after calibration.
    pub(crate) grid: Affine,
    /// Elements of it in one sample.
    pub(crate) count: usize,
}

/// A weight that is quantized.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    /// The initializer.
    pub(crate) name: String,
    pub(crate) bits: u8,
    /// Its grids after calibration.
    pub(crate) quantizer: Quantizer,
    /// The bias that is stored as integers at the scale of the products, and what scales the input.
    pub(crate) bias: Option<(String, ScaleKey)>,
}

/// The steps that training found.
pub(crate) struct Learned {
    /// For each layer, one or one for each output.
    pub(crate) weights: Vec<Vec<f32>>,
    pub(crate) activations: BTreeMap<ScaleKey, f32>,
}

/// A model after post-training quantization: its weights are floats that round to the integers which
/// were found for them.
pub(crate) struct Trainable {
    /// The graph to train: as `prepared`, and each quantized activation is a value that is read.
    pub(crate) graph: Graph,
    /// Layers and ranges; its graph holds the weights of the start.
    pub(crate) prepared: Prepared,
    pub(crate) bits: Assignment,
    /// By layer.
    pub(crate) weights: Vec<Weight>,
    pub(crate) sites: Vec<Site>,
}

impl Trainable {
    /// Quantizes after training, see [`quantize`](super::quantize()).
    pub(crate) fn new(
        graph: &Graph,
        shapes: &BTreeMap<String, Vec<usize>>,
        batches: &[Vec<Array>],
        params: &QuantizeParams,
        progress: &dyn Progress,
    ) -> Result<Self> {
        // Every parameter gets an initializer of its own, as training wants it.
        let Started { mut prepared, rounded, .. } =
            start(&prepare(graph), shapes, batches, params, progress)?;
        let mut graph = prepared.graph.clone();
        for (number, layer) in prepared.layers.iter().enumerate() {
            let weight = within_cells(&prepared, number, &rounded.weights[number])?;
            graph = rewrite::apply(&graph, &edits(layer, &weight, &rounded.biases[number])?)?;
        }
        for (layer, bias) in prepared.layers.iter_mut().zip(&rounded.biases) {
            let node = graph.node(layer.node);
            layer.weight = node.input(1).map(|v| graph.name(v).to_owned()).unwrap_or_default();
            layer.has_bias |= !bias.is_empty();
        }
        prepared.graph = graph;
        let bits = params.bits.clone();
        let weights = prepared.layers.iter().zip(&rounded.weights).map(|(layer, weight)| {
            let class = prepared.sites.class(layer.input);
            let own = bits.of(&layer.key).activations;
            let key = class.map(|class| (class, own.min(prepared.class_bits(class, &bits))));
            let bias = prepared.graph.node(layer.node).input(2).filter(|_| layer.has_bias);
            let bias = bias.map(|value| prepared.graph.name(value).to_owned());
            Weight {
                name: layer.weight.clone(),
                bits: weight.bits,
                quantizer: weight.quantizer.clone(),
                bias: bias.zip(key),
            }
        });
        let weights = weights.collect();
        let (graph, sites) = Explicit::of(&prepared, &bits)?;
        Ok(Self { graph, prepared, bits, weights, sites })
    }

    /// The quantized graph of a trained one, whose weights are those of the steps.
    pub(crate) fn export(&self, trained: &Graph, learned: &Learned) -> Result<Built> {
        let mut graph = self.prepared.graph.clone();
        for value in graph.initializers().to_vec() {
            let found = trained.find(graph.name(value));
            if let Some(constant) = found.and_then(|value| trained.initializer(value)) {
                graph.set_initializer(value, constant.clone());
            }
        }
        let prepared = self.prepared.with_constants(graph);
        let mut weights = Vec::new();
        let mut biases = Vec::new();
        for ((layer, weight), steps) in
            prepared.layers.iter().zip(&self.weights).zip(&learned.weights)
        {
            let quantizer = weight.quantizer.rescaled(steps);
            let integers = quantizer.quantize(&layer.dims, &prepared.weight(layer)?)?;
            weights.push(QuantizedWeight { bits: weight.bits, quantizer, integers });
            biases.push(prepared.bias(layer)?);
        }
        let weights: Vec<&QuantizedWeight> = weights.iter().collect();
        let numbers = Numbers { weights: &weights, biases: &biases, scales: &learned.activations };
        build(&prepared, &self.bits, numbers)
    }
}

/// The float weight of a layer, each number moved just into the cell of the integer that was found
/// for it: so training begins with the quantized model, and knows where the weights came from.
fn within_cells(prepared: &Prepared, number: usize, found: &QuantizedWeight) -> Result<Vec<f32>> {
    let layer = &prepared.layers[number];
    let float = prepared.weight(layer)?;
    let before = prepared.weight_grids(layer, &float, found.bits)?;
    let grids = before.by_element(&layer.dims)?.zip(found.quantizer.by_element(&layer.dims)?);
    let moved = float.iter().zip(&found.integers).zip(grids).map(|((&w, &q), (before, after))| {
        let q = q as f32;
        (w / before.scale).clamp(q - CELL, q + CELL) * after.scale
    });
    Ok(moved.collect())
}

/// Makes each quantized activation a value of its own.
///
/// A graph output, and the scores, are quantized behind what computes them: an Identity stands there,
/// so that what is read in front of it can be replaced. Another stands before a layer that wants fewer
/// bits than others that read the same value.
struct Explicit<'a> {
    prepared: &'a Prepared,
    bits: &'a Assignment,
    graph: Graph,
    nodes: Vec<Node>,
    sites: Vec<Site>,
    /// By value and bits.
    narrow: BTreeMap<(ValueId, u8), ValueId>,
}

impl<'a> Explicit<'a> {
    fn of(prepared: &'a Prepared, bits: &'a Assignment) -> Result<(Graph, Vec<Site>)> {
        let mut graph = prepared.graph.clone();
        let mut behind = graph.outputs.clone();
        behind.extend(scores(&graph).ok());
        let old = std::mem::take(&mut graph.nodes);
        let mut made = Self {
            prepared,
            bits,
            graph,
            nodes: Vec::new(),
            sites: Vec::new(),
            narrow: BTreeMap::new(),
        };
        for input in prepared.graph.inputs.clone() {
            made.class_site(input, input)?;
        }
        for (i, mut node) in old.into_iter().enumerate() {
            made.narrow(NodeId::from_index(i), &mut node)?;
            let outputs: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
            let mut moved = Vec::new();
            for output in node.outputs.iter_mut().flatten() {
                if behind.contains(output) && prepared.sites.class(*output).is_some() {
                    let name = format!("{}_float", made.graph.name(*output));
                    let raw = made.fresh(&name);
                    moved.push((*output, raw));
                    *output = raw;
                }
            }
            made.nodes.push(node);
            for output in outputs {
                let raw = moved.iter().find(|(old, _)| *old == output).map(|(_, raw)| *raw);
                made.class_site(output, raw.unwrap_or(output))?;
                if let Some(raw) = raw {
                    made.identity(raw, output);
                }
            }
        }
        let Self { mut graph, nodes, sites, .. } = made;
        graph.nodes = nodes;
        graph.validate()?;
        Ok((graph, sites))
    }

    fn fresh(&mut self, base: &str) -> ValueId {
        let name = self.graph.fresh_name(base);
        self.graph.value(&name)
    }

    fn identity(&mut self, from: ValueId, to: ValueId) {
        let name = format!("{}_Identity", self.graph.name(to));
        self.nodes.push(Node::new(&name, "Identity", &[from], &[to]));
    }

    fn class_site(&mut self, value: ValueId, raw: ValueId) -> Result<()> {
        let Some(class) = self.prepared.sites.class(value) else { return Ok(()) };
        let bits = self.prepared.class_bits(class, self.bits);
        self.site(value, raw, (class, bits))
    }

    fn site(&mut self, value: ValueId, raw: ValueId, key: ScaleKey) -> Result<()> {
        let dims = self.prepared.facts.dims(value).unwrap_or_default();
        self.sites.push(Site {
            value: self.graph.name(raw).to_owned(),
            key,
            grid: self.prepared.activation_grid(key.0, key.1)?,
            count: dims.iter().skip(1).product(),
        });
        Ok(())
    }

    /// Lets a layer that wants fewer bits read a value of its own.
    fn narrow(&mut self, id: NodeId, node: &mut Node) -> Result<()> {
        let Some(layer) = self.prepared.layers.iter().find(|layer| layer.node == id) else {
            return Ok(());
        };
        let Some(class) = self.prepared.sites.class(layer.input) else { return Ok(()) };
        let bits = self.bits.of(&layer.key).activations;
        if bits >= self.prepared.class_bits(class, self.bits) {
            return Ok(());
        }
        let known = self.narrow.get(&(layer.input, bits)).copied();
        let value = match known {
            Some(known) => known,
            None => {
                let name = format!("{}_{bits}bit", self.graph.name(layer.input));
                let value = self.fresh(&name);
                self.identity(layer.input, value);
                self.site(layer.input, value, (class, bits))?;
                self.narrow.insert((layer.input, bits), value);
                value
            }
        };
        node.inputs[0] = Some(value);
        Ok(())
    }
}
