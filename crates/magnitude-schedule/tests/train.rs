//! The plug-in in the training loop.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, reason = "tests")]

use magnitude_schedule::train::{SparseParams, Sparsifier, When, lost_zeros, zeros_of};
use magnitude_schedule::{Distribution, Pattern};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tensor_core::data::{self, Dataset, InputSpec, Options, Preprocess};
use tensor_core::group::Group;
use tensor_core::journal::Identity;
use tensor_core::progress::{Progress, Silent};
use tensor_core::train::{Job, Length, Params, Plugin, Trained, train};
use tensor_core::{Constant, ErrorKind, Graph, Result, zoo};

fn network() -> Graph {
    let input = Some([1, 28, 28]);
    let options = zoo::Options { input, width: 0.5, ..zoo::Options::default() };
    zoo::architecture("lenet").unwrap().build(&options).unwrap()
}

fn images() -> Dataset {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let preprocess = Preprocess::read(&root.join("preprocess/fmnist.json")).unwrap();
    let options = Options { preprocess, inputs: InputSpec::of(&network()), ..Options::default() };
    data::open(&root.join("data/train-1k-images-idx3-ubyte.gz"), &options).unwrap()
}

fn run(
    params: SparseParams,
    length: (u64, Option<f64>),
    watched: (Option<&Path>, &dyn Progress),
) -> Result<Trained> {
    run_on(&network(), params, length, watched)
}

fn run_on(
    graph: &Graph,
    params: SparseParams,
    (steps, average): (u64, Option<f64>),
    (folder, progress): (Option<&Path>, &dyn Progress),
) -> Result<Trained> {
    let mut plugins: Vec<Box<dyn Plugin>> = vec![Box::new(Sparsifier::new(params).unwrap())];
    let length = Length::Steps(steps);
    let rate = 0.02;
    let params = Params { length, batch: 50, rate, average, ..Params::default() };
    train(Job {
        graph,
        data: &images().first(400),
        evaluation: None,
        params: &params,
        plugins: &mut plugins,
        folder,
        identity: Identity::new(),
        progress,
        group: Group::alone(),
    })
}

fn sparse(sparsity: f64) -> SparseParams {
    let every = Some(When::Step(2));
    SparseParams { sparsity: Some(sparsity), every, ..SparseParams::default() }
}

/// Zeros and weights of the pruned layers.
fn pruned(graph: &Graph, params: &SparseParams) -> (usize, usize) {
    let layers = zeros_of(graph, params).unwrap();
    let pruned = layers.iter().filter(|layer| layer.dense.is_none());
    pruned.fold((0, 0), |(z, w), layer| (z + layer.zeros, w + layer.weights))
}

/// Stops at a step.
struct StopAt(AtomicUsize);

