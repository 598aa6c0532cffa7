//! The training loop: determinism, resume, plug-ins, what is trained, and refusals.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/images.rs"]
mod images;

use candle_core::{Device, Tensor, Var};
use common::{Attributes, Draws, Model, ints};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use tensor_core::data::Dataset;
use tensor_core::graph::{Attribute, Graph, Node};
use tensor_core::group::Group;
use tensor_core::journal::Identity;
use tensor_core::progress::{Progress, Silent};
use tensor_core::rewrite::Edit;
use tensor_core::train::{
    Augment, Extra, Job, Keep, Length, Mode, Moment, Optimizer, Parameters, Params, Plugin,
    Schedule, Step, Trained, plan, prepare, train,
};
use tensor_core::{Constant, ElementType, Error, ErrorKind, Result, ValueId};

const BATCH: usize = 8;

fn weights(model: &mut Model, dims: &[usize], seed: u16) -> ValueId {
    let count = dims.iter().product();
    let values = Draws::new(vec![seed, seed ^ 91, 7]).floats(count, -0.4, 0.5);
    model.floats(dims, &values)
}

/// Convolution, normalization (unless folded), rectifier, pooling, dropout, classifier with
/// softmax, over a reshape and a clip with constants that are no parameters.
fn network(folded: bool) -> Graph {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[BATCH, 1, 8, 8]);
    let (w, b) = (weights(&mut m, &[4, 1, 3, 3], 1), weights(&mut m, &[4], 2));
    let pads = vec![("pads", ints(&[1, 1, 1, 1]))];
    let mut y = m.node("Conv", &[x, w, b], pads);
    if !folded {
        let (scale, bias) = (m.floats(&[4], &[1.0; 4]), m.floats(&[4], &[0.0; 4]));
        let (mean, variance) = (m.floats(&[4], &[0.0; 4]), m.floats(&[4], &[1.0; 4]));
        y = m.node("BatchNormalization", &[y, scale, bias, mean, variance], Attributes::new());
    }
    let (low, high) = (m.floats(&[], &[0.0]), m.floats(&[], &[6.0]));
    let y = m.node("Clip", &[y, low, high], Attributes::new());
    let window = vec![("kernel_shape", ints(&[4, 4])), ("strides", ints(&[4, 4]))];
    let y = m.node("MaxPool", &[y], window);
    let shape = m.ints(&[0, -1]);
    let y = m.node("Reshape", &[y, shape], Attributes::new());
    let ratio = m.floats(&[], &[0.1]);
    let y = m.node("Dropout", &[y, ratio], Attributes::new());
    let (w, b) = (weights(&mut m, &[16, 3], 3), m.floats(&[3], &[0.0; 3]));
    let y = m.node("Gemm", &[y, w, b], Attributes::new());
    let y = m.node("Softmax", &[y], Attributes::new());
    m.finish(&[y])
}

/// Bright above, bright below, or grey; with noise.
fn images(graph: &Graph, count: usize, seed: u16) -> Dataset {
    labelled(graph, count, seed, images::kind)
}

fn labelled(graph: &Graph, count: usize, seed: u16, label: impl Fn(usize) -> u32) -> Dataset {
    images::images(graph, count, (seed, 0.2), label)
}

fn params() -> Params {
    Params {
        length: Length::Epochs(6),
        batch: BATCH,
        rate: 0.05,
        augment: Augment { flip: true, shift: 1 },
        seed: 3,
        ..Params::default()
    }
}

struct Run<'a> {
    graph: &'a Graph,
    params: Params,
    folder: Option<&'a Path>,
    plugins: Vec<Box<dyn Plugin>>,
    progress: &'a dyn Progress,
}

impl<'a> Run<'a> {
    fn new(graph: &'a Graph, params: Params) -> Self {
        Self { graph, params, folder: None, plugins: Vec::new(), progress: &Silent }
    }

    fn train(mut self) -> Result<Trained> {
        let (set, held_out) = (images(self.graph, 45, 5), images(self.graph, 24, 6));
        train(Job {
            graph: self.graph,
            data: &set,
            evaluation: Some(&held_out),
            params: &self.params,
            plugins: &mut self.plugins,
            folder: self.folder,
            identity: Identity::new(),
            progress: self.progress,
            group: Group::alone(),
        })
    }
}

/// Every initializer by name.
fn constants(graph: &Graph) -> BTreeMap<String, Vec<u8>> {
    let values = graph.initializers().iter();
    values
        .map(|&v| (graph.name(v).to_owned(), graph.initializer(v).unwrap().bytes().to_vec()))
        .collect()
}

