//! The automatic split of a budget over layers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Random;
use lasso_prune::{Budget, Limit, PruneParams, Widths, plan, prune};
use std::collections::BTreeMap;
use tensor_core::cost::{Resource, cost};
use tensor_core::graph::{Attribute, Declared, Dim, Graph};
use tensor_core::progress::Silent;
use tensor_core::run::{Array, infer};
use tensor_core::{Constant, ElementType, Node, ValueId};

const CHANNELS: usize = 16;
const SIDE: usize = 6;

struct Model(Graph);

impl Model {
    fn constant(&mut self, name: &str, dims: &[usize], values: &[f32]) -> ValueId {
        let value = self.0.value(name);
        self.0.set_initializer(value, Constant::from_f32s(dims, values).unwrap());
        value
    }

    fn node(&mut self, op: &str, name: &str, inputs: &[ValueId]) -> ValueId {
        let output = self.0.value(name);
        self.0.nodes.push(Node::new(name, op, inputs, &[output]));
        output
    }

    /// Two 1 x 1 convolutions with a ReLU between, the weights the same for each name, and a factor.
    fn branch(&mut self, name: &str, input: ValueId, factor: f32) -> ValueId {
        let mut random = Random::new(7);
        let mut draw = |n: usize| (0..n).map(|_| random.normal() as f32).collect::<Vec<_>>();
        let (first, second) = (draw(CHANNELS * 3), draw(4 * CHANNELS));
        let first = self.constant(&format!("{name}.w1"), &[CHANNELS, 3, 1, 1], &first);
        let second = self.constant(&format!("{name}.w2"), &[4, CHANNELS, 1, 1], &second);
        let factor = self.constant(&format!("{name}.factor"), &[1], &[factor]);
        let hidden = self.node("Conv", &format!("{name}.hidden"), &[input, first]);
        let hidden = self.node("Relu", &format!("{name}.relu"), &[hidden]);
        let made = self.node("Conv", &format!("{name}.made"), &[hidden, second]);
        self.node("Mul", &format!("{name}.scaled"), &[made, factor])
    }
}

fn model_with_input() -> (Model, ValueId) {
    let mut graph = Graph::default();
    graph.ir_version = 8;
    graph.opsets.insert(String::new(), 17);
    let mut model = Model(graph);
    let x = model.0.value("x");
    let dims = Some(vec![Dim::Known(8), Dim::Known(3), Dim::Known(SIDE), Dim::Known(SIDE)]);
    let declared = Declared { element: Some(ElementType::F32), dims, ..Declared::default() };
    model.0.declare(x, Some(declared));
    model.0.inputs.push(x);
    (model, x)
}

fn two_branches(factors: [f32; 2]) -> Graph {
    let (mut model, x) = model_with_input();
    let (a, b) = (model.branch("a", x, factors[0]), model.branch("b", x, factors[1]));
    let y = model.node("Add", "y", &[a, b]);
    model.0.outputs.push(y);
    model.0
}

fn batches() -> Vec<Vec<Array>> {
    let mut random = Random::new(3);
    let mut batch = || {
        let values: Vec<f32> = (0..8 * 3 * SIDE * SIDE).map(|_| random.normal() as f32).collect();
        let constant = Constant::from_f32s(&[8, 3, SIDE, SIDE], &values).unwrap();
        vec![Array::from_constant(&constant).unwrap()]
    };
    (0..4).map(|_| batch()).collect()
}

/// A 1 x 1 convolution behind a ReLU, with random weights.
fn layer(
    model: &mut Model,
    random: &mut Random,
    name: &str,
    input: ValueId,
    dims: [usize; 4],
) -> ValueId {
    let weight: Vec<f32> = (0..dims.iter().product()).map(|_| random.normal() as f32).collect();
    let weight = model.constant(&format!("{name}.w"), &dims, &weight);
    let made = model.node("Conv", &format!("{name}.conv"), &[input, weight]);
    if dims[2] > 1 {
        let node = model.0.nodes.last_mut().unwrap();
        node.attributes.set("pads", Attribute::Ints(vec![dims[2] as i64 / 2; 4]));
    }
    model.node("Relu", &format!("{name}.relu"), &[made])
}

