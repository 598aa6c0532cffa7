//! The networks of the zoo: published sizes, other engines, and pruning.
#![cfg(feature = "measure")]
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;
use tensor_core::channels::identity::{Mask, masked_against_cut, relative_difference};
use tensor_core::channels::{analyze, cut};
use tensor_core::measure::{self, Choice, Engine};
use tensor_core::random::{below, stream};
use tensor_core::rewrite::apply;
use tensor_core::run::{Array, Session, infer};
use tensor_core::zoo::{self, Options};
use tensor_core::{Graph, cost, onnx};

fn build(name: &str, options: &Options) -> Graph {
    zoo::architecture(name)
        .unwrap()
        .build(options)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What training would learn: running statistics and scalars are not among it.
fn trainable(graph: &Graph) -> usize {
    let counts = graph.initializers().iter().map(|&value| {
        let constant = graph.initializer(value).unwrap();
        let is_state = graph.name(value).contains(".running_") || constant.dims().is_empty();
        if is_state { 0 } else { constant.count() }
    });
    counts.sum()
}

fn macs(graph: &Graph) -> f64 {
    let facts = infer(graph, &BTreeMap::new()).unwrap();
    cost::cost(graph, &facts).unwrap().macs as f64
}

/// Parameters without running statistics; multiply-accumulates of convolutions and matrix products
/// for one image, without biases.
#[test]
fn sizes_are_the_published_ones() {
    // Name, width, parameters, multiply-accumulates in millions, and how exactly these were published.
    let published = [
        // torchvision 0.2x: documentation of the weights (`num_params`, `_ops` in GFLOPS, which are
        // multiply-accumulates). VGG-16 without the 4,224 biases that its BatchNorm cancels, Inception-V3
        // without the 3,326,696 parameters of its auxiliary classifier.
        ("vgg16", 1.0, 138_357_544, 15_470.0, 10.0),
        ("vgg16-bn", 1.0, 138_365_992 - 4_224, 15_470.0, 10.0),
        ("resnet50", 1.0, 25_557_032, 4_089.0, 1.0),
        ("mobilenet-v2", 1.0, 3_504_872, 300.8, 0.1),
        ("inception-v3", 1.0, 27_161_264 - 3_326_696, 5_713.0, 1.0),
        // Keras: trainable parameters of `Xception`. timm: 8.40 G, which unlike ours counts one
        // operation for each of the 36 M values that a normalization or pooling makes.
        ("xception", 1.0, 22_855_952, 8_400.0 - 36.0, 10.0),
        // Howard et al. 2017, tables 6 and 8; parameters of the TensorFlow release, exactly.
        ("mobilenet-v1", 1.0, 4_231_976, 569.0, 1.0),
        ("mobilenet-v1", 0.75, 2_585_560, 325.0, 1.0),
        ("mobilenet-v1", 0.5, 1_331_592, 149.0, 1.0),
        ("mobilenet-v1", 0.25, 470_072, 41.0, 1.0),
    ];
    for (name, width, parameters, millions, rounding) in published {
        let graph = build(name, &Options { classes: 1000, width, ..Options::default() });
        assert_eq!(trainable(&graph), parameters, "{name} {width}");
        let found = macs(&graph) / 1e6;
        assert!((found - millions).abs() <= rounding, "{name} {width}: {found} M");
    }
}

#[test]
fn small_networks_have_the_published_sizes() {
    let published = [
        // He et al. 2016, table 6: 0.27 M and 0.85 M; 40.8 M is the usual count with 1x1 shortcuts.
        ("resnet20", 272_474, 40.8, 0.05),
        ("resnet56", 855_770, 125.8, 0.5),
        // Caffe's LeNet: 431 k parameters, as in the pruning literature (Han et al. 2015).
        ("lenet", 431_080, 2.293, 0.001),
        // 784 x 800 + 800 x 800 + 800 x 10, and 1,610 biases.
        ("mlp", 1_276_810, 1.2752, 0.0001),
    ];
    for (name, parameters, millions, rounding) in published {
        let graph = build(name, &Options::default());
        assert_eq!(trainable(&graph), parameters, "{name}");
        let found = macs(&graph) / 1e6;
        assert!((found - millions).abs() <= rounding, "{name}: {found} M");
    }
}

#[test]
fn vgg7_and_resnet20_are_those_of_the_fixtures() {
    for name in ["vgg7", "resnet20"] {
        let ours = build(name, &Options { input: Some([1, 28, 28]), ..Options::default() });
        let path = format!("../../fixtures/models/{name}_fmnist_bn.onnx");
        let theirs = onnx::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        assert_eq!(macs(&ours), macs(&theirs), "{name}");
        let operators = |graph: &Graph| {
            let mut operators: Vec<_> = graph.nodes.iter().map(|node| node.op.clone()).collect();
            operators.retain(|op| op != "Identity");
            operators.sort_unstable();
            operators
        };
        assert_eq!(operators(&ours), operators(&theirs), "{name}");
    }
}

/// Every architecture at a size that runs in a moment.
fn small(dropout: f64) -> Vec<(&'static str, Graph)> {
    let size = |name: &str| match name {
        "mlp" | "lenet" => ([1, 28, 28], 1.0),
        "vgg7" | "resnet20" => ([3, 20, 20], 0.5),
        "inception-v3" => ([3, 75, 75], 0.125),
        "xception" => ([3, 43, 43], 0.0625),
        _ => ([3, 32, 32], 0.0625),
    };
    zoo::architectures()
        .map(|architecture| {
            let (input, width) = size(architecture.name);
            let options = Options {
                classes: 7,
                input: Some(input),
                width: if architecture.has_width { width } else { 1.0 },
                hidden: architecture.has_hidden.then_some(30),
                dropout: if architecture.has_dropout { dropout } else { 0.0 },
                seed: 1,
            };
            (architecture.name, build(architecture.name, &options))
        })
        .collect()
}

fn image(graph: &Graph, samples: usize) -> Tensor {
    let facts = infer(graph, &BTreeMap::new()).unwrap();
    let mut dims = facts.dims(graph.inputs[0]).unwrap().to_vec();
    dims[0] = samples;
    let mut rng = stream(7, "image");
    let draws: Vec<f32> =
        (0..dims.iter().product()).map(|_| below(&mut rng, 1024) as f32 / 512.0 - 1.0).collect();
    Tensor::from_vec(draws, dims, &Device::Cpu).unwrap()
}

#[test]
fn other_engines_agree() {
    // `rten` is built without Dropout.
    agree(&*measure::engine(Choice::Rten).unwrap().engine, 0.0);
    if let Ok(found) = measure::engine(Choice::OnnxRuntime) {
        agree(&*found.engine, 0.5);
    }
}

fn agree(engine: &dyn Engine, dropout: f64) {
    for (name, graph) in small(dropout) {
        let image = image(&graph, 3);
        let ours = Session::new(&graph).unwrap().run_one(image.clone()).unwrap();
        let ours = ours[0].to_f32s().unwrap();
        assert_eq!(ours.len(), 21, "{name}");
        assert!(ours.iter().all(|x| x.is_finite() && x.abs() > 0.0), "{name}: {ours:?}");
        let mut runner = engine.load(&onnx::encode(&graph).unwrap(), 1).unwrap();
        let outputs = runner.run(&[("input".to_owned(), image)]).unwrap();
        assert_eq!(outputs[0].0, "logits");
        let theirs: Vec<f32> = outputs[0].1.flatten_all().unwrap().to_vec1().unwrap();
        let difference = relative_difference(&ours, &theirs);
        // f32 rounding over up to 190 layers.
        assert!(difference < 1e-4, "{name} in {}: {difference}", engine.name());
    }
}

#[test]
fn half_of_all_hidden_channels_can_be_cut() {
    for (name, graph) in small(0.5) {
        let facts = infer(&graph, &BTreeMap::new()).unwrap();
        let channels = analyze(&graph, &facts).unwrap();
        let mut remove = Vec::new();
        for group in &channels.groups {
            let free = channels.removable(group);
            assert!(free.is_empty() || free.len() == group.classes.len(), "{name}: {group:?}");
            remove.extend(free.iter().skip(1).step_by(2));
        }
        let edits = cut(&graph, &facts, &channels, &remove).unwrap();
        let smaller = apply(&graph, &edits).unwrap();
        assert!(
            macs(&smaller) < 0.6 * macs(&graph),
            "{name}: {} of {}",
            macs(&smaller),
            macs(&graph)
        );
        let mut mask = Mask::new(&graph, &channels, &remove).unwrap();
        let input = (graph.inputs[0], Array::float(image(&graph, 2)));
        let difference = masked_against_cut(&graph, &mut mask, &smaller, &[input]).unwrap();
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

#[test]
fn weights_follow_the_seed_and_have_the_stated_variance() {
    let of = |seed| build("lenet", &Options { seed, ..Options::default() });
    let bytes = |graph: &Graph| onnx::encode(graph).unwrap();
    assert_eq!(bytes(&of(3)), bytes(&of(3)));
    assert_ne!(bytes(&of(3)), bytes(&of(4)));
    let graph = of(3);
    for (name, variance) in [("conv2.weight", 2.0 / 500.0), ("fc1.weight", 2.0 / 800.0)] {
        let weights = graph.initializer(graph.find(name).unwrap()).unwrap().to_f64s().unwrap();
        let found = weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64;
        // 25,000 draws and more: the relative standard error of the variance is below 0.6 %.
        assert!((found / variance - 1.0).abs() < 0.03, "{name}: {found}");
    }
}

#[test]
fn wrong_options_are_refused() {
    let code = |name: &str, options: Options| {
        let error = zoo::architecture(name).unwrap().build(&options).unwrap_err();
        error.code()
    };
    let error = zoo::architecture("resnet").unwrap_err();
    assert_eq!(error.code(), "E0160");
    assert!(error.hint_text().unwrap().contains("resnet20"));
    let preset = Options::default;
    for (name, options) in [
        ("resnet20", Options { classes: 0, ..preset() }),
        ("resnet20", Options { width: 0.0, ..preset() }),
        ("resnet20", Options { width: f64::NAN, ..preset() }),
        ("resnet20", Options { dropout: 0.5, ..preset() }),
        ("resnet20", Options { hidden: Some(10), ..preset() }),
        ("resnet20", Options { input: Some([0, 28, 28]), ..preset() }),
        ("resnet20", Options { input: Some([1, 100_000, 28]), ..preset() }),
        ("mlp", Options { width: 2.0, ..preset() }),
        ("mlp", Options { hidden: Some(0), ..preset() }),
        ("mlp", Options { dropout: 1.0, ..preset() }),
        ("mlp", Options { input: Some([64, 65_536, 65_536]), ..preset() }),
        ("lenet", Options { input: Some([1, 12, 12]), ..preset() }),
        ("inception-v3", Options { input: Some([3, 74, 74]), ..preset() }),
    ] {
        assert_eq!(code(name, options.clone()), "E0161", "{name} {options:?}");
    }
}
