//! The quantized graph: pairs of QuantizeLinear and DequantizeLinear around activations, integers
//! behind DequantizeLinear in place of weights and biases.

use super::layers::Layer;
use super::opset::raise_opset;
use super::prepared::Prepared;
use super::weights::{NARROW, QuantizedWeight};
use crate::bits::Assignment;
use crate::quantizer::Affine;
use serde::Serialize;
use std::collections::BTreeMap;
use tensor_core::graph::{Attribute, Graph, Index};
use tensor_core::{Constant, ElementType, Node, Result, ValueId};

/// Numbers from which a quantized graph is built.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    /// The weight of each layer.
    pub(super) weights: &'a [&'a QuantizedWeight],
    /// The bias of each layer; an empty one is none.
    pub(super) biases: &'a [Vec<f32>],
    /// Scales of activations that are not those of the calibration, by class and bits.
    pub(super) scales: &'a BTreeMap<(usize, u8), f32>,
}

/// A quantized graph and how its activations are stored.
pub(crate) struct Built {
    pub(crate) graph: Graph,
    pub(crate) activations: Vec<QuantizedActivation>,
    /// What holds the floats of graph outputs whose names are on what is behind DequantizeLinear.
    pub(super) raw: BTreeMap<ValueId, ValueId>,
}

/// How an activation is quantized.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuantizedActivation {
    /// Its name in the float model.
    pub value: String,
    /// Its name in the quantized model behind DequantizeLinear.
    pub dequantized: String,
    /// Bits.
    pub bits: u8,
    /// Scale.
    pub scale: f32,
    /// Smallest and largest number.
    pub range: (f32, f32),
    /// What the calibration saw; absent after training, which moves the values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// How the values of an activation are distributed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// Smallest and largest value, zero included.
    pub range: (f32, f32),
    /// Share of the values beyond what can be represented.
    pub outside: f64,
    /// Share of the values that are exactly zero, which are in no bin.
    pub zeros: f64,
    /// Counts in equal intervals of the range seen.
    pub bins: Vec<u64>,
}

/// Largest magnitude of a bias: the nearest `f32` below 2^31.
const MAX_BIAS: f64 = 2_147_483_520.0;

/// Builds the quantized graph.
///
/// Names stay where they mean the same: what a layer reads as its weight and bias, graph inputs and
/// outputs, and what operators write. `x_quantized` and `x_dequantized` follow `x`; a graph output
/// is what it is after DequantizeLinear.
pub(super) fn build(prepared: &Prepared, bits: &Assignment, numbers: Numbers) -> Result<Built> {
    let Numbers { weights, biases, scales: learned } = numbers;
    let mut raws = BTreeMap::new();
    let mut graph = prepared.graph.clone();
    let needs_latest =
        |weight: &&QuantizedWeight| weight.bits <= NARROW || weight.quantizer.block().is_some();
    let rank = |value| prepared.facts.dims(value).map(<[usize]>::len);
    raise_opset(&mut graph, if weights.iter().any(needs_latest) { 21 } else { 13 }, rank)?;
    let mut builder = Builder {
        prepared,
        bits,
        learned,
        index: Index::new(&prepared.graph),
        grids: prepared.sites.classes.iter().map(|_| None).collect(),
        read_as: BTreeMap::new(),
        narrow: BTreeMap::new(),
        scales: BTreeMap::new(),
        nodes: Vec::new(),
        activations: Vec::new(),
        graph,
    };
    let old = std::mem::take(&mut builder.graph.nodes);
    for input in builder.graph.inputs.clone() {
        builder.pair(input, input)?;
    }
    let layer_of = |i: usize| prepared.layers.iter().position(|layer| layer.node.index() == i);
    for (i, mut node) in old.into_iter().enumerate() {
        for input in node.inputs.iter_mut().flatten() {
            *input = builder.read_as.get(input).copied().unwrap_or(*input);
        }
        if let Some(number) = layer_of(i) {
            builder.layer(number, &mut node, weights[number], &biases[number])?;
        }
        let outputs: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
        let mut renamed = Vec::new();
        for output in node.outputs.iter_mut().flatten() {
            if builder.graph.outputs.contains(output) && prepared.sites.class(*output).is_some() {
                let name = builder.graph.name(*output).to_owned();
                let raw = builder.fresh(&format!("{name}_float"));
                renamed.push((*output, raw));
                raws.insert(*output, raw);
                *output = raw;
            }
        }
        builder.nodes.push(node);
        for output in outputs {
            let raw =
                renamed.iter().find(|(old, _)| *old == output).map_or(output, |(_, raw)| *raw);
            builder.pair(output, raw)?;
        }
    }
    let Builder { mut graph, nodes, activations, .. } = builder;
    graph.nodes = nodes;
    drop_unread(&prepared.graph, &mut graph);
    graph.validate()?;
    Ok(Built { graph, activations, raw: raws })
}