fn concat(model: &mut Model, name: &str, inputs: &[ValueId]) -> ValueId {
    let made = model.node("Concat", name, inputs);
    model.0.nodes.last_mut().unwrap().attributes.set("axis", Attribute::Int(1));
    made
}

/// Two layers of a dense block: the second reads the first and its input, the last reads all.
fn dense_block() -> Graph {
    let (mut model, x) = model_with_input();
    let mut random = Random::new(11);
    let a = layer(&mut model, &mut random, "a", x, [CHANNELS, 3, 1, 1]);
    let b = layer(&mut model, &mut random, "b", a, [CHANNELS, CHANNELS, 1, 1]);
    let ab = concat(&mut model, "ab", &[a, b]);
    let c = layer(&mut model, &mut random, "c", ab, [CHANNELS, 2 * CHANNELS, 1, 1]);
    let abc = concat(&mut model, "abc", &[ab, c]);
    let y = layer(&mut model, &mut random, "y", abc, [4, 3 * CHANNELS, 1, 1]);
    model.0.outputs.push(y);
    model.0
}

/// A cheap and a dear branch that one layer reads.
fn uneven_branches() -> Graph {
    let (mut model, x) = model_with_input();
    let mut random = Random::new(12);
    let cheap = layer(&mut model, &mut random, "cheap", x, [CHANNELS, 3, 1, 1]);
    let dear = layer(&mut model, &mut random, "dear", x, [CHANNELS, 3, 5, 5]);
    let both = concat(&mut model, "both", &[cheap, dear]);
    let y = layer(&mut model, &mut random, "y", both, [4, 2 * CHANNELS, 1, 1]);
    model.0.outputs.push(y);
    model.0
}

/// Channels that are given up are gone, whichever layers read them, and so is their cost.
#[test]
fn the_budget_is_met_in_the_cut_model() {
    for (name, graph) in [("dense", dense_block()), ("uneven", uneven_branches())] {
        let total = |graph: &Graph| {
            let facts = infer(graph, &BTreeMap::new()).unwrap();
            cost(graph, &facts).unwrap().macs as f64
        };
        let params = PruneParams {
            budget: Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.5) },
            ..PruneParams::default()
        };
        let params = params.check().unwrap();
        let pruned = prune(&graph, &BTreeMap::new(), batches(), &params, &Silent).unwrap();
        let kept = total(&pruned.graph) / total(&graph);
        assert!((0.4..=0.5).contains(&kept), "{name}: {kept}");
        for report in &pruned.report.layers {
            let id = pruned.graph.node_ids().find(|&id| pruned.graph.key(id) == report.key);
            let weight = pruned.graph.node(id.unwrap()).input(1).unwrap();
            let read = pruned.graph.initializer(weight).unwrap().dims()[1];
            assert_eq!(read, report.channels_after, "{name}: {}", report.key);
        }
    }
}

/// Widths of the two branches at half of the multiply-accumulates.
fn widths(factors: [f32; 2]) -> [usize; 2] {
    let params = PruneParams {
        budget: Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.5) },
        widths: Widths::Auto,
        ..PruneParams::default()
    };
    let graph = two_branches(factors);
    let plan =
        plan(&graph, &BTreeMap::new(), batches(), &params.check().unwrap(), &Silent).unwrap();
    let after = |name: &str| plan.sets.iter().find(|set| set.name.starts_with(name)).unwrap().after;
    [after("a."), after("b.")]
}

#[test]
fn equal_branches_share_the_budget() {
    let [a, b] = widths([1.0, 1.0]);
    assert!(a.abs_diff(b) <= 1, "{a} and {b}");
}

/// The layer errors of both branches are the same; only their effect on the output differs.
#[test]
fn a_branch_that_hardly_reaches_the_output_gives_most() {
    let [faint, strong] = widths([0.01, 1.0]);
    assert!(faint + CHANNELS / 2 <= strong, "{faint} and {strong}");
}
