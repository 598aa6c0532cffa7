//! Quantization in the training loop.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, reason = "tests")]

use quant_mixed::model::{QuantizeParams, quantize};
use quant_mixed::train::{FakeQuantizer, METHODS, QatParams, method};
use quant_mixed::{Assignment, LayerBits};
use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tensor_core::data::{self, Dataset, InputSpec, Options, Preprocess};
use tensor_core::group::Group;
use tensor_core::journal::Identity;
use tensor_core::progress::{Progress, Silent};
use tensor_core::run::{Array, Session};
use tensor_core::train::{Job, Length, Params, Plugin, Trained, train};
use tensor_core::{ErrorKind, Graph, Result, onnx};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures"))
}

fn network(name: &str) -> Graph {
    onnx::read(&root().join(format!("models/{name}_fmnist_bn.onnx"))).unwrap()
}

fn images(graph: &Graph, name: &str) -> Dataset {
    let preprocess = Preprocess::read(&root().join("preprocess/fmnist.json")).unwrap();
    let options = Options { preprocess, inputs: InputSpec::of(graph), ..Options::default() };
    data::open(&root().join(format!("data/{name}-1k-images-idx3-ubyte.gz")), &options).unwrap()
}

fn arrays(set: &Dataset) -> Vec<Vec<Array>> {
    set.batches(32)
        .map(|batch| batch.unwrap().inputs.into_iter().map(|(_, x)| Array::float(x)).collect())
        .collect()
}

/// Weights of these bits, activations of these where layers read them.
fn bits(weights: u8, activations: u8) -> QuantizeParams {
    let others = LayerBits { weights, activations };
    QuantizeParams {
        bits: Assignment { others, layers: BTreeMap::new() },
        ..QuantizeParams::default()
    }
}

fn quantizer(graph: &Graph, quantize: QuantizeParams, name: &str) -> FakeQuantizer {
    let params = QatParams { quantize, method: method(name).unwrap(), ..QatParams::default() };
    let batches = arrays(&images(graph, "train").first(64));
    FakeQuantizer::new(graph, &BTreeMap::new(), &batches, params, &Silent).unwrap()
}

struct Done {
    trained: Trained,
    plugins: Vec<Box<dyn Plugin>>,
}

impl Done {
    fn quantizer(&self) -> &FakeQuantizer {
        (&*self.plugins[0] as &dyn Any).downcast_ref().unwrap()
    }

    fn exported(&self) -> Graph {
        self.quantizer().export(&self.trained.graph).unwrap().graph
    }
}

fn run(
    quantizer: FakeQuantizer,
    (steps, rate): (u64, f64),
    (folder, progress): (Option<&Path>, &dyn Progress),
) -> Result<Done> {
    let graph = quantizer.graph().clone();
    let mut plugins: Vec<Box<dyn Plugin>> = vec![Box::new(quantizer)];
    let length = Length::Steps(steps);
    let params = Params { length, batch: 25, rate, clip_norm: Some(1.0), ..Params::default() };
    let trained = train(Job {
        graph: &graph,
        data: &images(&graph, "train").first(200),
        evaluation: Some(&images(&graph, "t10k").first(100)),
        params: &params,
        plugins: &mut plugins,
        folder,
        identity: Identity::new(),
        progress,
        group: Group::alone(),
    })?;
    Ok(Done { trained, plugins })
}

/// Mean cross-entropy and correct answers on the images that runs are evaluated on.
fn judged(graph: &Graph) -> (f64, usize) {
    let set = images(graph, "t10k").first(100);
    let session = Session::new(graph).unwrap();
    let (mut loss, mut right) = (0.0, 0);
    for batch in set.batches(25) {
        let batch = batch.unwrap();
        let input = Array::float(batch.inputs[0].1.clone());
        let scores = session.run(&[(graph.inputs[0], input)]).unwrap()[0].tensor.clone();
        let rows = candle_nn::ops::log_softmax(&scores, 1).unwrap().to_vec2::<f32>().unwrap();
        for (row, label) in rows.iter().zip(batch.labels.unwrap()) {
            loss -= f64::from(row[label as usize]);
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            right += usize::from(best == label as usize);
        }
    }
    (loss / 100.0, right)
}

fn outputs(graph: &Graph) -> Vec<f32> {
    let input = arrays(&images(graph, "t10k").first(32))[0][0].clone();
    let all = Session::new(graph).unwrap().run(&[(graph.inputs[0], input)]).unwrap();
    all[0].to_f32s().unwrap()
}

#[test]
fn training_begins_with_the_quantized_model() {
    // In a residual network of few bits, streams are read at two numbers of bits.
    let mut narrow = bits(3, 8);
    let keys = quant_mixed::model::layer_keys(&network("resnet20"), &BTreeMap::new(), &[]).unwrap();
    let own = LayerBits { weights: 3, activations: 4 };
    narrow.bits.layers = keys[1..21].iter().map(|key| (key.clone(), own)).collect();
    for (name, params) in [("vgg7", bits(2, 8)), ("resnet20", narrow)] {
        let graph = network(name);
        let batches = arrays(&images(&graph, "train").first(64));
        let valid = params.clone().check().unwrap();
        let after = quantize(&graph, &BTreeMap::new(), &batches, &valid, &Silent).unwrap().graph;
        for method in METHODS {
            let quantizer = quantizer(&graph, params.clone(), method.name);
            let exported = quantizer.export(quantizer.graph()).unwrap();
            let (a, b) = (outputs(&after), outputs(&exported.graph));
            // A clip is the step times an integer, rounded once more.
            let within = if method.name == "pact" { 0.05 } else { 1e-5 };
            for (a, b) in a.iter().zip(&b) {
                assert!(
                    (a - b).abs() <= within * a.abs().max(1.0),
                    "{name} {}: {a} {b}",
                    method.name
                );
            }
            assert!(
                exported.report.layers.iter().all(|layer| (layer.step_ratio - 1.0).abs() < 1e-6)
            );
        }
    }
}

