//! Sparsifying a trained network.
#![allow(clippy::unwrap_used, reason = "tests")]

use magnitude_schedule::model::{Method, Sparsified, SparsifyParams, Spread, sparsify};
use magnitude_schedule::{Distribution, Mask, Pattern};
use std::collections::BTreeMap;
use std::path::Path;
use tensor_core::data::{self, InputSpec, Options, Preprocess};
use tensor_core::progress::Silent;
use tensor_core::run::Array;
use tensor_core::{Constant, ErrorKind, Graph, onnx};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// The network with its normalizations, and some images.
fn subject(samples: usize) -> (Graph, Vec<Vec<Array>>) {
    let graph = onnx::read(&fixture("models/resnet20_fmnist_bn.onnx")).unwrap();
    let preprocess = Preprocess::read(&fixture("preprocess/fmnist.json")).unwrap();
    let options = Options { preprocess, inputs: InputSpec::of(&graph), ..Options::default() };
    let path = fixture("data/train-1k-images-idx3-ubyte.gz");
    let set = data::open(&path, &options).unwrap().first(samples);
    let batches = set.batches(32).map(|batch| {
        let batch = batch.unwrap();
        vec![Array::float(batch.single().unwrap().clone())]
    });
    (graph, batches.collect())
}

fn run(params: SparsifyParams) -> Sparsified {
    run_on(&subject(64).0, params)
}

fn run_on(graph: &Graph, params: SparsifyParams) -> Sparsified {
    let (_, batches) = subject(64);
    let params = params.check().unwrap();
    sparsify(graph, &BTreeMap::new(), batches, &params, &Silent).unwrap()
}

/// Zeros in a weight of the result.
fn mask(graph: &Graph, name: &str) -> Mask {
    let constant = graph.initializer(graph.find(name).unwrap()).unwrap();
    let keep = constant.to_f32s().unwrap().iter().map(|v| v.to_bits() != 0).collect();
    Mask::new(constant.dims(), keep).unwrap()
}

#[test]
fn counts_are_exact_and_compensation_pays() {
    let done = run(SparsifyParams { sparsity: 0.7, ..SparsifyParams::default() });
    let report = &done.report;
    assert_eq!(report.zeros, (0.7 * report.weights as f64).round() as usize);
    assert!(report.folded_batch_norms > 0);
    let mut gains = 0;
    for layer in report.layers.iter() {
        // The file holds what the report says, as +0.
        assert_eq!(mask(&done.graph, &layer.weight).zeros(), layer.zeros, "{}", layer.key);
        if layer.dense.is_some() {
            continue;
        }
        assert!(layer.zeros.abs_diff((0.7 * layer.weights as f64).round() as usize) <= 1);
        assert!(layer.error < layer.uncompensated_error, "{}", layer.key);
        gains += usize::from(layer.error < 0.5 * layer.magnitude_error.unwrap());
    }
    assert_eq!(report.layers[0].dense.as_deref(), Some("the first convolution"));
    assert!(gains + 3 >= report.layers.len(), "{gains} of {}", report.layers.len());
}

#[test]
fn patterns_hold_along_the_inputs() {
    for pattern in
        [Pattern::NM(2, 4), Pattern::NM(1, 4), Pattern::Block(1, 4), Pattern::Block(4, 4)]
    {
        let sparsity = pattern.own_sparsity().unwrap_or(0.5);
        let done = run(SparsifyParams { sparsity, pattern, ..SparsifyParams::default() });
        for layer in done.report.layers.iter().filter(|layer| layer.dense.is_none()) {
            let mask = mask(&done.graph, &layer.weight);
            let &[outputs, inputs, ref kernel @ ..] = mask.dims() else { panic!("a matrix") };
            let taps: usize = kernel.iter().product();
            let zeros = |rows: std::ops::Range<usize>, tap: usize, start: usize| {
                let columns = start..(start + 4).min(inputs);
                let places = rows.flat_map(|o| columns.clone().map(move |i| (o, i)));
                places.filter(|&(o, i)| !mask.keep()[(o * inputs + i) * taps + tap]).count()
            };
            for tap in 0..taps {
                for start in (0..inputs).step_by(4) {
                    let width = 4.min(inputs - start);
                    for o in 0..outputs {
                        let found = zeros(o..o + 1, tap, start);
                        match pattern {
                            Pattern::NM(n, m) => assert_eq!(found, width * (m - n) / m),
                            Pattern::Block(1, _) => assert!(found == 0 || found == width),
                            _ => {}
                        }
                    }
                    if pattern == Pattern::Block(4, 4) {
                        for o in (0..outputs).step_by(4) {
                            let rows = o..(o + 4).min(outputs);
                            let size = rows.len() * width;
                            let found = zeros(rows, tap, start);
                            assert!(found == 0 || found == size, "{found} of {size}");
                        }
                    }
                }
            }
        }
    }
}