/// All values of float initializers.
fn floats(graph: &Graph) -> Vec<f32> {
    let constants = graph.initializers().iter().map(|&value| graph.initializer(value).unwrap());
    let floats = constants.filter(|constant| constant.element() == ElementType::F32);
    floats.flat_map(|constant| constant.to_f32s().unwrap()).collect()
}

fn refusal(run: Run) -> Error {
    run.train().map(|_| ()).unwrap_err()
}

#[test]
fn learns_with_and_without_normalization() {
    for folded in [false, true] {
        let graph = network(folded);
        let trained = Run::new(&graph, params()).train().unwrap();
        let score = trained.report.kept.unwrap().evaluation.unwrap();
        assert!(score.accuracy > 0.9, "folded {folded}: {}", score.accuracy);
        // 45 samples fill 5 batches.
        assert_eq!((trained.report.planned.steps, trained.report.points.len()), (30, 6));
        let (before, after) = (constants(&graph), constants(&trained.graph));
        let changed: Vec<&String> =
            before.keys().filter(|name| before[*name] != after[*name]).collect();
        // The convolution, the classifier, and with normalization its four as well, but not the
        // bias before it, which has no effect; neither the bounds, nor the shape, nor the ratio.
        assert_eq!(changed.len(), if folded { 4 } else { 7 }, "{changed:?}");
        assert_eq!(trained.graph.nodes.len(), graph.nodes.len());
    }
}

/// With a rate near zero only the running statistics move, towards those of the data.
#[test]
fn running_statistics_follow_the_batches() {
    let graph = network(false);
    let quiet = Params { rate: 1e-30, weight_decay: 0.0, ..params() };
    let trained = Run::new(&graph, quiet).train().unwrap();
    let norm = graph.nodes.iter().find(|node| node.op == "BatchNormalization").unwrap();
    let read = |graph: &Graph, input: usize| {
        graph.initializer(norm.input(input).unwrap()).unwrap().to_f32s().unwrap()
    };
    for (before, after) in read(&graph, 3).into_iter().zip(read(&trained.graph, 3)) {
        assert!((before - after).abs() > 1e-3);
    }
    assert!(read(&trained.graph, 4).iter().all(|&variance| variance > 0.0 && variance < 1.0));
}

#[test]
fn one_seed_gives_the_same_bytes_with_any_number_of_threads() {
    let graph = network(false);
    let run = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let params = Params { seed, average: Some(0.9), ..params() };
        pool.install(|| constants(&Run::new(&graph, params).train().unwrap().graph))
    };
    let first = run(1, 3);
    assert_eq!(first, run(1, 3));
    assert_eq!(first, run(2, 3));
    assert_ne!(first, run(1, 4));
}

/// Stops after so many questions whether to go on.
struct Stop(AtomicU64);

impl Progress for Stop {
    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

/// Variants that keep all kinds of state.
fn variants() -> Vec<Params> {
    vec![
        params(),
        Params { average: Some(0.8), evaluate_every: Some(4), keep: Keep::Best, ..params() },
        Params {
            optimizer: Optimizer::adam_w(),
            rate: 0.01,
            schedule: Schedule::Cosine,
            checkpoint_every: Some(3),
            clip_norm: Some(0.5),
            label_smoothing: 0.1,
            reinitialize: true,
            ..params()
        },
    ]
}

#[test]
fn an_interrupted_run_ends_in_the_same_bytes() {
    let graph = network(false);
    for params in variants() {
        let run = |folder: Option<&Path>, stop: u64| {
            let stop = Stop(AtomicU64::new(stop));
            let plugins: Vec<Box<dyn Plugin>> = vec![Box::new(Scale::new("c2", "MaxPool_3_0"))];
            Run { folder, plugins, progress: &stop, ..Run::new(&graph, params.clone()) }.train()
        };
        let whole = run(None, 0).unwrap();
        for stop in [1, 2, 7, 11, 20] {
            let folder = tempfile::tempdir().unwrap();
            let error = run(Some(folder.path()), stop).unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Interrupted, "E0130"));
            // Once more, at another place.
            assert_eq!(run(Some(folder.path()), 4).unwrap_err().code(), "E0130");
            let resumed = run(Some(folder.path()), 0).unwrap();
            assert!(resumed.report.resumed_from.is_some());
            assert_eq!(constants(&whole.graph), constants(&resumed.graph), "stopped at {stop}");
            assert_eq!(whole.report.points, resumed.report.points);
            assert_eq!(whole.report.kept, resumed.report.kept);
            // A finished run gives its result again.
            let again = run(Some(folder.path()), 0).unwrap();
            assert_eq!(constants(&whole.graph), constants(&again.graph));
            assert_eq!(again.report.resumed_from, Some(30));
        }
    }
}

