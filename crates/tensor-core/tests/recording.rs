//! Recorded training steps against candle's autograd on the same graph.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{Device, Result as Candle, Tensor, Var};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::graph::{Attribute, Graph, Node};
use tensor_core::run::{Array, Backend, Session, Tap, Training};
use tensor_core::{Constant, NodeId, Result, ValueId, random};

const BATCH: usize = 3;
const SIDE: usize = 6;

/// A graph in the making; its last value is the output.
struct Net {
    graph: Graph,
    parameters: Vec<ValueId>,
    seed: u64,
}

impl Net {
    fn new(seed: u64) -> Self {
        let mut graph = Graph::default();
        graph.opsets.insert(String::new(), 17);
        let x = graph.value("x");
        graph.inputs.push(x);
        Self { graph, parameters: Vec::new(), seed }
    }

    fn constant(&mut self, dims: &[usize], shift: f32) -> ValueId {
        let name = format!("w{}", self.graph.value_count());
        let value = self.graph.value(&name);
        let elements = tensor(dims, self.seed + value.index() as u64).flatten_all().unwrap();
        let elements: Vec<f32> = elements.to_vec1::<f32>().unwrap();
        let elements: Vec<f32> = elements.iter().map(|x| x * 0.5 + shift).collect();
        self.graph.set_initializer(value, Constant::from_f32s(dims, &elements).unwrap());
        value
    }

    fn parameter(&mut self, dims: &[usize], shift: f32) -> ValueId {
        let value = self.constant(dims, shift);
        self.parameters.push(value);
        value
    }

    fn node(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        self.node_with(op, inputs, &[])
    }

    fn node_with(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: &[(&str, Attribute)],
    ) -> ValueId {
        let name = format!("{op}{}", self.graph.nodes.len());
        let output = self.graph.value(&name);

        let mut node = Node::new(&name, op, inputs, &[output]);
        for (name, attribute) in attributes {
            node.attributes.set(name, attribute.clone());
        }
        self.graph.nodes.push(node);
        output
    }

    fn conv(&mut self, x: ValueId, inputs: usize, outputs: usize, kernel: usize) -> ValueId {
        let w = self.parameter(&[outputs, inputs, kernel, kernel], 0.0);
        let b = self.parameter(&[outputs], 0.0);
        let pad = (kernel / 2) as i64;
        self.node_with("Conv", &[x, w, b], &[("pads", Attribute::Ints(vec![pad; 4]))])
    }

    fn norm(&mut self, x: ValueId, channels: usize) -> ValueId {
        let (scale, bias) = (self.parameter(&[channels], 1.0), self.parameter(&[channels], 0.1));
        let (mean, variance) = (self.constant(&[channels], 0.0), self.constant(&[channels], 2.0));
        self.node_with(
            "BatchNormalization",
            &[x, scale, bias, mean, variance],
            &[("epsilon", Attribute::Float(0.5))],
        )
    }

    fn clip(&mut self, x: ValueId) -> ValueId {
        let bounds: Vec<ValueId> = [0.0, 0.7]
            .map(|bound| {
                let value = self.graph.value(&format!("bound{bound}"));
                self.graph.set_initializer(value, Constant::from_f32s(&[], &[bound]).unwrap());
                value
            })
            .to_vec();
        self.node("Clip", &[x, bounds[0], bounds[1]])
    }

