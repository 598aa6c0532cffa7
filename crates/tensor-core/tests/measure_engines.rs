//! Engines on the fixture models: agreement, accuracy, latency, and refusals.
#![cfg(all(feature = "measure", feature = "data"))]
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{DType, Device, Tensor};
use std::path::{Path, PathBuf};
use tensor_core::data::{self, Dataset, InputSpec, Options, Preprocess};
use tensor_core::graph::{Attributes, Declared, Dim, Graph, Node};
use tensor_core::measure::{self, Choice, Engine, compare, latency};
use tensor_core::{ElementType, Result, onnx};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn model(name: &str) -> Vec<u8> {
    std::fs::read(fixture("models").join(name)).unwrap()
}

fn test_images() -> Dataset {
    let input = InputSpec {
        name: "input".into(),
        element: ElementType::F32,
        dims: Some(vec![None, Some(1), Some(28), Some(28)]),
    };
    let preprocess = Preprocess::read(&fixture("preprocess/fmnist.json")).unwrap();
    let options = Options { preprocess, inputs: vec![input], ..Options::default() };
    data::open(&fixture("data/t10k-1k"), &options).unwrap()
}

fn batches(set: &Dataset) -> impl Iterator<Item = Result<compare::LabelledBatch>> + '_ {
    set.batches(100).map(|batch| batch.map(|batch| (batch.inputs, batch.labels)))
}

fn rten() -> Box<dyn Engine> {
    measure::engine(Choice::Rten).unwrap().engine
}

/// Every engine of this machine: `rten` always, ONNX Runtime where it is installed.
fn engines() -> Vec<Box<dyn Engine>> {
    let found = measure::engine(Choice::OnnxRuntime).ok();
    found.into_iter().map(|found| found.engine).chain([rten()]).collect()
}

#[test]
fn engines_agree_on_the_fixture_models() {
    let set = test_images().first(200);
    let reference = measure::engine(Choice::Auto).unwrap().engine;
    for name in [
        "vgg7_fmnist_bn.onnx",
        "vgg7_fmnist_folded.onnx",
        "resnet20_fmnist_bn.onnx",
        "resnet20_fmnist_folded.onnx",
    ] {
        let mut a = reference.load(&model(name), 2).unwrap();
        let mut b = rten().load_file(&fixture("models").join(name), 1).unwrap();
        let comparison = compare::compare(&mut *a, &mut *b, batches(&set)).unwrap();
        assert_eq!(comparison.samples, 200);
        let output = &comparison.outputs[0];
        // f32 rounding over at most 20 layers; the outputs span about 27.
        assert!(output.max_relative.unwrap() < 1e-5, "{name}: {output:?}");
        assert!(output.cosine.unwrap() > 1.0 - 1e-9, "{name}: {output:?}");
        assert_eq!(output.top1.unwrap().agreement, 1.0, "{name}");
    }
}

/// Numbers that half precision holds exactly come back as they were.
#[test]
fn onnx_runtime_is_fed_and_read_in_16_bit_floats() {
    let Ok(found) = measure::engine(Choice::OnnxRuntime) else { return };
    for element in [ElementType::F16, ElementType::F32] {
        let mut graph = Graph::default();
        graph.ir_version = 8;
        graph.opsets.insert(String::new(), 17);
        let [x, y] = ["x", "y"].map(|name| graph.value(name));
        for value in [x, y] {
            let dims = Some(vec![Dim::Known(4)]);
            let element = Some(element);
            graph.declare(value, Some(Declared { element, dims, ..Declared::default() }));
        }
        graph.inputs.push(x);
        graph.outputs.push(y);
        graph.nodes.push(Node::new("relu", "Relu", &[x], &[y]));
        let mut runner = found.engine.load(&onnx::encode(&graph).unwrap(), 1).unwrap();
        let x = Tensor::new(&[0.5_f32, -2.0, 1024.0, 0.125], &Device::Cpu).unwrap();
        let (name, y) = runner.run(&[("x".to_owned(), x)]).unwrap().remove(0);
        assert_eq!((name.as_str(), y.dtype()), ("y", DType::F32));
        assert_eq!(y.to_vec1::<f32>().unwrap(), [0.5, 0.0, 1024.0, 0.125]);
    }
}

#[test]
fn accuracy_is_that_of_the_provenance() {
    let set = test_images();
    // ONNX Runtime in Python on the same 1,000 images: 943 and 947 right, and no two best scores
    // closer than 0.0014, so rounding (some 1e-5) decides nothing.
    for (name, expected) in
        [("vgg7_fmnist_folded.onnx", 0.943), ("resnet20_fmnist_folded.onnx", 0.947)]
    {
        for engine in engines() {
            let mut runner = engine.load(&model(name), 2).unwrap();
            let accuracy = compare::accuracy(&mut *runner, batches(&set)).unwrap();
            assert_eq!(accuracy, expected, "{name} in {}", engine.name());
        }
    }
}