#[test]
fn a_run_folder_belongs_to_one_run() {
    let graph = network(true);
    let folder = tempfile::tempdir().unwrap();
    let run = |params| Run { folder: Some(folder.path()), ..Run::new(&graph, params) };
    run(params()).train().unwrap();
    let error = refusal(run(Params { rate: 0.06, ..params() }));
    assert_eq!(error.code(), "E0403");
    assert!(error.message().contains("`training.rate` 0.05, now it is 0.06"), "{error}");
    for (file, damage) in [("last.safetensors", &b"no tensors"[..]), ("journal.jsonl", b"{}\n")] {
        let path = folder.path().join(file);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, damage).unwrap();
        assert_eq!(refusal(run(params())).code(), "E0404", "{file}");
        std::fs::write(&path, whole).unwrap();
    }
    run(params()).train().unwrap();
}

#[test]
fn what_is_frozen_stays_bit_by_bit() {
    let graph = network(false);
    let frozen = |patterns: &[&str]| {
        let freeze = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let trained = Run::new(&graph, Params { freeze, ..params() }).train().unwrap();
        let (before, after) = (constants(&graph), constants(&trained.graph));
        before.keys().filter(|name| before[*name] != after[*name]).count()
    };
    // By layer: the weight and the bias of the convolution; then the normalization too, with its
    // running statistics.
    assert_eq!(frozen(&["Conv_0"]), 6);
    assert_eq!(frozen(&["Conv_0", "BatchN*"]), 2);
    let all = Params { freeze: vec!["*".to_owned()], ..params() };
    assert_eq!(refusal(Run::new(&graph, all)).code(), "E0402");
    let unknown = Params { freeze: vec!["Conv_7".to_owned()], ..params() };
    let error = refusal(Run::new(&graph, unknown));
    assert_eq!(error.code(), "E0407");
    assert!(error.hint_text().unwrap().contains("`Conv_0`"), "{error:?}");
}

/// A factor of 0 freezes, and the rate enters linearly in the first step.
#[test]
fn rates_scale_by_pattern() {
    let graph = network(true);
    let moved = |factor: f64| {
        let params = Params {
            length: Length::Steps(1),
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            rates: vec![("Gemm_*".to_owned(), factor)],
            ..params()
        };
        let trained = Run::new(&graph, params).train().unwrap();
        let gemm = graph.nodes.iter().find(|node| node.op == "Gemm").unwrap();
        let read =
            |graph: &Graph| graph.initializer(gemm.input(1).unwrap()).unwrap().to_f32s().unwrap();
        let pairs: Vec<(f32, f32)> = read(&graph).into_iter().zip(read(&trained.graph)).collect();
        pairs.into_iter().map(|(before, after)| after - before).collect::<Vec<f32>>()
    };
    let (one, three) = (moved(1.0), moved(3.0));
    assert!(moved(0.0).iter().all(|&change| change == 0.0));
    assert!(one.iter().any(|&change| change.abs() > 1e-4));
    for (one, three) in one.into_iter().zip(three) {
        // Differences of values around 0.5 round at 6e-8.
        assert!((3.0 * one - three).abs() < 3e-7, "{one} {three}");
    }
}

