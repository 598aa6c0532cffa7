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
/// another function: such pairs are left, and so are channels that anything else reads, and layers
/// whose channels are on different axes.
pub(super) fn equalize(graph: &Graph, layers: &[Layer]) -> Result<Equalization> {
    let index = Index::new(graph);
    let mut weights = Vec::new();
    for layer in layers {
        weights.push(Weights::read(graph, &index, layer)?);
    }
    let (mut pairs, mut skipped) = (Vec::new(), Vec::new());
    for (first, layer) in layers.iter().enumerate() {
        match follower(graph, &index, layers, layer) {
            Ok(second) if weights[second].inputs() != layer.outputs() => {}
            // A bias that cannot be scaled is one that is computed or shared out by broadcasting.
            Ok(second) if layer.has_bias || graph.node(layer.node).input(2).is_none() => {
                pairs.push((first, second));
            }
            Ok(_) => skipped.push(NotEqualized {
                before: layer.key.clone(),
                reason: "its bias is not one constant for each output".to_owned(),
            }),
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
    let (mut bounded, mut pooled) = (false, false);
    let is_matrix = |id: NodeId| matches!(graph.node(id).op.as_str(), "Gemm" | "MatMul");
    loop {
        let [(reader, 0)] = index.readers(value) else { return Err(None) };
        if graph.outputs.contains(&value) {
            return Err(None);
        }
        if let Some(found) = layers.iter().position(|layer| layer.node == *reader) {
            // The channels of a convolution are on the second axis, those of a matrix product on the
            // last one, over which pooling takes maxima.
            let first = is_matrix(layer.node);
            if first != is_matrix(*reader) || (first && pooled) {
                return Err(None);
            }
            return if bounded { Err(Some("a clip bounds all channels alike")) } else { Ok(found) };
        }
        let node = graph.node(*reader);
        match (node.op.as_str(), node.domain.is_empty(), node.output(0)) {
            ("Relu", true, Some(next)) => value = next,
            ("MaxPool", true, Some(next)) => (value, pooled) = (next, true),
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

    /// Largest magnitude by output channel. The bias counts as the weight of an input that is one:
    /// channels of hardly any weights, as folded normalizations leave them, hold their bias, which a
    /// factor that only their weights ask for would blow up beyond all others.
    fn output_ranges(&self) -> Vec<f32> {
        let mut ranges = vec![0.0_f32; self.outputs];
        for (i, &weight) in self.weight.iter().enumerate() {
            let range = &mut ranges[self.channels(i).0];
            *range = range.max(weight.abs());
        }
        for (range, &bias) in ranges.iter_mut().zip(&self.bias) {
            *range = range.max(bias.abs());
        }
        ranges
    }

    /// Largest magnitude by input channel.
    fn input_ranges(&self) -> Vec<f32> {
        let mut ranges = vec![0.0_f32; self.inputs()];
        for (i, &weight) in self.weight.iter().enumerate() {
            let range = &mut ranges[self.channels(i).1];
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
    let before = weights[first].output_ranges();
    let behind = weights[second].input_ranges();
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use candle_core::{Device, Tensor};
    use std::collections::BTreeMap;
    use tensor_core::graph::Node;
    use tensor_core::run::{self, Array, Session};

    /// Three convolutions, the second depthwise, with a rectifier and another operator between.
    fn network(second: &str) -> Graph {
        biased(second, true)
    }

    /// The same, with biases or without.
    fn biased(second: &str, has_bias: bool) -> Graph {
        let mut graph = Graph::default();
        graph.opsets.insert(String::new(), 17);
        let [x, a, ra, b, rb, c] = ["x", "a", "ra", "b", "rb", "c"].map(|name| graph.value(name));
        graph.inputs.push(x);
        graph.outputs.push(c);
        let mut layer = |name: &str, dims: &[usize], from, to| {
            let [w, bias] = ["w", "b"].map(|part| graph.value(&format!("{name}.{part}")));
            let count: usize = dims.iter().product();
            let values: Vec<f32> = (0..count)
                .map(|i| ((i * 7 + 3) % 11) as f32 * (1 + i % dims[0]) as f32 - 9.0)
                .collect();
            graph.set_initializer(w, Constant::from_f32s(dims, &values).unwrap());
            let biases: Vec<f32> = (0..dims[0]).map(|i| i as f32 - 1.0).collect();
            graph.set_initializer(bias, Constant::from_f32s(&[dims[0]], &biases).unwrap());
            let inputs = [from, w, bias];
            Node::new(name, "Conv", &inputs[..2 + usize::from(has_bias)], &[to])
        };
        let first = layer("first", &[3, 2, 1, 1], x, a);
        let mut depthwise = layer("depthwise", &[3, 1, 3, 3], ra, b);
        let last = layer("last", &[2, 3, 1, 1], rb, c);
        depthwise.attributes.set("group", tensor_core::graph::Attribute::Int(3));
        let mut bounded = Node::new("second", second, &[b], &[rb]);
        if second == "Clip" {
            let [low, high] = [("low", 0.0), ("high", 6.0)].map(|(name, bound)| {
                let value = graph.value(name);
                graph.set_initializer(value, Constant::from_f32s(&[], &[bound]).unwrap());
                value
            });
            bounded.inputs.extend([Some(low), Some(high)]);
        }
        graph.nodes = vec![first, Node::new("relu", "Relu", &[a], &[ra]), depthwise, bounded, last];
        graph
    }

    fn equalized(graph: &Graph) -> Equalization {
        let shapes = BTreeMap::from([("x".to_owned(), vec![1, 2, 5, 5])]);
        let facts = run::infer(graph, &shapes).unwrap();
        let (layers, _) = super::super::layers::find_layers(graph, &facts, &[]).unwrap();
        equalize(graph, &layers).unwrap()
    }

    #[test]
    fn ranges_become_equal_and_the_function_stays() {
        for has_bias in [true, false] {
            check(&biased("Relu", has_bias));
        }
    }

    fn check(graph: &Graph) {
        let made = equalized(graph);
        assert_eq!(made.pairs.len(), 2);
        let x: Vec<f32> = (0..50).map(|i| (i * 13 % 17) as f32 / 8.0 - 1.0).collect();
        let run = |graph: &Graph| {
            let x = Tensor::from_vec(x.clone(), (1, 2, 5, 5), &Device::Cpu).unwrap();
            let inputs = [(graph.inputs[0], Array::float(x))];
            Session::new(graph).unwrap().run(&inputs).unwrap()[0].to_f32s().unwrap()
        };
        let (before, after) = (run(graph), run(&made.graph));
        let most = before.iter().map(|v| v.abs()).fold(0.0, f32::max);
        for (a, b) in before.iter().zip(&after) {
            assert!((a - b).abs() <= 1e-5 * most, "{a} and {b}");
        }
        let held = |name: &str| {
            let value = made.graph.find(name).unwrap();
            made.graph.initializer(value).unwrap().to_f32s().unwrap()
        };
        let has_bias = graph.nodes[0].inputs.len() > 2;
        let bias = if has_bias { held("first.b") } else { vec![0.0; 3] };
        let ranges = |name: &str| -> Vec<f32> {
            let weights = held(name);
            let channel = |c: usize| match name {
                // By output, with its bias, and by the input that each output has.
                "first.w" => [&weights[c * 2..c * 2 + 2], &bias[c..=c]].concat(),
                _ => weights[c * 9..c * 9 + 9].to_vec(),
            };
            (0..3).map(|c| channel(c).iter().map(|w| w.abs()).fold(0.0, f32::max)).collect()
        };
        for (a, b) in ranges("first.w").iter().zip(ranges("depthwise.w")) {
            assert!((a / b - 1.0).abs() < 0.01, "{a} and {b}");
        }
    }

    /// Sizes that agree are no channels that agree.
    #[test]
    fn channels_on_different_axes_are_left() {
        let equal = |first: &str, between: &str, second: &str| {
            let mut graph = Graph::default();
            graph.opsets.insert(String::new(), 17);
            let [x, a, b, y] = ["x", "a", "b", "y"].map(|name| graph.value(name));
            graph.inputs.push(x);
            graph.outputs.push(y);
            let mut layer = |op: &str, name: &str, from, to| {
                let weight = graph.value(name);
                let dims: &[usize] = if op == "Conv" { &[4, 4, 1] } else { &[4, 4] };
                let values: Vec<f32> = (0..16).map(|i| (i * i % 7) as f32 - 2.5).collect();
                graph.set_initializer(weight, Constant::from_f32s(dims, &values).unwrap());
                Node::new(name, op, &[from, weight], &[to])
            };
            let (one, two) = (layer(first, "one", x, a), layer(second, "two", b, y));
            let mut middle = Node::new("between", between, &[a], &[b]);
            if between == "MaxPool" {
                middle.attributes.set("kernel_shape", tensor_core::graph::Attribute::Ints(vec![1]));
            }
            graph.nodes = vec![one, middle, two];
            let shapes = BTreeMap::from([("x".to_owned(), vec![1, 4, 4])]);
            let facts = run::infer(&graph, &shapes).unwrap();
            let (layers, _) = super::super::layers::find_layers(&graph, &facts, &[]).unwrap();
            assert_eq!(layers.len(), 2);
            equalize(&graph, &layers).unwrap().pairs.len()
        };
        assert_eq!(equal("Conv", "Relu", "Conv"), 1);
        assert_eq!(equal("Conv", "MaxPool", "Conv"), 1);
        assert_eq!(equal("MatMul", "Relu", "MatMul"), 1);
        assert_eq!(equal("Conv", "Relu", "MatMul"), 0);
        assert_eq!(equal("MatMul", "Relu", "Conv"), 0);
        assert_eq!(equal("MatMul", "MaxPool", "MatMul"), 0);
    }

    /// A channel of hardly any weights holds its bias: it must not become larger than all others.
    #[test]
    fn the_bias_of_a_dead_channel_stays_in_range() {
        let mut graph = biased("Relu", true);
        let weight = graph.find("first.w").unwrap();
        let mut values = graph.initializer(weight).unwrap().to_f32s().unwrap();
        values[4..6].iter_mut().for_each(|w| *w *= 1e-6);
        graph.set_initializer(weight, Constant::from_f32s(&[3, 2, 1, 1], &values).unwrap());
        let made = equalized(&graph);
        let bias = made.graph.initializer(made.graph.find("first.b").unwrap()).unwrap();
        // It was 1 of -1, 0, 1; what follows has weights of about 10.
        assert!(bias.to_f32s().unwrap()[2].abs() < 10.0, "{bias:?}");
    }

    #[test]
    fn behind_a_clip_nothing_is_scaled() {
        let made = equalized(&network("Clip"));
        assert_eq!(made.pairs.len(), 1);
        assert_eq!(made.skipped.len(), 1);
        assert_eq!(made.skipped[0].before, "depthwise");
    }
}