/// The network with two fifths of the matrices and kernels at zero, but for the widest.
fn with_holes() -> Graph {
    let mut graph = subject(1).0;
    for value in graph.initializers().to_vec() {
        let constant = graph.initializer(value).unwrap();
        let is_wide = (3..9).any(|block| graph.name(value).contains(&format!("layers.{block}")));
        if constant.dims().len() < 2 || !constant.element().is_float() || is_wide {
            continue;
        }
        let mut values = constant.to_f32s().unwrap();
        for (i, value) in values.iter_mut().enumerate() {
            if (i as u32).wrapping_mul(2_654_435_761) >> 16 < 26_214 {
                *value = 0.0;
            }
        }
        let constant = Constant::from_f32s(constant.dims(), &values).unwrap();
        graph.set_initializer(value, constant);
    }
    graph
}

/// Zeros of a weight of the original that are none in the result.
fn refilled(original: &Graph, done: &Graph, name: &str) -> usize {
    let (before, after) = (mask(original, name), mask(done, name));
    before.keep().iter().zip(after.keep()).filter(|&(before, after)| !before && *after).count()
}

#[test]
fn zeros_stay_and_count() {
    let graph = with_holes();
    let rows = |spread, pattern, sparsity| SparsifyParams {
        sparsity,
        pattern,
        spread,
        // Of these the first has zeros, and is refitted.
        dense: (2..9).map(|block| format!("layers.{block}.*")).collect(),
        ..SparsifyParams::default()
    };
    let uniform = Spread::By(Distribution::Uniform);
    for (params, is_exact) in [
        (rows(uniform, Pattern::Unstructured, 0.6), true),
        (rows(Spread::Error, Pattern::Unstructured, 0.6), true),
        (rows(uniform, Pattern::NM(2, 4), 0.5), false),
        (rows(uniform, Pattern::Block(4, 4), 0.5), false),
        // Less than there is.
        (rows(uniform, Pattern::Unstructured, 0.2), false),
        (
            SparsifyParams {
                method: Method::Magnitude,
                ..rows(uniform, Pattern::Unstructured, 0.6)
            },
            true,
        ),
    ] {
        let done = run_on(&graph, params.clone());
        for layer in &done.report.layers {
            assert_eq!(refilled(&graph, &done.graph, &layer.weight), 0, "{} {params:?}", layer.key);
            assert_eq!(mask(&done.graph, &layer.weight).zeros(), layer.zeros, "{}", layer.key);
            if params.sparsity == 0.2 || layer.dense.is_some() {
                assert_eq!(layer.zeros, mask(&graph, &layer.weight).zeros(), "{}", layer.key);
            }
        }
        let report = &done.report;
        let wanted = (params.sparsity * report.weights as f64).round() as usize;
        assert!(report.zeros >= wanted && (!is_exact || report.zeros == wanted), "{params:?}");
    }
}

/// What two nodes read cannot fit both, and is named.
#[test]
fn shared_weights_are_left_and_listed() {
    let mut graph = onnx::read(&fixture("models/resnet20_fmnist_folded.onnx")).unwrap();
    let dims = |graph: &Graph, at: usize| {
        let weight = graph.nodes[at].input(1).filter(|_| graph.nodes[at].op == "Conv")?;
        Some(graph.initializer(weight)?.dims().to_vec())
    };
    let convs: Vec<usize> = (0..graph.nodes.len()).filter(|&i| dims(&graph, i).is_some()).collect();
    // The second and third convolution.
    assert_eq!(dims(&graph, convs[1]), dims(&graph, convs[2]));
    graph.nodes[convs[2]].inputs[1] = graph.nodes[convs[1]].inputs[1];
    let method = Method::Magnitude;
    let done = run_on(&graph, SparsifyParams { sparsity: 0.5, method, ..Default::default() });
    let layers = &done.report.layers;
    assert_eq!(layers[1].dense.as_deref(), Some("shared by 2 nodes"));
    assert_eq!(layers[1].key, graph.key(graph.node_ids().nth(convs[1]).unwrap()));
    assert_eq!((layers[1].zeros, layers[1].rows), (0, 0));
    // The others, in their order: the first convolution before, the fourth after.
    assert_eq!(layers[2].key, graph.key(graph.node_ids().nth(convs[3]).unwrap()));
    assert_eq!(done.report.zeros, done.report.weights.div_ceil(2));
}