/// The moving average that is kept is that of the weights that plain training passes through, with
/// decays 1/10, 2/11 and 3/12 in the first steps.
#[test]
fn the_average_is_kept_instead_of_the_weights() {
    let graph = network(true);
    let after = |steps: u64, average: Option<f64>| -> Vec<f32> {
        let schedule = Schedule::Constant;
        let length = Length::Steps(steps);
        let params = Params { average, schedule, length, ..params() };
        floats(&Run::new(&graph, params).train().unwrap().graph)
    };
    let mut expected = floats(&graph);
    for (steps, decay) in [(1, 0.1), (2, 2.0 / 11.0), (3, 0.25)] {
        for (average, weight) in expected.iter_mut().zip(after(steps, None)) {
            *average = decay * *average + (1.0 - decay) * weight;
        }
    }
    let found = after(3, Some(0.9));
    assert_ne!(found, after(3, None));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_with_its_step() {
    let graph = network(true);
    let error = refusal(Run::new(&graph, Params { rate: 1e30, ..params() }));
    assert_eq!(error.code(), "E0401");
    assert!(
        error.message().contains(" in step ") && error.message().ends_with(" of 30"),
        "{error}"
    );
    assert!(error.hint_text().unwrap().contains("`lr`"));
}

#[test]
fn what_does_not_fit_is_refused_before_training() {
    let graph = network(true);
    let refused = |graph: &Graph, set: &Dataset, params: &Params| {
        let mut plugins: Vec<Box<dyn Plugin>> = Vec::new();
        let job = Job {
            graph,
            data: set,
            evaluation: None,
            params,
            plugins: &mut plugins,
            folder: None,
            identity: Identity::new(),
            progress: &Silent,
            group: Group::alone(),
        };
        plan(job).map(|_| ()).unwrap_err()
    };
    // A single wrong label, in the last sample.
    let set = labelled(&graph, 45, 5, |i| if i == 44 { 3 } else { 0 });
    let error = refused(&graph, &set, &params());
    assert_eq!(error.code(), "E0207");
    assert!(error.message().contains("label 3"), "{error}");
    let set = images(&graph, 45, 5);
    assert_eq!(refused(&graph, &set, &Params { rate: -1.0, ..params() }).code(), "E0406");

    let mut image_to_image = Model::new(17);
    let x = image_to_image.input(ElementType::F32, &[BATCH, 1, 8, 8]);
    let w = weights(&mut image_to_image, &[1, 1, 1, 1], 1);
    let y = image_to_image.node("Conv", &[x, w], Attributes::new());
    let graph = image_to_image.finish(&[y]);
    assert_eq!(refused(&graph, &set, &params()).code(), "E0405");

    let mut nothing = Model::new(17);
    let x = nothing.input(ElementType::F32, &[BATCH, 1, 8, 8]);
    let y = nothing.node("Flatten", &[x], Attributes::new());
    let graph = nothing.finish(&[y]);
    assert_eq!(refused(&graph, &set, &params()).code(), "E0402");
}

/// A plug-in with a part in everything: it scales a parameter by a learned factor and doubles a
/// value, adds to the loss, and folds both away at the end.
struct Scale {
    parameter: &'static str,
    value: &'static str,
    factor: Var,
    calls: Tensor,
    seen: Rc<RefCell<Vec<String>>>,
}

impl Scale {
    fn new(parameter: &'static str, value: &'static str) -> Self {
        Self {
            parameter,
            value,
            factor: Var::new(1.25_f32, &Device::Cpu).unwrap(),
            calls: Tensor::new(0.0_f32, &Device::Cpu).unwrap(),
            seen: Rc::default(),
        }
    }

    fn see(&self, what: &str) {
        let mut seen = self.seen.borrow_mut();
        if !seen.iter().any(|known| known == what) {
            seen.push(what.to_owned());
        }
    }
}

impl Plugin for Scale {
    fn name(&self) -> &str {
        "scale"
    }

    fn begin(&mut self, graph: &Graph, steps: u64) -> Result<()> {
        assert!(graph.find(self.parameter).is_some() && steps == 30);
        self.see("begin");
        Ok(())
    }

    fn parameter(&self, name: &str, value: &Tensor) -> Result<Option<Tensor>> {
        if name != self.parameter {
            return Ok(None);
        }
        Ok(Some(value.broadcast_mul(self.factor.as_tensor())?))
    }

    fn activations(&self) -> Vec<String> {
        vec![self.value.to_owned()]
    }

    fn activation(&mut self, name: &str, value: &Tensor, mode: Mode) -> Result<Tensor> {
        self.see(&format!("{name} {mode:?}"));
        Ok((value * 2.0)?)
    }

    fn wants(&self) -> Vec<String> {
        vec![self.value.to_owned()]
    }

    fn loss(&mut self, step: &Step) -> Result<Option<Tensor>> {
        assert_eq!(step.inputs[0].0, "x0");
        assert_eq!(step.inputs[0].1.dims(), [BATCH, 1, 8, 8]);
        assert_eq!((step.scores.dims(), step.labels.unwrap().len()), (&[BATCH, 3][..], BATCH));
        assert_eq!(step.at.epoch, step.at.step / 5);
        self.see("loss");
        let value = step.value(self.value)?;
        assert_eq!(value.dims(), [BATCH, 4, 2, 2]);
        Ok(Some((value.sqr()?.mean_all()? * 0.01)?))
    }

    fn after_step(&mut self, at: Moment, parameters: &Parameters) -> Result<()> {
        assert_eq!(at.steps, 30);
        assert!(parameters.get(self.parameter).is_some());
        // Depends on every step so far: a resumed run must have it back.
        self.calls = self.calls.affine(1.001, (at.step + 1) as f64)?;
        let nudge = (self.calls.to_scalar::<f32>()? * 1e-6).sin();
        let moved = (self.factor.as_detached_tensor() + f64::from(nudge))?;
        self.factor.set(&moved)?;
        Ok(())
    }

    fn variables(&self) -> Vec<Extra> {
        let var = self.factor.clone();
        vec![Extra { name: "factor".to_owned(), var, decays: false, rate: 0.5 }]
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::from([("calls".to_owned(), self.calls.clone())]))
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.calls = state["calls"].clone();
        Ok(())
    }

    fn finish(&self, graph: &Graph) -> Result<Vec<Edit>> {
        let value = graph.find(self.parameter).unwrap();
        let factor = self.factor.to_scalar::<f32>()?;
        let scaled = |id: ValueId, factor: f32| {
            let old = graph.initializer(id).unwrap();
            let values: Vec<f32> = old.to_f32s().unwrap().iter().map(|w| w * factor).collect();
            Constant::from_f32s(old.dims(), &values)
        };
        let reads = |node: &Node, value| node.inputs.contains(&Some(value));
        let mut edits = Vec::new();
        for id in graph.node_ids() {
            let node = graph.node(id);
            if reads(node, value) {
                let input = node.inputs.iter().position(|&i| i == Some(value)).unwrap();
                edits.push(Edit::SetInput { node: id, input, constant: scaled(value, factor)? });
            }
            // The doubled value goes through a reshape and a dropout into the classifier.
            if node.op == "Gemm" {
                let weight = node.input(1).unwrap();
                edits.push(Edit::SetInput { node: id, input: 1, constant: scaled(weight, 2.0)? });
            }
        }
        Ok(edits)
    }
}