impl Progress for StopAt {
    fn advance(&self, _: usize, _: &str) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

#[test]
fn every_distribution_ends_exactly() {
    for distribution in
        [Distribution::Uniform, Distribution::Global, Distribution::Layerwise, Distribution::Erk]
    {
        // With a moving average, which is zero only where masks make it so.
        let params = SparseParams { distribution, ..sparse(0.77) };
        let trained = run(params.clone(), (12, Some(0.9)), (None, &Silent)).unwrap();
        let (zeros, weights) = pruned(&trained.graph, &params);
        assert_eq!(zeros, (0.77 * weights as f64).round() as usize, "{distribution:?}");
    }
}

#[test]
fn an_interrupted_run_gives_the_same_bytes() {
    for params in [
        sparse(0.7),
        SparseParams { regrow: Some(0.3), ..sparse(0.7) },
        SparseParams { pattern: Pattern::NM(2, 4), ..sparse(0.5) },
    ] {
        let whole = run(params.clone(), (16, None), (None, &Silent)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let stop = StopAt(AtomicUsize::new(7));
        let error = run(params.clone(), (16, None), (Some(folder.path()), &stop)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        let resumed = run(params, (16, None), (Some(folder.path()), &Silent)).unwrap();
        assert_eq!(resumed.report.resumed_from, Some(7));
        for &value in whole.graph.initializers() {
            let both = [&whole, &resumed].map(|t| t.graph.initializer(value).unwrap().bytes());
            assert!(both[0] == both[1], "{}", whole.graph.name(value));
        }
    }
}

/// What comes back makes another mask than what only goes.
#[test]
fn weights_come_back_where_asked() {
    let plain = run(sparse(0.7), (16, None), (None, &Silent)).unwrap();
    let params = SparseParams { regrow: Some(0.3), ..sparse(0.7) };
    let moved = run(params.clone(), (16, None), (None, &Silent)).unwrap();
    assert_eq!(pruned(&plain.graph, &params), pruned(&moved.graph, &params));
    let differ = plain.graph.initializers().iter().any(|&value| {
        let zeros = |graph: &Graph| {
            let values = graph.initializer(value).unwrap().to_f32s().unwrap_or_default();
            values.iter().map(|v| *v == 0.0).collect::<Vec<_>>()
        };
        zeros(&plain.graph) != zeros(&moved.graph)
    });
    assert!(differ);
}

/// The values of a constant, each changed by its place.
fn changed(graph: &mut Graph, name: &str, change: impl Fn(usize, f32) -> f32) {
    let value = graph.find(name).unwrap();
    let constant = graph.initializer(value).unwrap();
    let values = constant.to_f32s().unwrap().into_iter().enumerate();
    let values: Vec<f32> = values.map(|(i, value)| change(i, value)).collect();
    let constant = Constant::from_f32s(constant.dims(), &values).unwrap();
    graph.set_initializer(value, constant);
}

/// The network with three fifths of its matrices and kernels at zero.
fn with_holes() -> Graph {
    let mut graph = network();
    for layer in zeros_of(&graph, &SparseParams::default()).unwrap() {
        let is_hole = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 16 < 39_321;
        changed(&mut graph, &layer.weight, |i, value| if is_hole(i) { 0.0 } else { value });
    }
    graph
}

#[test]
fn kept_zeros_never_come_back() {
    let graph = with_holes();
    for params in [
        SparseParams::default(),
        SparseParams { regrow: Some(0.5), ..sparse(0.8) },
        SparseParams { regrow: Some(0.5), pattern: Pattern::NM(2, 4), ..sparse(0.5) },
        SparseParams { pattern: Pattern::Block(1, 4), ..sparse(0.7) },
    ] {
        let params = SparseParams { keep_zeros: true, ..params };
        let done = run_on(&graph, params.clone(), (12, Some(0.9)), (None, &Silent)).unwrap();
        assert_eq!(lost_zeros(&graph, &done.graph).unwrap(), [], "{params:?}");
        let (zeros, weights) = pruned(&done.graph, &params);
        if params.sparsity == Some(0.8) {
            assert_eq!(zeros, (0.8 * weights as f64).round() as usize);
        }
    }
    // Without, they do.
    let done = run_on(&graph, SparseParams::default(), (2, None), (None, &Silent)).unwrap();
    assert_eq!(lost_zeros(&graph, &done.graph).unwrap().len(), 4);
}

/// As many zeros elsewhere are not the same zeros.
#[test]
fn moved_zeros_are_lost() {
    let graph = with_holes();
    let name = zeros_of(&graph, &SparseParams::default()).unwrap()[1].weight.clone();
    let values = graph.initializer(graph.find(&name).unwrap()).unwrap().to_f32s().unwrap();
    let zero = values.iter().position(|&value| value == 0.0).unwrap();
    let other = values.iter().position(|&value| value != 0.0).unwrap();
    let mut moved = graph.clone();
    changed(&mut moved, &name, |i, value| match i {
        _ if i == zero => 1.0,
        _ if i == other => 0.0,
        _ => value,
    });
    assert_eq!(lost_zeros(&graph, &moved).unwrap(), [(name, 1)]);
}