#[test]
fn rows_of_the_outputs_stay() {
    let (pattern, method) = (Pattern::Rows, Method::Magnitude);
    let done = run(SparsifyParams { sparsity: 0.5, pattern, method, ..Default::default() });
    let last = done.report.layers.last().unwrap();
    assert_eq!((last.dense.as_deref(), last.zeros), (Some("makes the outputs"), 0));
}

#[test]
fn budgets_are_split_as_asked() {
    let run = |spread, method| {
        run(SparsifyParams { sparsity: 0.6, spread, method, ..SparsifyParams::default() }).report
    };
    let error = |report: &magnitude_schedule::model::SparsifyReport| -> f64 {
        report.layers.iter().map(|layer| layer.error).sum()
    };
    let uniform = run(Spread::By(Distribution::Uniform), Method::Obs);
    let by_error = run(Spread::Error, Method::Obs);
    let global = run(Spread::By(Distribution::Global), Method::Magnitude);
    for report in [&uniform, &by_error, &global] {
        assert_eq!(report.zeros, (0.6 * report.weights as f64).round() as usize);
    }
    assert!(error(&by_error) < error(&uniform));
    assert!(error(&uniform) < error(&global));
}

#[test]
fn wrong_requests_are_named() {
    let (graph, batches) = subject(32);
    let code = |params: SparsifyParams, batches| {
        let params = params.check().unwrap();
        let error = sparsify(&graph, &BTreeMap::new(), batches, &params, &Silent).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Internal);
        error.code()
    };
    assert_eq!(code(SparsifyParams::default(), Vec::new()), "E0144");
    let dense = |name: &str| SparsifyParams { dense: vec![name.into()], ..Default::default() };
    assert_eq!(code(dense("*"), batches.clone()), "E0432");
    assert_eq!(code(dense("conv9000"), batches), "E0434");
    let wrong = SparsifyParams { ridge: 0.0, ..SparsifyParams::default() };
    assert_eq!(wrong.check().unwrap_err().code(), "E0430");
    let wrong = SparsifyParams { pattern: Pattern::NM(2, 4), sparsity: 0.6, ..Default::default() };
    assert_eq!(wrong.check().unwrap_err().code(), "E0431");
}

/// The reason is that of the layers at hand, not what any model needs.
#[test]
fn why_nothing_can_be_sparsified_is_told() {
    let (_, batches) = subject(4);
    let mut graph = onnx::read(&fixture("models/resnet20_fmnist_folded.onnx")).unwrap();
    let refused = |graph: &Graph, dense: &[&str]| {
        let dense = dense.iter().map(|pattern| (*pattern).to_owned()).collect();
        let params = SparsifyParams { dense, ..SparsifyParams::default() }.check().unwrap();
        let none = BTreeMap::new();
        let error = sparsify(graph, &none, batches.clone(), &params, &Silent).unwrap_err();
        assert_eq!(error.code(), "E0432");
        (error.to_string(), error.hint_text().unwrap().to_owned())
    };
    let (message, hint) = refused(&graph, &["*"]);
    assert!(message.contains("others: named by `*`"), "{message}");
    assert!(hint.contains("name fewer as dense"), "{hint}");
    for value in graph.initializers().to_vec() {
        let constant = graph.initializer(value).unwrap();
        if constant.dims().len() > 1 {
            let halves = vec![0; 2 * constant.dims().iter().product::<usize>()];
            let dims = constant.dims().to_vec();
            let halves =
                Constant::from_bytes(tensor_core::ElementType::F64, dims, halves.repeat(4));
            graph.set_initializer(value, halves.unwrap());
        }
    }
    let (message, hint) = refused(&graph, &[]);
    assert!(message.contains("others: its weight is no constant of 32-bit floats"), "{message}");
    assert_eq!(hint, "convert the model to 32-bit floats");
}

#[test]
fn too_many_zeros_by_error_name_what_is_attainable() {
    let (graph, batches) = subject(4);
    let params =
        |sparsity| SparsifyParams { sparsity, spread: Spread::Error, ..SparsifyParams::default() };
    let run = |sparsity| {
        let params = params(sparsity).check().unwrap();
        sparsify(&graph, &BTreeMap::new(), batches.clone(), &params, &Silent)
    };
    let error = run(0.995).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("E0140", ErrorKind::Infeasible));
    assert!(error.message().starts_with("a sparsity of 99.5% is not attainable"), "{error}");
    assert!(error.message().contains("keeps the most: "), "{error}");
    let text = error.to_string() + error.hint_text().unwrap();
    assert!(!text.contains("budget") && !text.contains("round_to"), "{text}");
    // What is named can be had.
    let percent = text.split("allows ").nth(1).unwrap().split('%').next().unwrap();
    run(percent.parse::<f64>().unwrap() / 100.0).unwrap();
}
