//! Normalizations behind folded convolutions: an identity when they are put there, gone without a
//! trace when they are folded, and trained in between.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/images.rs"]
mod images;

use candle_core::{Device, Tensor};
use common::{Attributes, Draws, Model, config, int, ints};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tensor_core::data::Dataset;
use tensor_core::graph::Graph;
use tensor_core::group::Group;
use tensor_core::journal::Identity;
use tensor_core::progress::{Progress, Silent};
use tensor_core::rewrite::{
    OutputStatistics, apply, fold_batch_norms, insert_batch_norm, lacks_batch_norm,
};
use tensor_core::run::{Array, Session};
use tensor_core::train::{Augment, Job, Length, Params, Trained, train};
use tensor_core::{ElementType, NodeId, Result, ValueId};

const BATCH: usize = 16;

fn random(m: &mut Model, draws: &mut Draws, dims: &[usize]) -> ValueId {
    let bound = if dims.len() == 1 { 0.5 } else { 0.8 };
    let mut values = draws.floats(dims.iter().product(), -bound, bound);
    // Sometimes a channel that is dead.
    if draws.below(4) == 3 {
        let inner: usize = dims[1..].iter().product();
        values[..inner].fill(0.0);
    }
    m.floats(dims, &values)
}

/// Values that describe structure: nodes, and constants with their shapes, in order.
fn structure(graph: &Graph) -> Vec<String> {
    let names = |values: &[Option<ValueId>]| -> Vec<String> {
        values.iter().map(|v| v.map_or(String::new(), |v| graph.name(v).to_owned())).collect()
    };
    let nodes = graph.nodes.iter().map(|node| {
        format!(
            "{} {} {:?} {:?} {:?}",
            node.name,
            node.op,
            names(&node.inputs),
            names(&node.outputs),
            node.attributes
        )
    });
    let constants = graph.initializers().iter().map(|&value| {
        format!("{} {:?}", graph.name(value), graph.initializer(value).unwrap().dims())
    });
    nodes.chain(constants).collect()
}

/// A random chain of convolutions of all kinds, with and without biases and normalizations, some
/// with a residual, and the number of those that lack a normalization.
fn chain(draws: &mut Draws) -> (Graph, usize) {
    let mut m = Model::new(17);
    let mut channels = 4;
    let mut x = m.input(ElementType::F32, &[2, channels, 5, 5]);
    let mut lacking = 0;
    for _ in 0..1 + draws.below(4) {
        let kind = draws.below(4);
        let pads = ("pads", ints(&[1; 4]));
        let (op, dims, groups, to) = match kind {
            0 => ("Conv", [channels + 2, channels, 3, 3], 1, channels + 2),
            1 => ("Conv", [channels, 1, 3, 3], channels, channels),
            2 => ("Conv", [channels, channels / 2, 3, 3], 2, channels),
            _ => ("ConvTranspose", [channels, channels + 2, 3, 3], 1, channels + 2),
        };
        let mut inputs = vec![x, random(&mut m, draws, &dims)];
        let has_bias = draws.coin();
        if has_bias {
            inputs.push(random(&mut m, draws, &[to]));
        }
        let mut y = m.node(op, &inputs, vec![pads, ("group", int(groups as i64))]);
        let has_norm = draws.below(3) == 2;
        if has_norm {
            let ones = vec![1.0; to];
            let [a, b, c, d] = [0; 4].map(|_| m.floats(&[to], &ones));
            y = m.node("BatchNormalization", &[y, a, b, c, d], Attributes::new());
        }
        lacking += usize::from(has_bias && !has_norm);
        if to == channels && draws.coin() {
            y = m.node("Add", &[x, y], Attributes::new());
        }
        x = m.node("Relu", &[y], Attributes::new());
        channels = to;
    }
    // This one gives the output of the graph.
    let inputs = [x, random(&mut m, draws, &[3, channels, 1, 1]), random(&mut m, draws, &[3])];
    let y = m.node("Conv", &inputs, Attributes::new());
    (m.finish(&[y]), lacking)
}

