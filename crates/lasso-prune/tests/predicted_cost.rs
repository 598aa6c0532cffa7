//! What a plan says that the model will cost is what the cut model costs.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::model::Model;
use lasso_prune::{Budget, Limit, Predicted, PruneParams, Streams, plan, prune};
use std::collections::BTreeMap;
use tensor_core::cost::{Resource, cost};
use tensor_core::graph::{Attribute, Graph};
use tensor_core::progress::Silent;
use tensor_core::run::{Array, infer};
use tensor_core::{Constant, ElementType, Node};

const BATCH: usize = 8;

fn total(graph: &Graph) -> Predicted {
    let cost = cost(graph, &infer(graph, &BTreeMap::new()).unwrap()).unwrap();
    let (macs, parameters, bytes) = (cost.macs, cost.parameters, cost.parameter_bytes);
    Predicted { macs, parameters, bytes }
}

/// Prunes, and compares both predictions with the cost of what comes out.
fn check(name: &str, (graph, batches): (Graph, Vec<Vec<Array>>), params: PruneParams) -> f64 {
    let shapes = BTreeMap::new();
    let params = params.check().unwrap();
    let planned = plan(&graph, &shapes, batches.clone(), &params, &Silent).unwrap();
    let pruned = prune(&graph, &shapes, batches, &params, &Silent).unwrap();
    let actual = total(&pruned.graph);
    assert_eq!(pruned.report.predicted, actual, "{name}");
    let (macs, parameters) = (planned.macs.after, planned.parameters.after);
    let plan = Predicted { macs, parameters, bytes: planned.bytes.after };
    assert_eq!(plan, actual, "{name}: dry run");
    actual.macs as f64 / total(&graph).macs as f64
}

/// A random network of layers with and without bias, shortcuts, branches, depthwise layers and
/// weights that two layers share.
fn random_network(seed: u64) -> (Graph, Vec<Vec<Array>>) {
    let (mut model, x) = Model::new(seed, &[BATCH, 3, 6, 6]);
    let width = 4 + (model.random.bits() % 9) as usize;
    let weight = model.weight(&[width, 3, 3, 3]);
    let mut stream = model.conv(x, weight, None);
    let shared = model.weight(&[width, width, 1, 1]);
    for _ in 0..2 + model.random.bits() % 4 {
        let inner = 4 + (model.random.bits() % 13) as usize;
        let first = model.weight(&[inner, width, 1, 1]);
        let bias = (model.random.bits() % 2 == 0).then(|| model.weight(&[inner]));
        let hidden = model.conv(stream, first, bias);
        stream = match model.random.bits() % 4 {
            0 => {
                let second = model.weight(&[width, inner, 3, 3]);
                let branch = model.conv(hidden, second, None);
                model.node("Add", &[stream, branch], &[])
            }
            1 => {
                let (second, third) =
                    (model.weight(&[inner, width, 3, 3]), model.weight(&[width, 2 * inner, 1, 1]));
                let other = model.conv(stream, second, None);
                let both = model.node("Concat", &[other, hidden], &[("axis", Attribute::Int(1))]);
                model.conv(both, third, None)
            }
            2 => {
                let depthwise = model.weight(&[inner, 1, 3, 3]);
                let pads = Attribute::Ints(vec![1; 4]);
                let group = Attribute::Int(inner as i64);
                let deep =
                    model.node("Conv", &[hidden, depthwise], &[("pads", pads), ("group", group)]);
                let second = model.weight(&[width, inner, 1, 1]);
                model.conv(deep, second, None)
            }
            _ => model.conv(stream, shared, None),
        };
    }
    let last = model.weight(&[5, width, 1, 1]);
    let y = model.conv(stream, last, None);
    model.finish(y)
}

/// The float initializers as 16-bit floats behind a Cast each.
fn in_halves(graph: &mut Graph) {
    let casts: Vec<Node> = graph
        .initializers()
        .to_vec()
        .into_iter()
        .map(|value| {
            let stored = graph.value(&format!("{}.half", graph.name(value).to_owned()));
            let half = graph.initializer(value).unwrap().to_element(ElementType::F16).unwrap();
            graph.remove_initializer(value);
            graph.set_initializer(stored, half);
            let mut cast =
                Node::new(&format!("{}.cast", graph.name(value)), "Cast", &[stored], &[value]);
            cast.attributes.set("to", Attribute::Int(1));
            cast
        })
        .collect();
    graph.nodes.splice(0..0, casts);
}

/// Weights stored as halves are pruned like others, and stay halves.
#[test]
fn halves_behind_casts_are_weights() {
    for seed in 0..6 {
        let (mut graph, batches) = random_network(seed);
        in_halves(&mut graph);
        let streams = if seed % 3 == 0 { Streams::Sample } else { Streams::Auto };
        let budget = Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.6) };
        let params = PruneParams { budget, streams, ..PruneParams::default() };
        let name = format!("network {seed}");
        let kept = check(&name, (graph.clone(), batches.clone()), params.clone());
        assert!(kept <= 0.6, "{name}: {kept}");
        let params = params.check().unwrap();
        let pruned = prune(&graph, &BTreeMap::new(), batches, &params, &Silent).unwrap().graph;
        let halves = |graph: &Graph| {
            let constants = graph.initializers().iter().map(|&v| graph.initializer(v).unwrap());
            constants.filter(|constant| constant.element() == ElementType::F16).count()
        };
        // Only what two layers share may get a copy of another type.
        assert!(halves(&pruned) + 1 >= halves(&graph), "{name}");
        assert!(total(&pruned).bytes < total(&graph).bytes, "{name}");
    }
}