struct Builder<'a> {
    prepared: &'a Prepared,
    bits: &'a Assignment,
    learned: &'a BTreeMap<(usize, u8), f32>,
    index: Index,
    graph: Graph,
    nodes: Vec<Node>,
    /// Bits and grid of each class, once known.
    grids: Vec<Option<(u8, Affine)>>,
    /// What readers of a value read instead.
    read_as: BTreeMap<ValueId, ValueId>,
    /// Values with fewer bits than their class, by value and bits.
    narrow: BTreeMap<(ValueId, u8), ValueId>,
    /// Scale and zero point by class and bits.
    scales: BTreeMap<(usize, u8), [ValueId; 2]>,
    activations: Vec<QuantizedActivation>,
}

impl Builder<'_> {
    fn fresh(&mut self, base: &str) -> ValueId {
        let name = self.graph.fresh_name(base);
        self.graph.value(&name)
    }

    fn constant(&mut self, base: &str, constant: Constant) -> ValueId {
        let value = self.fresh(base);
        self.graph.set_initializer(value, constant);
        value
    }

    fn node(&mut self, op: &str, inputs: &[ValueId], output: ValueId) -> &mut Node {
        let name = format!("{}_{op}", self.graph.name(output));
        self.nodes.push(Node::new(&name, op, inputs, &[output]));
        let last = self.nodes.len() - 1;
        &mut self.nodes[last]
    }

    /// Bits and grid of a class.
    fn class_grid(&mut self, class: usize) -> Result<(u8, Affine)> {
        if let Some(known) = self.grids[class] {
            return Ok(known);
        }
        let bits = self.prepared.class_bits(class, self.bits);
        let found = (bits, self.grid(class, bits)?);
        self.grids[class] = Some(found);
        Ok(found)
    }

    /// The grid of a class at these bits: as it was learned, or as the calibration has it.
    fn grid(&self, class: usize, bits: u8) -> Result<Affine> {
        let grid = self.prepared.activation_grid(class, bits)?;
        let learned = self.learned.get(&(class, bits));
        Ok(learned.map_or(grid, |&scale| grid.rescaled(scale)))
    }

    /// Quantizes a value, which `raw` holds, if it is to be; its readers read the result.
    fn pair(&mut self, value: ValueId, raw: ValueId) -> Result<()> {
        let Some(class) = self.prepared.sites.class(value) else { return Ok(()) };
        let (bits, grid) = self.class_grid(class)?;
        let name = self.graph.name(value).to_owned();
        let is_output = raw != value;
        let target = if is_output { value } else { self.fresh(&format!("{name}_dequantized")) };
        self.quantized(&name, (value, raw, target), class, bits, grid)?;
        if !is_output {
            self.read_as.insert(value, target);
        }
        Ok(())
    }

    /// The nodes between what a value is and what it is after its way through integers.
    fn quantized(
        &mut self,
        name: &str,
        (value, raw, target): (ValueId, ValueId, ValueId),
        class: usize,
        bits: u8,
        grid: Affine,
    ) -> Result<()> {
        // The integers are the uppermost of 8 bits: what is too large saturates.
        let stored = grid.shifted(255 - grid.high);
        let (low, high) = grid.range();
        let mut source = raw;
        if bits < 8 && !(low == 0.0 && self.is_positive(value)) {
            let least = self.constant(&format!("{name}_{bits}bit_least"), scalar(low)?);
            let most = self.constant(&format!("{name}_{bits}bit_most"), scalar(high)?);
            let clipped = self.fresh(&format!("{name}_{bits}bit_clipped"));
            self.node("Clip", &[raw, least, most], clipped);
            source = clipped;
        }
        let [scale, zero] = self.scale(name, class, bits, stored)?;
        let suffix =
            if target == value || bits == 8 { String::new() } else { format!("_{bits}bit") };
        let integers = self.fresh(&format!("{name}{suffix}_quantized"));
        self.node("QuantizeLinear", &[source, scale, zero], integers);
        self.node("DequantizeLinear", &[integers, scale, zero], target);
        self.activations.push(QuantizedActivation {
            value: name.to_owned(),
            dequantized: self.graph.name(target).to_owned(),
            bits,
            scale: grid.scale,
            range: (low, high),
            seen: None,
        });
        Ok(())
    }

    fn scale(&mut self, name: &str, class: usize, bits: u8, grid: Affine) -> Result<[ValueId; 2]> {
        if let Some(known) = self.scales.get(&(class, bits)) {
            return Ok(*known);
        }
        let scale = self.constant(&format!("{name}_scale"), scalar(grid.scale)?);
        let zero = Constant::from_integers(ElementType::U8, &[], &[i64::from(grid.zero)])?;
        let zero = self.constant(&format!("{name}_zero_point"), zero);
        self.scales.insert((class, bits), [scale, zero]);
        Ok([scale, zero])
    }

    /// Can a value not be negative, whatever the inputs of the graph are?
    fn is_positive(&self, value: ValueId) -> bool {
        let graph = &self.prepared.graph;
        let Some(producer) = self.index.producer(value) else { return false };
        let node = graph.node(producer);
        let is_above_zero = |value: Option<ValueId>| {
            let constant = value.and_then(|value| graph.constant(value, &self.index));
            let values = constant.and_then(|constant| constant.to_f32s().ok());
            values.is_some_and(|values| values.iter().all(|&low| low >= 0.0))
        };
        match node.op.as_str() {
            "Relu" | "Sigmoid" | "Softmax" | "HardSigmoid" => true,
            "Clip" => match node.attributes.get("min") {
                Some(Attribute::Float(min)) => *min >= 0.0,
                _ => is_above_zero(node.input(1)),
            },
            "MaxPool" | "AveragePool" | "GlobalAveragePool" | "Reshape" | "Flatten"
            | "Transpose" | "Squeeze" | "Unsqueeze" => {
                node.input(0).is_some_and(|input| self.is_positive(input))
            }
            _ => false,
        }
    }

    /// Gives a layer its integers; `node` is its node as it will be. An empty bias is none.
    fn layer(
        &mut self,
        number: usize,
        node: &mut Node,
        weight: &QuantizedWeight,
        bias: &[f32],
    ) -> Result<()> {
        let layer = &self.prepared.layers[number];
        let Some(class) = self.prepared.sites.class(layer.input) else {
            return self.float_layer(layer, node, weight, bias);
        };
        let (class_bits, mut grid) = self.class_grid(class)?;
        let bits = self.bits.of(&layer.key).activations;
        if bits < class_bits {
            grid = self.grid(class, bits)?;
            node.inputs[0] = Some(self.narrowed(layer.input, class, bits, grid)?);
        }
        let weight = with_room(layer, weight, grid.scale, bias);
        node.inputs[1] = Some(self.weight(layer, node, &weight)?);
        if layer.takes_bias && !bias.is_empty() {
            let value = self.bias(layer, node, &weight, grid.scale, bias)?;
            node.inputs.resize(node.inputs.len().max(3), None);
            node.inputs[2] = Some(value);
        }
        Ok(())
    }

    /// Gives a layer integers as weights alone: it computes with the numbers that they stand for.
    fn float_layer(
        &mut self,
        layer: &Layer,
        node: &mut Node,
        weight: &QuantizedWeight,
        bias: &[f32],
    ) -> Result<()> {
        node.inputs[1] = Some(match weight.quantizer.codebook() {
            Some(centres) => self.shared_weight(layer, node, weight, centres)?,
            None => self.weight(layer, node, weight)?,
        });
        if layer.takes_bias && !bias.is_empty() {
            let value = self.takes_name(node, 2, &layer.key);
            self.graph.set_initializer(value, Constant::from_f32s(&[bias.len()], bias)?);
            node.inputs.resize(node.inputs.len().max(3), None);
            node.inputs[2] = Some(value);
        }
        Ok(())
    }

    /// A weight as places in its codebook: Gather takes wider integers than are stored.
    fn shared_weight(
        &mut self,
        layer: &Layer,
        node: &Node,
        weight: &QuantizedWeight,
        centres: &[f32],
    ) -> Result<ValueId> {
        let element = if weight.bits <= NARROW { ElementType::U4 } else { ElementType::U8 };
        let codes: Vec<i64> = weight.integers.iter().map(|&q| i64::from(q)).collect();
        let codes = Constant::from_integers(element, &layer.dims, &codes)?;
        let target = self.takes_name(node, 1, &layer.key);
        let name = layer.weight.clone();
        let codes = self.constant(&format!("{name}_codes"), codes);
        let book = Constant::from_f32s(&[centres.len()], centres)?;
        let book = self.constant(&format!("{name}_codebook"), book);
        let places = self.fresh(&format!("{name}_places"));
        let cast = self.node("Cast", &[codes], places);
        let to = i64::from(ElementType::I32.to_onnx());
        cast.attributes.set("to", Attribute::Int(to));
        self.node("Gather", &[book, places], target);
        Ok(target)
    }

    /// What a layer reads that wants fewer bits than others do.
    fn narrowed(
        &mut self,
        value: ValueId,
        class: usize,
        bits: u8,
        grid: Affine,
    ) -> Result<ValueId> {
        if let Some(known) = self.narrow.get(&(value, bits)) {
            return Ok(*known);
        }
        let name = self.graph.name(value).to_owned();
        let raw = self.read_as.get(&value).copied().unwrap_or(value);
        let target = self.fresh(&format!("{name}_{bits}bit_dequantized"));
        self.quantized(&name, (value, raw, target), class, bits, grid)?;
        self.narrow.insert((value, bits), target);
        Ok(target)
    }

    /// The value that holds the dequantized constant: the one that held the floats, where nothing
    /// else reads it.
    fn takes_name(&mut self, node: &Node, input: usize, key: &str) -> ValueId {
        let old = node.input(input);
        let alone = |value: &ValueId| {
            let is_initializer = self.graph.initializer(*value).is_some();
            let is_alone = self.index.readers(*value).len() == 1;
            is_initializer && is_alone && !self.graph.outputs.contains(value)
        };
        match old.filter(alone) {
            Some(value) => {
                self.graph.remove_initializer(value);
                value
            }
            None => {
                let base = old.map_or_else(
                    || format!("{key}.bias"),
                    |value| format!("{}_dequantized", self.graph.name(value)),
                );
                self.fresh(&base)
            }
        }
    }

    fn weight(&mut self, layer: &Layer, node: &Node, weight: &QuantizedWeight) -> Result<ValueId> {
        let element = if weight.bits <= NARROW { ElementType::I4 } else { ElementType::I8 };
        let integers: Vec<i64> = weight.integers.iter().map(|&q| i64::from(q)).collect();
        let integers = Constant::from_integers(element, &layer.dims, &integers)?;
        let grids = weight.quantizer.grids();
        let scales: Vec<f32> = grids.iter().map(|grid| grid.scale).collect();
        let zeros: Vec<i64> = grids.iter().map(|grid| i64::from(grid.zero)).collect();
        let dims = weight.quantizer.scale_dims(&layer.dims);
        let target = self.takes_name(node, 1, &layer.key);
        let name = layer.weight.clone();
        let integers = self.constant(&format!("{name}_quantized"), integers);
        let scale = self.constant(&format!("{name}_scale"), Constant::from_f32s(&dims, &scales)?);
        let mut inputs = vec![integers, scale];
        // As many zeros as scales would double what blocks take.
        if weight.quantizer.block().is_none() {
            let zeros = Constant::from_integers(element, &dims, &zeros)?;
            inputs.push(self.constant(&format!("{name}_zero_point"), zeros));
        }
        let made = self.node("DequantizeLinear", &inputs, target);
        if let Some(axis) = weight.quantizer.axis() {
            made.attributes.set("axis", Attribute::Int(axis as i64));
        }
        if let Some((axis, size)) = weight.quantizer.block() {
            made.attributes.set("axis", Attribute::Int(axis as i64));
            made.attributes.set("block_size", Attribute::Int(size as i64));
        }
        Ok(target)
    }

    /// 32-bit integers at the scale of the products.
    fn bias(
        &mut self,
        layer: &Layer,
        node: &Node,
        weight: &QuantizedWeight,
        input_scale: f32,
        bias: &[f32],
    ) -> Result<ValueId> {
        let grids = weight.quantizer.grids();
        let scales: Vec<f32> = grids.iter().map(|grid| grid.scale * input_scale).collect();
        let integers = bias.iter().zip(scales.iter().cycle());
        let integers = integers.map(|(&b, &scale)| bias_integer(b, scale));
        let integers = integers.collect::<Vec<_>>();
        let integers = Constant::from_integers(ElementType::I32, &[bias.len()], &integers)?;
        let is_per_channel = weight.quantizer.axis().is_some();
        let dims: &[usize] = if is_per_channel { &[scales.len()] } else { &[] };
        let target = self.takes_name(node, 2, &layer.key);
        let name = self.graph.name(target).to_owned();
        let integers = self.constant(&format!("{name}_quantized"), integers);
        let scale = self.constant(&format!("{name}_scale"), Constant::from_f32s(dims, &scales)?);
        let made = self.node("DequantizeLinear", &[integers, scale], target);
        if is_per_channel {
            made.attributes.set("axis", Attribute::Int(0));
        }
        Ok(target)
    }
}