    /// The networks that the tests run: every combination that is fused, and some that are not.
    fn build(kind: usize, seed: u64) -> Self {
        let mut net = Self::new(seed);
        let x = net.graph.inputs[0];
        let a = net.conv(x, 2, 4, 3);
        let a = net.norm(a, 4);
        let a = net.node("Relu", &[a]);
        let end = match kind {
            // A residual block, with the sum behind a normalization.
            0 => {
                let b = net.conv(a, 4, 4, 3);
                let b = net.norm(b, 4);
                let sum = net.node("Add", &[b, a]);
                net.node("Relu", &[sum])
            }
            // Both branches normalized, and a clip on both sides.
            1 => {
                let b = net.conv(a, 4, 4, 1);
                let (b, c) = (net.norm(b, 4), net.conv(a, 4, 4, 3));
                let c = net.norm(c, 4);
                let sum = net.node("Add", &[c, b]);
                net.clip(sum)
            }
            // A normalization whose result is read twice, pooling and concatenation.
            2 => {
                let b = net.norm(a, 4);
                let (c, d) = (net.node("Relu", &[b]), net.node("Sigmoid", &[b]));
                let e = net.node_with("Concat", &[c, d], &[("axis", Attribute::Int(1))]);
                let window = Attribute::Ints(vec![2, 2]);
                let f = net.node_with(
                    "MaxPool",
                    &[e],
                    &[("kernel_shape", window.clone()), ("strides", window.clone())],
                );
                net.node_with("AveragePool", &[f], &[("kernel_shape", window)])
            }
            // A normalization added to itself, and a bias that broadcasts.
            3 => {
                let b = net.norm(a, 4);
                let c = net.node("Add", &[b, b]);
                let bias = net.parameter(&[4, 1, 1], 0.0);
                let d = net.norm(c, 4);
                net.node("Add", &[d, bias])
            }
            // A classifier.
            _ => {
                let b = net.node("GlobalAveragePool", &[a]);
                let b = net.node("Flatten", &[b]);
                let (w, c) = (net.parameter(&[4, 5], 0.0), net.parameter(&[5], 0.0));
                net.node("Gemm", &[b, w, c])
            }
        };
        net.graph.outputs.push(end);
        net
    }

    /// The value that a node of a kind computes, counted from the first.
    fn made_by(&self, op: &str) -> Option<ValueId> {
        self.graph.nodes.iter().find(|node| node.op == op).and_then(|node| node.output(0))
    }
}

/// Pseudo-random values in -1..1.
fn tensor(dims: &[usize], seed: u64) -> Tensor {
    let count: usize = dims.iter().product();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..count).map(next).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// Multiplies one value by a variable, and keeps another.
struct Meddler {
    graph: Graph,
    scaled: Option<ValueId>,
    kept: Option<ValueId>,
    by: Var,
    seen: BTreeMap<ValueId, Tensor>,
}

impl Meddler {
    fn new(net: &Net, scaled: Option<&str>, kept: Option<&str>) -> Self {
        Self {
            graph: net.graph.clone(),
            scaled: scaled.and_then(|op| net.made_by(op)),
            kept: kept.and_then(|op| net.made_by(op)),
            by: Var::new(1.5_f32, &Device::Cpu).unwrap(),
            seen: BTreeMap::new(),
        }
    }

    /// A loss of the outputs and of what was kept.
    fn loss(&self, outputs: &[Array], seed: u64) -> Candle<Tensor> {
        let mut loss = Tensor::new(0.0_f32, &Device::Cpu)?;
        let outputs = outputs.iter().map(|output| &output.tensor);
        for (i, value) in outputs.chain(self.seen.values()).enumerate() {
            let weights = tensor(value.dims(), seed + i as u64);
            loss = (loss + (value.sqr()? * weights)?.sum_all()?)?;
        }
        Ok(loss)
    }
}

impl Tap for Meddler {
    fn before(&mut self, node: NodeId, input: usize, array: &Array) -> Result<Option<Array>> {
        let value = self.graph.node(node).input(input);
        if value.is_none() || value != self.scaled {
            return Ok(None);
        }
        let tensor = array.tensor.broadcast_mul(&self.by)?;
        Ok(Some(Array { tensor, element: array.element }))
    }

    fn after(&mut self, value: ValueId, array: &Array) -> Result<()> {
        if Some(value) == self.kept {
            self.seen.insert(value, array.tensor.clone());
        }
        Ok(())
    }

    fn touches(&self, value: ValueId) -> bool {
        Some(value) == self.scaled || Some(value) == self.kept
    }
}

