//! The automatic split of a budget over layers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Random;
use lasso_prune::{Budget, Limit, PruneParams, Widths, plan};
use std::collections::BTreeMap;
use tensor_core::cost::Resource;
use tensor_core::graph::{Declared, Dim, Graph};
use tensor_core::progress::Silent;
use tensor_core::run::Array;
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

fn two_branches(factors: [f32; 2]) -> Graph {
    let mut graph = Graph::default();
    graph.ir_version = 8;
    graph.opsets.insert(String::new(), 17);
    let mut model = Model(graph);
    let x = model.0.value("x");
    let dims = Some(vec![Dim::Known(8), Dim::Known(3), Dim::Known(SIDE), Dim::Known(SIDE)]);
    let declared = Declared { element: Some(ElementType::F32), dims, ..Declared::default() };
    model.0.declare(x, Some(declared));
    model.0.inputs.push(x);
    let (a, b) = (model.branch("a", x, factors[0]), model.branch("b", x, factors[1]));
    let y = model.node("Add", "y", &[a, b]);
    model.0.outputs.push(y);
    model.0
}

/// Widths of the two branches at half of the multiply-accumulates.
fn widths(factors: [f32; 2]) -> [usize; 2] {
    let mut random = Random::new(3);
    let mut batch = || {
        let values: Vec<f32> = (0..8 * 3 * SIDE * SIDE).map(|_| random.normal() as f32).collect();
        let constant = Constant::from_f32s(&[8, 3, SIDE, SIDE], &values).unwrap();
        vec![Array::from_constant(&constant).unwrap()]
    };
    let params = PruneParams {
        budget: Budget { resource: Resource::Macs, limit: Limit::Keep(0.5) },
        widths: Widths::Auto,
        ..PruneParams::default()
    };
    let batches = (0..4).map(|_| batch()).collect();
    let graph = two_branches(factors);
    let plan = plan(&graph, &BTreeMap::new(), batches, &params.check().unwrap(), &Silent).unwrap();
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