#[test]
fn latencies_are_positive_ordered_and_labelled() {
    let small = model("resnet20_fmnist_folded.onnx");
    let batch = test_images().batch(0..4).unwrap();
    let settings =
        latency::Settings { warmup: 1, runs: 20, threads: 1, ..latency::Settings::default() };
    for engine in engines() {
        let candidates = ["a", "b"].map(|name| latency::Candidate { name, model: &small });
        let report = latency::measure(&*engine, &candidates, &batch.inputs, &settings).unwrap();
        assert_eq!((report.batch, report.threads), (4, 1));
        assert_eq!(report.engine, engine.name());
        assert!(!report.cpu.name.is_empty());
        for timing in &report.models {
            assert_eq!(timing.runs, 20);
            let ordered = [
                0.0,
                timing.latency_us_min,
                timing.latency_us_p50,
                timing.latency_us_p90,
                timing.latency_us_p99,
            ];
            assert!(ordered[0] < ordered[1] && ordered.is_sorted(), "{timing:?}");
            assert!(timing.latency_us_mad >= 0.0);
        }
        let speedup = report.models[1].speedup.unwrap();
        assert!(speedup.low <= speedup.median && speedup.median <= speedup.high);
        assert!(serde_json::to_string(&report).unwrap().contains("latency_us_p50"));
    }
}

#[test]
fn broken_models_are_refused() {
    let whole = model("resnet20_fmnist_folded.onnx");
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.onnx");
    for engine in engines() {
        for bytes in [&[][..], b"this is no model", &whole[..whole.len() / 2], &whole[..100]] {
            let error = engine.load(bytes, 1).err().unwrap();
            assert_eq!(error.code(), "E0302", "{}: {error}", engine.name());
        }
        let error = engine.load_file(&missing, 1).err().unwrap();
        assert_eq!(error.code(), "E0302");
        assert!(error.message().contains("missing.onnx"), "{error}");
    }
}

#[test]
fn wrong_inputs_are_refused() {
    let whole = model("resnet20_fmnist_folded.onnx");
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    let named = |name: &str, dims: &[usize]| vec![(name.to_owned(), zeros(dims))];
    for engine in engines() {
        let mut runner = engine.load(&whole, 1).unwrap();
        assert_eq!(runner.outputs().len(), 1);
        let cases = [
            named("other", &[1, 1, 28, 28]),
            named("input", &[1, 3, 28, 28]),
            named("input", &[28, 28]),
            Vec::new(),
        ];
        for inputs in cases {
            let error = runner.run(&inputs).unwrap_err();
            assert_eq!(error.code(), "E0303", "{}: {error}", engine.name());
        }
        // A refusal leaves the model usable.
        assert_eq!(runner.run(&named("input", &[2, 1, 28, 28])).unwrap()[0].1.dims(), [2, 10]);
    }
}

#[test]
fn an_engine_says_its_name_and_version() {
    for engine in engines() {
        let name = engine.name();
        let (_, version) = name.rsplit_once(' ').unwrap();
        assert!(version.split('.').take(2).all(|part| part.parse::<u32>().is_ok()), "{name}");
    }
}

#[test]
fn mutated_models_never_panic() {
    use rand_chacha::rand_core::RngCore;
    let whole = model("resnet20_fmnist_folded.onnx");
    let mut rng = tensor_core::random::stream(0, "hostile models");
    let inputs =
        [("input".to_owned(), Tensor::zeros(&[1, 1, 28, 28], DType::F32, &Device::Cpu).unwrap())];
    for engine in engines() {
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..1 + rng.next_u32() % 3 {
                // Most of the file is weights; nodes and shapes are at its ends.
                let span = if rng.next_u32().is_multiple_of(2) { 8_000 } else { bytes.len() };
                let at = rng.next_u64() as usize % span;
                bytes[at] = rng.next_u32() as u8;
            }
            if let Ok(mut runner) = engine.load(&bytes, 1)
                && let Err(error) = runner.run(&inputs)
            {
                assert_eq!(error.code(), "E0303", "{}: {error}", engine.name());
            }
        }
    }
}

/// ONNX takes the window of a convolution from the weight when the attributes leave it out.
#[test]
fn attributes_may_be_left_out() {
    let path = fixture("models/vgg7_fmnist_folded.onnx");
    let mut graph = onnx::read(&path).unwrap();
    let mut bare = 0;
    for node in graph.nodes.iter_mut().filter(|node| node.op == "Conv") {
        let pads = node.attributes.get("pads").cloned().unwrap();
        node.attributes = Attributes::default();
        node.attributes.set("pads", pads);
        bare += 1;
    }
    assert_eq!(bare, 7);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bare.onnx");
    onnx::write(&graph, &file).unwrap();
    let batch = test_images().batch(0..4).unwrap();
    for engine in engines() {
        let expected = engine.load_file(&path, 1).unwrap().run(&batch.inputs).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        for mut runner in [engine.load_file(&file, 1).unwrap(), engine.load(&bytes, 1).unwrap()] {
            let outputs = runner.run(&batch.inputs).unwrap();
            let values = |named: &[(String, Tensor)]| -> Vec<f32> {
                named[0].1.flatten_all().unwrap().to_vec1().unwrap()
            };
            assert_eq!(values(&outputs), values(&expected), "{}", engine.name());
        }
    }
}