/// What plug-ins show the graph in evaluation is what they fold into it at the end.
#[test]
fn a_plugin_takes_part_and_folds_itself_away() {
    let graph = network(true);
    let plugin = Scale::new("c1", "MaxPool_2_0");
    let (seen, factor) = (Rc::clone(&plugin.seen), plugin.factor.clone());
    let run = Run { plugins: vec![Box::new(plugin)], ..Run::new(&graph, params()) };
    let trained = run.train().unwrap();
    let expected = ["begin", "MaxPool_2_0 Train", "loss", "MaxPool_2_0 Evaluate"];
    assert_eq!(*seen.borrow(), expected);
    assert_ne!(factor.to_scalar::<f32>().unwrap(), 1.25);
    // Evaluating the folded graph without any plug-in: a run without a step would not do, so one
    // with a rate that changes nothing.
    let still = Params { rate: 1e-30, weight_decay: 0.0, length: Length::Steps(1), ..params() };
    let plain = Run::new(&trained.graph, still).train().unwrap();
    let loss = |trained: &Trained| trained.report.kept.as_ref().unwrap().evaluation.unwrap().loss;
    assert!((loss(&trained) - loss(&plain)).abs() < 1e-5, "{} {}", loss(&trained), loss(&plain));
}

/// Exporters let equal constants share one through Identity; training must take them apart.
#[test]
fn equal_constants_come_apart() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[2, 3]);
    let shared = m.floats(&[3, 3], &[0.5; 9]);
    let copy = m.node("Identity", &[shared], Attributes::new());
    let value = Constant::from_f32s(&[3, 3], &[0.25; 9]).unwrap();
    let constant = m.node("Constant", &[], vec![("value", Attribute::Tensor(value))]);
    let y = m.node("MatMul", &[x, shared], Attributes::new());
    let y = m.node("MatMul", &[y, copy], Attributes::new());
    let y = m.node("MatMul", &[y, constant], Attributes::new());
    let turned = weights(&mut m, &[4, 3], 1);
    let turned = m.node("Transpose", &[turned], vec![("perm", ints(&[1, 0]))]);
    let y = m.node("MatMul", &[y, turned], Attributes::new());
    let bias = m.floats(&[4], &[0.0; 4]);
    let y = m.node("Add", &[bias, y], Attributes::new());
    let graph = m.finish(&[y]);
    let prepared = prepare(&graph);
    prepared.validate().unwrap();
    assert_eq!(prepared.nodes.len(), graph.nodes.len() - 2);
    let parameters = Parameters::of(&prepared).unwrap();
    let all: Vec<(usize, usize)> =
        parameters.iter().map(|p| (p.var.elem_count(), p.fan_in)).collect();
    assert_eq!(all, [(9, 3), (12, 4), (4, 1), (9, 3), (9, 3)]);
}