#[test]
fn what_is_evaluated_is_what_is_exported() {
    let mut narrow = bits(3, 8);
    let keys = quant_mixed::model::layer_keys(&network("resnet20"), &BTreeMap::new(), &[]).unwrap();
    let own = LayerBits { weights: 2, activations: 3 };
    narrow.bits.layers = keys[1..6].iter().map(|key| (key.clone(), own)).collect();
    for (name, params, method) in
        [("vgg7", bits(2, 6), "lsq"), ("resnet20", narrow, "lsq"), ("vgg7", bits(4, 4), "pact")]
    {
        let quantizer = quantizer(&network(name), params, method);
        let before: Vec<f32> = outputs(&quantizer.export(quantizer.graph()).unwrap().graph);
        let done = run(quantizer, (8, 0.01), (None, &Silent)).unwrap();
        let exported = done.exported();
        assert_ne!(before, outputs(&exported), "{name}: nothing was learned");
        let score = done.trained.report.points.last().unwrap().evaluation.unwrap();
        let (loss, right) = judged(&exported);
        assert!((loss - score.loss).abs() < 2e-3 * score.loss.max(0.5), "{loss} {}", score.loss);
        let evaluated = (score.accuracy * 100.0).round() as usize;
        assert!(right.abs_diff(evaluated) <= 1, "{name}: {right} of {evaluated}");
        let report = done.quantizer().export(&done.trained.graph).unwrap().report;
        assert!(report.layers.iter().any(|layer| (layer.step_ratio - 1.0).abs() > 1e-6));
        // The weights of the trained graph are on their grids.
        for layer in &report.layers {
            let graph = &done.trained.graph;
            let weight = graph.initializer(graph.find(&layer.weight).unwrap()).unwrap();
            let per_output = weight.dims()[0];
            let values = weight.to_f32s().unwrap();
            for row in values.chunks(values.len() / per_output) {
                let mut levels: Vec<u32> = row.iter().map(|w| w.abs().to_bits()).collect();
                levels.sort_unstable();
                levels.dedup();
                let most = 1 << (layer.weight_bits - 1);
                assert!(
                    layer.op != "Conv" || levels.len() <= most,
                    "{}: {}",
                    layer.key,
                    levels.len()
                );
            }
        }
    }
}

/// Stops at a step.
struct StopAt(AtomicUsize);

impl Progress for StopAt {
    fn advance(&self, _: usize, text: &str) {
        if text.starts_with("loss") {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes_on_any_number_of_threads() {
    let graph = network("vgg7");
    let small = || quantizer(&graph, bits(3, 5), "lsq");
    let bytes = |done: &Done| {
        let exported = done.exported();
        let values = exported.initializers().iter();
        values.map(|&v| exported.initializer(v).unwrap().clone()).collect::<Vec<_>>()
    };
    let whole = [1, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bytes(&run(small(), (5, 0.02), (None, &Silent)).unwrap()))
    });
    assert!(whole[0] == whole[1]);
    let folder = tempfile::tempdir().unwrap();
    let stopped = run(small(), (5, 0.02), (Some(folder.path()), &StopAt(AtomicUsize::new(3))));
    assert_eq!(stopped.err().unwrap().kind(), ErrorKind::Interrupted);
    let resumed = run(small(), (5, 0.02), (Some(folder.path()), &Silent)).unwrap();
    assert_eq!(resumed.trained.report.resumed_from, Some(3));
    assert!(bytes(&resumed) == whole[0]);
}

#[test]
fn steps_stay_positive_at_any_rate() {
    let quantizer = quantizer(&network("vgg7"), bits(2, 2), "lsq");
    // Whatever becomes of the network, no step crosses zero.
    let Ok(done) = run(quantizer, (6, 3.0), (None, &Silent)) else { return };
    let report = done.quantizer().export(&done.trained.graph).unwrap().report;
    assert!(report.layers.iter().all(|layer| layer.step_ratio > 0.0));
    assert!(report.activations.iter().all(|activation| activation.scale > 0.0));
}

#[test]
fn another_graph_is_refused() {
    let graph = network("vgg7");
    let quantizer = quantizer(&graph, bits(4, 8), "lsq");
    let mut plugins: Vec<Box<dyn Plugin>> = vec![Box::new(quantizer)];
    let params = Params { length: Length::Steps(1), batch: 25, ..Params::default() };
    let result = train(Job {
        graph: &graph,
        data: &images(&graph, "train").first(50),
        evaluation: None,
        params: &params,
        plugins: &mut plugins,
        folder: None,
        identity: Identity::new(),
        progress: &Silent,
        group: Group::alone(),
    });
    assert_eq!(result.err().unwrap().code(), "E0506");
    let wrong = QatParams { step_rate: 0.0, ..QatParams::default() };
    assert_eq!(wrong.check().unwrap_err().code(), "E0500");
    assert_eq!(method("lsp").unwrap_err().code(), "E0500");
}