/// Loss, gradients of all parameters and of the tap's variable, and batch statistics.
type Outcome = (f32, Vec<Vec<f32>>, Vec<Vec<f32>>);

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn statistics(training: &Training) -> Vec<Vec<f32>> {
    let all = training.statistics().values();
    all.flat_map(|statistics| [flat(&statistics.mean), flat(&statistics.variance)]).collect()
}

/// A step on the parameters of a network.
struct Trial<'a> {
    net: &'a Net,
    freeze: bool,
    seed: u64,
}

impl Trial<'_> {
    fn session(&self) -> Session<'_> {
        let graph = &self.net.graph;
        let inputs = [graph.inputs.clone(), self.net.parameters.clone()].concat();
        Session::between(graph, &inputs, &graph.outputs).unwrap()
    }

    fn values(&self) -> impl Iterator<Item = Tensor> + '_ {
        self.net.parameters.iter().map(|&value| {
            let constant = self.net.graph.initializer(value).unwrap();
            Array::from_constant(constant).unwrap().tensor
        })
    }

    fn given(&self, values: impl Iterator<Item = Tensor>) -> Vec<(ValueId, Array)> {
        let x = tensor(&[BATCH, 2, SIDE, SIDE], self.seed);
        let mut given = vec![(self.net.graph.inputs[0], Array::float(x))];
        given.extend(self.net.parameters.iter().copied().zip(values.map(Array::float)));
        given
    }

    fn training(&self) -> Training {
        let mut training = Training::new(random::stream(self.seed, "recording"));
        let graph = &self.net.graph;
        let norm = graph.node_ids().find(|&id| graph.node(id).op == "BatchNormalization");
        if let (true, Some(norm)) = (self.freeze, norm) {
            training.freeze(norm);
        }
        training
    }

    /// On candle's graph throughout.
    fn trained(&self, mut tap: Meddler) -> Outcome {
        let vars: Vec<Var> = self.values().map(|value| Var::from_tensor(&value).unwrap()).collect();
        let given = self.given(vars.iter().map(|var| var.as_tensor().clone()));
        let (outputs, mut state) = (&self.net.graph.outputs, self.training());
        let outputs = self.session().train(&given, outputs, &mut tap, &mut state).unwrap();
        let loss = tap.loss(&outputs, self.seed).unwrap();
        let store = loss.backward().unwrap();
        let mut gradients: Vec<_> = vars.iter().map(|var| flat(store.get(var).unwrap())).collect();
        gradients.extend(store.get(&tap.by).map(flat));
        (loss.to_scalar().unwrap(), gradients, statistics(&state))
    }

    /// Recorded.
    fn recorded(&self, mut tap: Meddler, backend: &Backend) -> Outcome {
        let wanted: BTreeSet<ValueId> = self.net.parameters.iter().copied().collect();
        let (outputs, mut state) = (&self.net.graph.outputs, self.training());
        let session = self.session().on(backend).unwrap();
        let given = self.given(self.values());
        let recording = session.record(&given, &wanted, outputs, &mut tap, &mut state).unwrap();
        let loss = tap.loss(recording.outputs(), self.seed).unwrap();
        let mut found = recording.gradients(&loss).unwrap();
        let mut gradient = |&value| flat(&found.take(value).unwrap().unwrap());
        let mut gradients: Vec<_> = self.net.parameters.iter().map(&mut gradient).collect();
        gradients.extend(found.of(&tap.by).map(flat));
        (loss.to_scalar().unwrap(), gradients, statistics(&state))
    }
}

