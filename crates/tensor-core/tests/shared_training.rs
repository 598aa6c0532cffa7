//! A training whose batches several processes share is that of one process, but for the order of sums.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/images.rs"]
mod images;
#[path = "common/threads.rs"]
mod threads;

use candle_core::Tensor;
use common::{Attributes, Draws, Model, ints};
use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tensor_core::data::Dataset;
use tensor_core::graph::{Dim, Graph};
use tensor_core::group::Group;
use tensor_core::journal::Identity;
use tensor_core::progress::{Progress, Silent};
use tensor_core::train::{
    Augment, Job, Keep, Length, Moment, Params, Plugin, Step, Trained, train,
};
use tensor_core::{ElementType, Error, Result};
use threads::together;

const BATCH: usize = 10;
const SAMPLES: usize = 64;

/// What only a whole batch tells: normalizations by its statistics, behind a sum too, and dropout, in a
/// network whose batch is free.
fn network() -> Graph {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[BATCH, 1, 8, 8]);
    let conv = |m: &mut Model, x, dims: [usize; 4], seed: u16| {
        let values = Draws::new(vec![seed, seed ^ 91, 7]).floats(dims.iter().product(), -0.4, 0.5);
        let channels = dims[0];
        let w = m.floats(&dims, &values);
        let y = m.node("Conv", &[x, w], vec![("pads", ints(&[1, 1, 1, 1]))]);
        let (scale, bias) = (m.floats(&[channels], &vec![1.0; channels]), vec![0.1; channels]);
        let bias = m.floats(&[channels], &bias);
        let mean = m.floats(&[channels], &vec![0.0; channels]);
        let variance = m.floats(&[channels], &vec![1.0; channels]);
        m.node("BatchNormalization", &[y, scale, bias, mean, variance], Attributes::new())
    };
    let y = conv(&mut m, x, [4, 1, 3, 3], 1);
    let y = m.node("Relu", &[y], Attributes::new());
    let z = conv(&mut m, y, [4, 4, 3, 3], 2);
    let y = m.node("Add", &[z, y], Attributes::new());
    let y = m.node("Relu", &[y], Attributes::new());
    let y = conv(&mut m, y, [6, 4, 3, 3], 3);
    let y = m.node("GlobalAveragePool", &[y], Attributes::new());
    let y = m.node("Flatten", &[y], Attributes::new());
    let ratio = m.floats(&[], &[0.2]);
    let y = m.node("Dropout", &[y, ratio], Attributes::new());
    let w = m.floats(&[6, 3], &Draws::new(vec![5]).floats(18, -0.5, 0.5));
    let b = m.floats(&[3], &[0.0; 3]);
    let y = m.node("Gemm", &[y, w, b], Attributes::new());
    let mut graph = m.finish(&[y]);
    let mut declared = graph.declared(x).unwrap().clone();
    declared.dims.as_mut().unwrap()[0] = Dim::Symbol("batch".to_owned());
    graph.declare(x, Some(declared));
    graph
}

/// Bright above, bright below, or grey; with noise.
fn images(graph: &Graph, count: usize, seed: u16) -> Dataset {
    images::images(graph, count, (seed, 0.3), images::kind)
}

fn params() -> Params {
    Params {
        length: Length::Steps(12),
        batch: BATCH,
        rate: 0.05,
        augment: Augment { flip: true, shift: 1 },
        evaluate_every: Some(4),
        seed: 3,
        ..Params::default()
    }
}

/// Where and how a run is.
struct Run<'a> {
    params: Params,
    folder: Option<&'a Path>,
    progress: &'a (dyn Progress + Sync),
    plugins: fn() -> Vec<Box<dyn Plugin>>,
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self { params: params(), folder: None, progress: &Silent, plugins: Vec::new }
    }
}

impl Run<'_> {
    fn train(&self, group: Group) -> Result<Trained> {
        let graph = network();
        let (set, held_out) = (images(&graph, SAMPLES, 5), images(&graph, 25, 6));
        train(Job {
            graph: &graph,
            data: &set,
            evaluation: Some(&held_out),
            params: &self.params,
            plugins: &mut (self.plugins)(),
            folder: self.folder,
            identity: Identity::new(),
            progress: self.progress,
            group,
        })
    }
}

/// All values of float initializers.
fn floats(graph: &Graph) -> Vec<f32> {
    let constants = graph.initializers().iter().map(|&value| graph.initializer(value).unwrap());
    let floats = constants.filter(|constant| constant.element() == ElementType::F32);
    floats.flat_map(|constant| constant.to_f32s().unwrap()).collect()
}

/// Largest difference, relative to the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let most = a.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / most
}

/// Twelve steps, each of which rounds sums of some hundred terms at 6e-8: differences stay near 1e-6. A
/// wrong statistic, draw or weight of a share shows at 1e-2.
const TOLERANCE: f32 = 2e-5;