fn output(graph: &Graph, x: &Tensor) -> Vec<f32> {
    let inputs = [(graph.inputs[0], Array::float(x.clone()))];
    Session::new(graph).unwrap().run(&inputs).unwrap()[0].to_f32s().unwrap()
}

/// Largest difference relative to the largest value.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let range = a.iter().fold(1e-3_f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / range
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn an_identity_until_it_is_folded_without_a_trace(
        list in proptest::collection::vec(any::<u16>(), 60),
    ) {
        let mut draws = Draws::new(list);
        let (graph, lacking) = chain(&mut draws);
        let layers = lacks_batch_norm(&graph).unwrap();
        prop_assert_eq!(layers.len(), lacking);
        let statistics = |&id: &NodeId| {
            let bias = graph.initializer(graph.node(id).input(2).unwrap()).unwrap();
            let mut floats = |low| -> Vec<f64> {
                draws.floats(bias.count(), low, 2.0).into_iter().map(f64::from).collect()
            };
            let (mean, mut variance) = (floats(-2.0), floats(0.0));
            variance[0] = 0.0;
            (id, OutputStatistics { mean, variance })
        };
        let measured: Vec<_> = layers.iter().map(statistics).collect();
        let normalized = apply(&graph, &insert_batch_norm(&graph, &measured, 0.9).unwrap()).unwrap();
        prop_assert_eq!(normalized.nodes.len(), graph.nodes.len() + lacking);
        prop_assert!(lacks_batch_norm(&normalized).unwrap().is_empty());
        let x = Tensor::from_vec(draws.floats(200, -1.0, 1.0), (2, 4, 5, 5), &Device::Cpu).unwrap();
        let expected = output(&graph, &x);
        // A few roundings in each of at most five layers.
        prop_assert!(distance(&expected, &output(&normalized, &x)) < 2e-5);
        let added = normalized.node_ids().filter(|&id| {
            let name = &normalized.node(id).name;
            graph.nodes.iter().all(|node| node.name != *name)
        });
        let edits = fold_batch_norms(&normalized, &added.collect::<Vec<_>>()).unwrap();
        let folded = apply(&normalized, &edits).unwrap();
        prop_assert_eq!(structure(&folded), structure(&graph));
        prop_assert!(distance(&expected, &output(&folded, &x)) < 2e-5);
    }
}

/// Each channel's weights have He's squared length then, and dead ones stay.
#[test]
fn the_length_of_weights_becomes_that_of_initialization() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[1, 1, 3, 3]);
    let w = m.floats(&[2, 1, 1, 2], &[30.0, 40.0, 0.0, 0.0]);
    let b = m.floats(&[2], &[5.0, 0.5]);
    let y = m.node("Conv", &[x, w, b], Attributes::new());
    let y = m.node("Relu", &[y], Attributes::new());
    let graph = m.finish(&[y]);
    let statistics = OutputStatistics { mean: vec![7.0, 0.5], variance: vec![100.0, 0.0] };
    let layers = [(NodeId::from_index(0), statistics)];
    let graph = apply(&graph, &insert_batch_norm(&graph, &layers, 0.9).unwrap()).unwrap();
    let read = |node: usize, input: usize| {
        let value = graph.nodes[node].input(input).unwrap();
        graph.initializer(value).unwrap().to_f32s().unwrap()
    };
    let gain = 2_f32.sqrt() / 50.0;
    let close = |found: Vec<f32>, expected: &[f32]| {
        let wrong = found.iter().zip(expected).any(|(a, b)| (a - b).abs() > 1e-6 * b.abs());
        assert!(!wrong && found.len() == expected.len(), "{found:?} instead of {expected:?}");
    };
    close(read(0, 1), &[30.0 * gain, 40.0 * gain, 0.0, 0.0]);
    close(read(0, 2), &[5.0 * gain, 0.5]);
    close(read(1, 1), &[(100.0 + 1e-5 / gain.powi(2)).sqrt(), 1e-5_f32.sqrt()]);
    close(read(1, 2), &[7.0, 0.5]);
    close(read(1, 3), &[7.0 * gain, 0.5]);
    close(read(1, 4), &[100.0 * gain.powi(2), 0.0]);
    let wrong = [(NodeId::from_index(0), OutputStatistics::default())];
    assert!(insert_batch_norm(&graph, &wrong, 0.9).is_err());
}

