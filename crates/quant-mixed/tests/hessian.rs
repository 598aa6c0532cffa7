//! Traces of the Hessian against a closed form.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{Device, Tensor};
use quant_mixed::model::{Prepared, RangeParams};
use quant_mixed::search::hessian::mean_traces;
use std::collections::BTreeMap;
use tensor_core::graph::{Attribute, Constant, Declared, Dim, Node};
use tensor_core::progress::Silent;
use tensor_core::run::Array;
use tensor_core::{ElementType, Graph};

const INPUTS: usize = 6;
const CLASSES: usize = 4;
const SAMPLES: usize = 16;

fn number(i: usize) -> f32 {
    ((i * i * 13 + i * 7 + 3) % 29) as f32 / 14.5 - 1.0
}

/// One linear layer under a softmax: the Hessian of the cross-entropy in row `c` of the weight is the mean
/// of `p_c (1 - p_c) x x'`, so its trace is that of `|x|^2 sum of p_c (1 - p_c)`.
#[test]
fn a_linear_classifier_has_the_trace_of_the_formula() {
    let weights: Vec<f32> = (0..CLASSES * INPUTS).map(number).collect();
    let samples: Vec<f32> = (0..SAMPLES * INPUTS).map(|i| number(i + 5)).collect();
    let mut trace = 0.0;
    for x in samples.chunks(INPUTS) {
        let scores = weights
            .chunks(INPUTS)
            .map(|w| w.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>().exp());
        let scores: Vec<f64> = scores.collect();
        let sum: f64 = scores.iter().sum();
        let norm: f64 = x.iter().map(|x| f64::from(x * x)).sum();
        trace += norm * scores.iter().map(|s| s / sum * (1.0 - s / sum)).sum::<f64>();
    }
    let expected = trace / (SAMPLES * CLASSES * INPUTS) as f64;

    let mut graph = Graph::default();
    graph.ir_version = 8;
    graph.opsets.insert(String::new(), 17);
    let [x, weight, scores] = ["x", "weight", "scores"].map(|name| graph.value(name));
    graph.set_initializer(weight, Constant::from_f32s(&[CLASSES, INPUTS], &weights).unwrap());
    let dims = Some([SAMPLES, INPUTS].map(Dim::Known).to_vec());
    let element = Some(ElementType::F32);
    graph.declare(x, Some(Declared { element, dims, ..Declared::default() }));
    let mut gemm = Node::new("linear", "Gemm", &[x, weight], &[scores]);
    gemm.attributes.set("transB", Attribute::Int(1));
    graph.nodes.push(gemm);
    graph.inputs.push(x);
    graph.outputs.push(scores);
    let batch = Tensor::from_vec(samples, (SAMPLES, INPUTS), &Device::Cpu).unwrap();
    let batches = [vec![Array::float(batch)]];
    let prepared =
        Prepared::new(&graph, &BTreeMap::new(), &batches, &RangeParams::default(), &Silent)
            .unwrap();
    let found =
        |draws| mean_traces(&prepared, &["linear"], &batches, draws, 0, &Silent).unwrap()[0];
    // The estimate's error falls with the root of the number of draws.
    let found = found(2000);
    assert!((found / expected - 1.0).abs() < 0.03, "{found} {expected}");
    assert!(mean_traces(&prepared, &["other"], &batches, 1, 0, &Silent).is_err());
}