/// The integer that stores a bias.
fn bias_integer(bias: f32, scale: f32) -> i64 {
    (f64::from(bias) / f64::from(scale)).round_ties_even().clamp(-MAX_BIAS, MAX_BIAS) as i64
}

/// The number that a stored bias is.
#[cfg(feature = "train")]
pub(crate) fn stored_bias(bias: f32, scale: f32) -> f32 {
    bias_integer(bias, scale) as f32 * scale
}

fn scalar(value: f32) -> Result<Constant> {
    Constant::from_f32s(&[], &[value])
}

/// The weight, with wider scales where a bias would not fit 32 bits at that of the products. Such
/// weights are next to nothing beside their bias.
fn with_room(layer: &Layer, weight: &QuantizedWeight, input: f32, bias: &[f32]) -> QuantizedWeight {
    let grids = weight.quantizer.grids();
    let least = |b: f32| (f64::from(b.abs()) / f64::from(input) / MAX_BIAS) as f32 * 1.001;
    let needs: Vec<f32> = match weight.quantizer.axis() {
        Some(_) => bias.iter().map(|&b| least(b)).collect(),
        None => vec![bias.iter().map(|&b| least(b)).fold(0.0, f32::max)],
    };
    if grids.iter().zip(&needs).all(|(grid, &need)| grid.scale >= need) {
        return weight.clone();
    }
    let wider: Vec<Affine> =
        grids.iter().zip(&needs).map(|(grid, &need)| grid.rescaled(grid.scale.max(need))).collect();
    let inner: usize = layer.dims[layer.axis + 1..].iter().product();
    let integers = weight.integers.iter().enumerate().map(|(i, &q)| {
        let at = i / inner.max(1) % grids.len();
        match grids[at].scale == wider[at].scale {
            true => q,
            false => wider[at].quantize(grids[at].dequantize(q)),
        }
    });
    let integers = integers.collect();
    let quantizer = match weight.quantizer.axis() {
        Some(axis) => crate::quantizer::Quantizer::per_channel(axis, wider),
        None => crate::quantizer::Quantizer::per_tensor(wider[0]),
    };
    QuantizedWeight { bits: weight.bits, quantizer, integers }
}

/// Drops constants, and what only passed them on, that had readers and have none now.
fn drop_unread(old: &Graph, new: &mut Graph) {
    let before = Index::new(old);
    let was_read =
        |value: ValueId| value.index() < old.value_count() && !before.readers(value).is_empty();
    loop {
        let after = Index::new(new);
        let outputs = new.outputs.clone();
        let is_unread = |value: ValueId| {
            was_read(value) && after.readers(value).is_empty() && !outputs.contains(&value)
        };
        let count = new.nodes.len();
        new.nodes.retain(|node| {
            let passes = ["Constant", "Identity", "Cast"].contains(&node.op.as_str());
            !(passes && node.outputs.iter().flatten().all(|&value| is_unread(value)))
        });
        for value in new.initializers().to_vec() {
            if is_unread(value) {
                new.remove_initializer(value);
            }
        }
        if new.nodes.len() == count {
            return;
        }
    }
}