#[test]
fn random_networks_cost_what_was_predicted() {
    for seed in 0..24 {
        let streams = if seed % 3 == 0 { Streams::Sample } else { Streams::Auto };
        let resource = [Resource::Macs, Resource::Parameters, Resource::Bytes][seed as usize % 3];
        let budget = Budget { price: resource.into(), limit: Limit::Keep(0.6) };
        let params = PruneParams { budget, streams, ..PruneParams::default() };
        check(&format!("network {seed}"), random_network(seed), params);
    }
}

/// `softmax(x x^T) (x V) W`: the channels of `x V` count in a product of two activations.
fn attention() -> (Graph, Vec<Vec<Array>>) {
    const LENGTH: usize = 48;
    let (mut model, x) = Model::new(5, &[BATCH, LENGTH, 4]);
    let transposed = model.node("Transpose", &[x], &[("perm", Attribute::Ints(vec![0, 2, 1]))]);
    let scores = model.node("MatMul", &[x, transposed], &[]);
    let scores = model.node("Softmax", &[scores], &[("axis", Attribute::Int(-1))]);
    let weight = model.weight(&[4, 16]);
    let values = model.node("MatMul", &[x, weight], &[]);
    let mixed = model.node("MatMul", &[scores, values], &[]);
    let mixed = model.node("Relu", &[mixed], &[]);
    let weight = model.weight(&[16, 4]);
    let y = model.node("MatMul", &[mixed, weight], &[]);
    model.finish(y)
}

/// Most of the operations are in the product of activations, so a split that takes them for fixed
/// cannot meet this budget.
#[test]
fn products_of_activations_count_in_the_split() {
    let budget = Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.6) };
    let params = PruneParams { budget, ..PruneParams::default() };
    let kept = check("attention", attention(), params);
    assert!((0.5..=0.6).contains(&kept), "{kept}");
}

/// A layer of 16 channels, of which as many are copies of others as `distinct` leaves, then one of
/// 48 that are all different; the first is the dearer one.
fn two_layers(distinct: usize) -> (Graph, Vec<Vec<Array>>) {
    const WIDTH: usize = 16;
    let (mut model, x) = Model::new(9, &[BATCH, WIDTH, 6, 6]);
    // Channel i is input i, or a copy of an earlier one.
    let mut copies = vec![0.0; WIDTH * WIDTH];
    (0..WIDTH).for_each(|i| copies[i * WIDTH + i % distinct] = 1.0);
    let weight = model.weight(&[WIDTH, WIDTH, 1, 1]);
    let constant = Constant::from_f32s(&[WIDTH, WIDTH, 1, 1], &copies).unwrap();
    model.graph.set_initializer(weight, constant);
    let mut stream = model.conv(x, weight, None);
    for dims in [[WIDTH, WIDTH, 3, 3], [3 * WIDTH, WIDTH, 1, 1]] {
        let weight = model.weight(&dims);
        stream = model.conv(stream, weight, None);
    }
    let weight = model.weight(&[WIDTH, 3 * WIDTH, 1, 1]);
    let y = model.node("Conv", &[stream, weight], &[]);
    model.finish(y)
}

/// Less is rounded where that buys accuracy and still saves time, and only there.
#[test]
fn the_multiple_follows_what_it_costs() {
    let rounded = |distinct: usize, keep: f64, may_round_less: bool| {
        let (graph, batches) = two_layers(distinct);
        let budget = Budget { price: Resource::Macs.into(), limit: Limit::Keep(keep) };
        let params = PruneParams { budget, round_to: 16, may_round_less, ..PruneParams::default() };
        let params = params.check().unwrap();
        let plan = plan(&graph, &BTreeMap::new(), batches, &params, &Silent).unwrap();
        (plan.round_to, plan.rounding.unwrap())
    };
    // Multiples of 16 leave the first layer alone and take two thirds of the other; half of the
    // first layer's channels are copies, so multiples of 8 lose nothing.
    let (to, rounding) = rounded(8, 0.8, true);
    assert_eq!(to, 8);
    assert_eq!(rounding.tried.iter().map(|trial| trial.to).collect::<Vec<_>>(), [16, 8, 4]);
    assert!(rounding.error < 0.01 * rounding.tried[0].error);
    assert_eq!(rounded(8, 0.8, false).0, 16);
    // Three channels of 16 fewer are filled up again, so that nothing would be saved.
    let (to, rounding) = rounded(16, 0.97, true);
    assert!(rounding.tried[2].error < 0.5 * rounding.tried[0].error);
    assert!(rounding.tried[2].blocked_macs > 0.99);
    assert_eq!(to, 16);
}

/// Branches of one channel each keep it, which costs more than the widths say; a smaller multiple
/// then meets what a larger one misses.
#[test]
fn a_multiple_that_misses_the_budget_is_not_taken() {
    let (mut model, x) = Model::new(4, &[BATCH, 3, 6, 6]);
    let mut branches = Vec::new();
    for width in [1, 1, 1, 1, 20] {
        let weight = model.weight(&[width, 3, 3, 3]);
        branches.push(model.conv(x, weight, None));
    }
    let both = model.node("Concat", &branches, &[("axis", Attribute::Int(1))]);
    let weight = model.weight(&[16, 24, 3, 3]);
    let hidden = model.conv(both, weight, None);
    let weight = model.weight(&[4, 16, 1, 1]);
    let y = model.conv(hidden, weight, None);
    let budget = Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.7) };
    let params =
        PruneParams { budget, round_to: 16, may_round_less: true, ..PruneParams::default() };
    let kept = check("branches", model.finish(y), params);
    assert!(kept <= 0.7, "{kept}");
}