#[test]
fn processes_train_what_one_does() {
    let variants = [
        params(),
        Params { keep: Keep::Best, average: Some(0.8), clip_norm: Some(0.5), ..params() },
        Params { label_smoothing: 0.1, augment: Augment::default(), ..params() },
    ];
    for params in variants {
        let run = Run { params, ..Run::default() };
        let alone = run.train(Group::alone()).unwrap();
        // Three processes have 4, 3 and 3 samples of each batch.
        for size in [2, 3] {
            let all = together(size, |group| run.train(group).unwrap());
            let found = floats(&all[0].graph);
            let off = difference(&floats(&alone.graph), &found);
            assert!(off < TOLERANCE, "{size} processes: off by {off}");
            assert!(off > 0.0 || size == 1, "the order of sums shows somewhere");
            for other in &all[1..] {
                assert_eq!(floats(&other.graph), found, "processes differ");
                assert_eq!(other.report.points, all[0].report.points);
            }
            for (a, b) in alone.report.points.iter().zip(&all[0].report.points) {
                let close = |a: f64, b: f64| (a - b).abs() < 1e-4;
                assert!(close(a.train_loss, b.train_loss), "{a:?} {b:?}");
                assert_eq!(a.train_accuracy, b.train_accuracy);
                let (a, b) = (a.evaluation.unwrap(), b.evaluation.unwrap());
                assert!(close(a.loss, b.loss) && a.accuracy == b.accuracy, "{a:?} {b:?}");
                assert_eq!(a.samples, b.samples);
            }
        }
    }
}

/// Asks one process to stop after some steps.
struct Stop(AtomicU64);

impl Progress for Stop {
    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

/// One process is asked to stop, all stop at the same step, and a run of another number of processes goes
/// on from there.
#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let whole = Run::default().train(Group::alone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let in_folder = || Run { folder: Some(folder.path()), ..Run::default() };
    let codes = together(2, |group| {
        let stop = Stop(AtomicU64::new(if group.is_first() { 0 } else { 6 }));
        let run = Run { progress: &stop, ..in_folder() };
        run.train(group).unwrap_err().code()
    });
    assert_eq!(codes, ["E0130"; 2]);
    let resumed = together(3, |group| in_folder().train(group).unwrap());
    // Checks come between steps and within the evaluation after the fourth.
    assert!(resumed[0].report.resumed_from.is_some_and(|step| (4..6).contains(&step)));
    let off = difference(&floats(&whole.graph), &floats(&resumed[0].graph));
    assert!(off < TOLERANCE, "off by {off}");
    // A finished run gives its result again, in one process too.
    let again = in_folder().train(Group::alone()).unwrap();
    assert_eq!(floats(&again.graph), floats(&resumed[0].graph));
    assert_eq!(again.report.points, resumed[2].report.points);
}

/// Notes every gradient of the first step.
struct Watch;

thread_local! {
    static SEEN: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Plugin for Watch {
    fn name(&self) -> &str {
        "watch"
    }

    fn wants_gradients(&self, at: Moment) -> bool {
        at.step == 0
    }

    fn gradient(&mut self, _name: &str, gradient: &Tensor) -> Result<()> {
        let values = gradient.flatten_all()?.to_vec1::<f32>()?;
        SEEN.with_borrow_mut(|seen| seen.extend(values));
        Ok(())
    }
}

#[test]
fn techniques_see_gradients_of_the_whole_batch() {
    let run = Run {
        plugins: || vec![Box::new(Watch)],
        params: Params { length: Length::Steps(1), ..params() },
        ..Run::default()
    };
    let seen = |group: Group| {
        run.train(group).unwrap();
        SEEN.take()
    };
    let alone = seen(Group::alone());
    assert!(alone.len() > 100);
    let both = together(2, seen);
    assert_eq!(both[0], both[1]);
    assert!(difference(&alone, &both[0]) < 1e-5);
}

/// A term of the loss that is no mean over samples.
struct Mixing;

impl Plugin for Mixing {
    fn name(&self) -> &str {
        "mixing"
    }

    fn mixes_samples(&self) -> Option<String> {
        Some("the spread".to_owned())
    }

    fn loss(&mut self, step: &Step) -> Result<Option<Tensor>> {
        Ok(Some((step.scores.sum(0)?.sqr()?.mean_all()? * 1e-3)?))
    }
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let refusal =
        |run: &Run| -> Error { together(3, |g| run.train(g).unwrap_err()).swap_remove(1) };
    let mixing = Run { plugins: || vec![Box::new(Mixing)], ..Run::default() };
    let error = refusal(&mixing);
    assert_eq!(error.code(), "E0621");
    assert!(error.message().contains("the spread"), "{error}");
    mixing.train(Group::alone()).unwrap();
    let small = Run { params: Params { batch: 2, ..params() }, ..Run::default() };
    assert_eq!(refusal(&small).code(), "E0621");
}