/// Two convolutions and a depthwise one with a residual, a gate of single values, a classifier
/// that is a convolution too.
fn network() -> Graph {
    let mut m = Model::new(17);
    let mut draws = Draws::new(vec![1, 92, 3, 44, 5, 66, 7, 88, 9, 10, 11, 12]);
    let mut conv = |m: &mut Model, x, dims: [usize; 4], pad: i64| {
        let values = draws.floats(dims.iter().product(), -0.4, 0.5);
        let (w, b) = (m.floats(&dims, &values), m.floats(&[dims[0]], &vec![0.1; dims[0]]));
        let groups = if dims[1] == 1 { dims[0] } else { 1 };
        m.node("Conv", &[x, w, b], vec![("pads", ints(&[pad; 4])), ("group", int(groups as i64))])
    };
    let x = m.input(ElementType::F32, &[BATCH, 1, 8, 8]);
    let y = m.node("Concat", &[x, x], vec![("axis", int(1))]);
    let y = conv(&mut m, y, [6, 2, 3, 3], 1);
    let first = m.node("Relu", &[y], Attributes::new());
    let y = conv(&mut m, first, [6, 1, 3, 3], 1);
    let y = m.node("Add", &[first, y], Attributes::new());
    let y = m.node("Relu", &[y], Attributes::new());
    let gate = m.node("GlobalAveragePool", &[y], Attributes::new());
    let gate = conv(&mut m, gate, [6, 6, 1, 1], 0);
    let gate = m.node("Sigmoid", &[gate], Attributes::new());
    let y = m.node("Mul", &[y, gate], Attributes::new());
    let window = vec![("kernel_shape", ints(&[2, 2])), ("strides", ints(&[2, 2]))];
    let y = m.node("MaxPool", &[y], window);
    let y = conv(&mut m, y, [8, 6, 3, 3], 1);
    let y = m.node("Relu", &[y], Attributes::new());
    let y = conv(&mut m, y, [3, 8, 4, 4], 0);
    let y = m.node("Flatten", &[y], Attributes::new());
    m.finish(&[y])
}

/// Bright above, bright below, or grey; with noise.
fn images(graph: &Graph, count: usize, seed: u16) -> Dataset {
    images::images(graph, count, (seed, 0.3), images::kind)
}

fn params() -> Params {
    Params {
        length: Length::Epochs(4),
        batch: BATCH,
        rate: 0.05,
        restore_norms: true,
        augment: Augment { flip: true, shift: 1 },
        ..Params::default()
    }
}

fn run(params: &Params, folder: Option<&Path>, progress: &dyn Progress) -> Result<Trained> {
    let graph = network();
    let (set, held_out) = (images(&graph, 100, 5), images(&graph, 48, 6));
    train(Job {
        graph: &graph,
        data: &set,
        evaluation: Some(&held_out),
        params,
        plugins: &mut [],
        folder,
        identity: Identity::new(),
        progress,
        group: Group::alone(),
    })
}

fn weights(graph: &Graph) -> Vec<Vec<u8>> {
    let values = graph.initializers().iter();
    values.map(|&value| graph.initializer(value).unwrap().bytes().to_vec()).collect()
}

#[test]
fn the_trained_model_has_the_structure_of_the_given_one() {
    let graph = network();
    let longer = Params { length: Length::Epochs(8), ..params() };
    let trained = run(&longer, None, &Silent).unwrap();
    assert_eq!(structure(&trained.graph), structure(&graph));
    // Not the gate, which gives one value per channel, nor the classifier.
    assert_eq!(trained.report.planned.restored_norms, ["Conv_1", "Conv_3", "Conv_11"]);
    assert!(trained.report.planned.frozen.is_empty());
    let score = trained.report.kept.unwrap().evaluation.unwrap();
    assert!(score.accuracy > 0.9, "{}", score.accuracy);
    let before = weights(&graph);
    assert!(before.iter().zip(weights(&trained.graph)).all(|(a, b)| *a != b));
    // What was evaluated in the run is what comes out of it: at a rate that changes nothing and
    // without normalizations, one more step gives the same loss.
    let still = Params { rate: 1e-30, restore_norms: false, length: Length::Steps(1), ..params() };
    let (set, held_out) = (images(&graph, 100, 5), images(&graph, 48, 6));
    let again = train(Job {
        graph: &trained.graph,
        data: &set,
        evaluation: Some(&held_out),
        params: &still,
        plugins: &mut [],
        folder: None,
        identity: Identity::new(),
        progress: &Silent,
        group: Group::alone(),
    });
    let loss = again.unwrap().report.kept.unwrap().evaluation.unwrap().loss;
    assert!((loss - score.loss).abs() < 1e-5, "{loss} instead of {}", score.loss);
}