fn close(a: &[f32], b: &[f32]) -> bool {
    let size = a.iter().fold(1e-3_f32, |size, a| size.max(a.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * size)
}

fn assert_same(expected: &Outcome, found: &Outcome) {
    assert!(close(&[expected.0], &[found.0]), "losses {} and {}", expected.0, found.0);
    assert_eq!(expected.1.len(), found.1.len(), "numbers of gradients");
    for (i, (a, b)) in expected.1.iter().zip(&found.1).enumerate() {
        assert!(close(a, b), "gradient {i}: {a:?} and {b:?}");
    }
    assert_eq!(expected.2.len(), found.2.len(), "numbers of statistics");
    for (a, b) in expected.2.iter().zip(&found.2) {
        assert!(close(a, b), "statistics {a:?} and {b:?}");
    }
}

proptest! {
    #[test]
    fn recorded_gradients_are_those_of_candle(
        kind in 0_usize..5,
        freeze in any::<bool>(),
        scaled in prop::sample::select(vec![None, Some("Relu"), Some("BatchNormalization"), Some("Conv")]),
        kept in prop::sample::select(vec![None, Some("Add"), Some("Conv"), Some("BatchNormalization")]),
        seed in 0_u64..1 << 32,
    ) {
        let net = Net::build(kind, seed);
        let trial = Trial { net: &net, freeze, seed };
        let expected = trial.trained(Meddler::new(&net, scaled, kept));
        let found = trial.recorded(Meddler::new(&net, scaled, kept), &Backend::cpu());
        assert_same(&expected, &found);
        assert_eq!(expected.2, found.2, "statistics of the batch");
    }
}

/// Few fixed seeds: values that round to the two sides of a clamp would give other gradients.
#[test]
fn other_backends_give_the_same_steps() {
    for (kind, seed) in (0..5).flat_map(|kind| (0..4).map(move |seed| (kind, seed))) {
        let net = Net::build(kind, seed);
        let tap = || Meddler::new(&net, Some("Relu"), Some("Conv"));
        let trial = Trial { net: &net, freeze: seed % 2 == 1, seed };
        let own = trial.recorded(tap(), &Backend::cpu());
        let candle = trial.recorded(tap(), &Backend::candle(Device::Cpu));
        assert!(close(&[own.0], &[candle.0]), "losses {} and {}", own.0, candle.0);
        // Relative to all: biases before a normalization have no gradient but roundings.
        assert!(close(&own.1.concat(), &candle.1.concat()), "{:?} and {:?}", own.1, candle.1);
        assert!(close(&own.2.concat(), &candle.2.concat()), "{:?} and {:?}", own.2, candle.2);
    }
}

#[test]
fn views_lead_gradients_to_their_variables() {
    let net = Net::build(4, 7);
    let inputs = [net.graph.inputs.clone(), net.parameters.clone()].concat();
    let session = Session::between(&net.graph, &inputs, &net.graph.outputs).unwrap();
    let var = Var::from_tensor(&tensor(&[4, 2, 3, 3], 1)).unwrap();
    let view = (var.as_tensor() * 2.0).unwrap();
    let mut given = vec![(net.graph.inputs[0], Array::float(tensor(&[BATCH, 2, SIDE, SIDE], 2)))];
    for (i, &value) in net.parameters.iter().enumerate() {
        let constant = Array::from_constant(net.graph.initializer(value).unwrap()).unwrap();
        let view = Array::float(view.detach());
        given.push((value, if i == 0 { view } else { constant }));
    }
    let wanted = BTreeSet::from([net.parameters[0]]);
    let mut meddler = Meddler::new(&net, None, None);
    let mut training = Training::new(random::stream(3, "views"));
    let recording =
        session.record(&given, &wanted, &net.graph.outputs, &mut meddler, &mut training).unwrap();
    let loss = meddler.loss(recording.outputs(), 5).unwrap();
    let mut found = recording.gradients(&loss).unwrap();
    let of_view = found.take(net.parameters[0]).unwrap().unwrap();
    assert!(found.take(net.parameters[1]).unwrap().is_none(), "a gradient that nobody wanted");
    found.follow(&view, of_view.clone()).unwrap();
    let of_var = flat(found.of(&var).unwrap());
    let twice: Vec<f32> = flat(&of_view).iter().map(|g| 2.0 * g).collect();
    assert_eq!(of_var, twice);
}