#[test]
fn frozen_layers_and_small_batches_are_left_alone() {
    let restored = |params: Params| run(&params, None, &Silent).unwrap();
    let freeze = |pattern: &str| Params { freeze: vec![pattern.to_owned()], ..params() };
    let frozen = restored(freeze("Conv_3"));
    assert_eq!(frozen.report.planned.restored_norms, ["Conv_1", "Conv_11"]);
    let layer = &network().nodes[3];
    for input in [1, 2] {
        let value = layer.input(input).unwrap();
        assert_eq!(frozen.graph.initializer(value), network().initializer(value));
    }
    // Half frozen: a normalization would change the frozen bias.
    let name = network().name(network().nodes[1].input(2).unwrap()).to_owned();
    let frozen = restored(freeze(&name));
    assert_eq!(frozen.report.planned.restored_norms, ["Conv_3", "Conv_11"]);
    assert_eq!(frozen.report.planned.frozen, [name]);
    let warnings = Warnings::default();
    let small = Params { batch: BATCH - 1, length: Length::Steps(1), ..params() };
    let small = run(&small, None, &warnings).unwrap();
    assert!(small.report.planned.restored_norms.is_empty());
    let said = warnings.0.lock().unwrap();
    assert!(matches!(&said[..], [one] if one.contains("give 16 samples or more")), "{said:?}");
}

/// Keeps what is warned of.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// The normalization of a layer learns at the rate of the layer.
#[test]
fn rates_of_layers_hold_for_their_normalizations() {
    let changed = |factor: f64| {
        let rates = vec![("Conv_1".to_owned(), factor)];
        let length = Length::Steps(2);
        let params = Params { rates, length, weight_decay: 0.0, ..params() };
        let trained = run(&params, None, &Silent).unwrap();
        let bias = network().nodes[1].input(2).unwrap();
        trained.graph.initializer(bias).unwrap().to_f32s().unwrap()
    };
    let (still, full) = (changed(1e-20), changed(1.0));
    // The folded bias moves with the statistics of the batches even then, but less.
    let moved = |values: &[f32]| values.iter().map(|v| (v - 0.1).abs()).sum::<f32>();
    assert!(moved(&full) > moved(&still), "{full:?} {still:?}");
}

#[test]
fn one_seed_gives_the_same_bytes_with_any_number_of_threads() {
    let bytes = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| weights(&run(&params(), None, &Silent).unwrap().graph))
    };
    let first = bytes(1);
    assert_eq!(first, bytes(1));
    assert_eq!(first, bytes(2));
}

/// Stops after so many questions whether to go on.
struct Stop(AtomicU64);

impl Progress for Stop {
    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

#[test]
fn an_interrupted_run_ends_in_the_same_bytes() {
    for average in [None, Some(0.8)] {
        let params = Params { average, checkpoint_every: Some(5), ..params() };
        let whole = run(&params, None, &Silent).unwrap();
        for stop in [2, 9, 13, 25] {
            let folder = tempfile::tempdir().unwrap();
            let stopped = run(&params, Some(folder.path()), &Stop(AtomicU64::new(stop)));
            assert_eq!(stopped.map(|_| ()).unwrap_err().code(), "E0130");
            let resumed = run(&params, Some(folder.path()), &Silent).unwrap();
            assert_eq!(weights(&whole.graph), weights(&resumed.graph), "stopped at {stop}");
            assert_eq!(whole.report.points, resumed.report.points);
        }
    }
}
