//! Quantized graphs of real networks.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{Device, Tensor};
use quant_mixed::model::{
    BiasCorrection, Prepared, QuantizeParams, Quantized, RangeParams, Rounding, WeightQuantizer,
    quantize,
};
use quant_mixed::{Assignment, LayerBits};
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::graph::{Attribute, Constant, Node};
use tensor_core::progress::Silent;
use tensor_core::run::{Array, Session};
use tensor_core::{ElementType, Graph, onnx};

/// Numbers that look random, between -1 and 2.
fn images(count: usize, side: usize, seed: usize) -> Array {
    let pixels = count * side * side;
    let values =
        (0..pixels).map(|i| ((i * i * 31 + i * 17 + seed * 7919) % 997) as f32 / 332.0 - 1.0);
    let values: Vec<f32> = values.collect();
    Array::float(Tensor::from_vec(values, (count, 1, side, side), &Device::Cpu).unwrap())
}

fn resnet20() -> Graph {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/resnet20_fmnist_bn.onnx");
    onnx::read(std::path::Path::new(path)).unwrap()
}

fn calibration() -> Vec<Vec<Array>> {
    (0..2).map(|seed| vec![images(8, 28, seed)]).collect()
}

fn quantized(graph: &Graph, params: QuantizeParams) -> Quantized {
    quantize(graph, &BTreeMap::new(), &calibration(), &params.check().unwrap(), &Silent).unwrap()
}

/// Signal over error of the first output on images that were not used for calibration, in dB.
fn kept(float: &Graph, other: &Graph) -> f64 {
    let run = |graph: &Graph| {
        let input = images(8, 28, 99);
        Session::new(graph).unwrap().run(&[(graph.inputs[0], input)]).unwrap()[0].to_f32s().unwrap()
    };
    let (a, b) = (run(float), run(other));
    let square = |x: f32| f64::from(x) * f64::from(x);
    let signal: f64 = a.iter().map(|&a| square(a)).sum();
    let noise: f64 = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum();
    10.0 * (signal / noise).log10()
}

fn four_bits() -> QuantizeParams {
    QuantizeParams { bits: Assignment::uniform(4, 8), ..QuantizeParams::default() }
}

#[test]
fn rounding_and_correction_keep_more_of_the_outputs() {
    let graph = resnet20();
    let plain = QuantizeParams {
        rounding: Rounding::Nearest,
        bias_correction: BiasCorrection::None,
        equalize: false,
        ..four_bits()
    };
    let nearest = quantized(&graph, plain.clone());
    let corrected =
        quantized(&graph, QuantizeParams { bias_correction: BiasCorrection::Empirical, ..plain });
    let best = quantized(&graph, four_bits());
    let found = [&nearest, &corrected, &best].map(|made| kept(&graph, &made.graph));
    // On noise the weights of neighbouring inputs have nothing to make up for.
    assert!(found[1] > found[0] + 6.0 && found[2] > found[0] + 6.0, "{found:?}");
    assert_eq!(best.report.effective_bits, 4.0);
    assert_eq!(best.report.opset, [17, 21]);
    assert_eq!(best.report.folded_batch_norms, 21);
}

#[test]
fn threads_leave_no_trace() {
    let graph = resnet20();
    let bytes = [1, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| onnx::encode(&quantized(&graph, four_bits()).graph).unwrap())
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn what_a_layer_reads_has_no_more_levels_than_its_bits() {
    let graph = resnet20();
    let ranges = RangeParams::default();
    let prepared =
        Prepared::new(&graph, &BTreeMap::new(), &calibration(), &ranges, &Silent).unwrap();
    let mut bits = Assignment::uniform(8, 8);
    // Its input is read by a shortcut too, which keeps its 8 bits.
    let shared = prepared.layers[1].key.clone();
    bits.layers.insert(shared, LayerBits { weights: 2, activations: 3 });
    let made = prepared.simulate(&bits).unwrap();
    let count = |name: &str| {
        let value = made.find(name).unwrap();
        let session = Session::until(&made, &[value]).unwrap();
        let array = &session.fetch(&[(made.inputs[0], images(4, 28, 5))], &[value]).unwrap()[0];
        let levels: BTreeSet<u32> =
            array.to_f32s().unwrap().iter().map(|value| (value + 0.0).to_bits()).collect();
        levels.len()
    };
    let input = prepared.graph.name(prepared.layers[1].input);
    assert!(count(&format!("{input}_3bit_dequantized")) <= 8);
    assert!((9..=256).contains(&count(&format!("{input}_dequantized"))));
    let weight = made.find(&format!("{}_quantized", prepared.layers[1].weight)).unwrap();
    assert_eq!(made.initializer(weight).unwrap().element(), ElementType::I4);
    // Uniform bits simulate what they say, everywhere.
    let low = prepared.simulate(&Assignment::uniform(2, 2)).unwrap();
    low.validate().unwrap();
}

/// A convolution by hand: the graph computes what integers give.
/// Groups of very different weights: each is rounded at its own scales, in blocks too.
#[test]
fn groups_of_a_convolution_have_their_own_scales() {
    let mut graph = Graph::default();
    graph.opsets.insert(String::new(), 17);
    let [x, v, y, w, z] = ["x", "v", "y", "w", "z"].map(|name| graph.value(name));
    graph.inputs.push(x);
    graph.outputs.push(z);
    let numbers = |count: usize, size: f32| {
        (0..count).map(move |i| size * (((i * i * 7 + i * 3 + 1) % 23) as f32 / 11.5 - 1.0))
    };
    let first: Vec<f32> = numbers(8 * 9, 1.0).collect();
    graph.set_initializer(v, Constant::from_f32s(&[8, 1, 3, 3], &first).unwrap());
    let weights: Vec<f32> = numbers(2 * 4 * 9, 0.003).chain(numbers(2 * 4 * 9, 4.0)).collect();
    graph.set_initializer(w, Constant::from_f32s(&[4, 4, 3, 3], &weights).unwrap());
    graph.nodes.push(Node::new("first", "Conv", &[x, v], &[y]));
    let mut second = Node::new("second", "Conv", &[y, w], &[z]);
    second.attributes.set("group", Attribute::Int(2));
    graph.nodes.push(second);
    let shapes = BTreeMap::from([("x".to_owned(), vec![8, 1, 12, 12])]);
    for weight_quantizer in [WeightQuantizer::Linear, WeightQuantizer::Blocks(2)] {
        let params = QuantizeParams {
            ranges: RangeParams { weight_quantizer, ..RangeParams::default() },
            equalize: false,
            ..QuantizeParams::default()
        };
        let batches = vec![vec![images(8, 12, 3)]];
        let made = quantize(&graph, &shapes, &batches, &params.check().unwrap(), &Silent).unwrap();
        let run = |graph: &Graph| {
            let outputs = Session::new(graph).unwrap().run(&[(graph.inputs[0], images(8, 12, 5))]);
            outputs.unwrap()[0].to_f32s().unwrap()
        };
        // The small group alone: two of four channels of 8 x 8.
        let small = |all: Vec<f32>| -> Vec<f32> {
            all.chunks(4 * 64).flat_map(|sample| sample[..2 * 64].to_vec()).collect()
        };
        let weight = |graph: &Graph| {
            let session = Session::until(graph, &[graph.find("w").unwrap()]).unwrap();
            let input = (graph.inputs[0], images(1, 12, 0));
            session.fetch(&[input], &[graph.find("w").unwrap()]).unwrap()[0].to_f32s().unwrap()
        };
        for (own, float) in weight(&made.graph).chunks(36).zip(weights.chunks(36)) {
            let most = float.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
            for (own, float) in own.iter().zip(float) {
                // Later weights make up for earlier ones by some steps of 1/127.
                assert!((own - float).abs() < 0.1 * most, "{own} for {float}");
            }
        }
        if weight_quantizer != WeightQuantizer::Linear {
            let (a, b) = (small(run(&graph)), small(run(&made.graph)));
            let most = a.iter().fold(0.0_f32, |most, y| most.max(y.abs()));
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() < 0.05 * most, "{a} {b}");
            }
        }
    }
}

#[test]
fn a_layer_is_integer_arithmetic() {
    let mut graph = Graph::default();
    graph.opsets.insert(String::new(), 17);
    let [x, w, b, y, z] = ["x", "w", "b", "y", "z"].map(|name| graph.value(name));
    graph.inputs.push(x);
    graph.outputs.push(z);
    graph.set_initializer(w, Constant::from_f32s(&[2, 1, 1, 1], &[0.5, -0.25]).unwrap());
    graph.set_initializer(b, Constant::from_f32s(&[2], &[0.1, 0.7]).unwrap());
    graph.nodes.push(Node::new("conv", "Conv", &[x, w, b], &[y]));
    graph.nodes.push(Node::new("relu", "Relu", &[y], &[z]));
    let shapes = BTreeMap::from([("x".to_owned(), vec![1, 1, 4, 4])]);
    let params = QuantizeParams {
        rounding: Rounding::Nearest,
        bias_correction: BiasCorrection::None,
        ..QuantizeParams::default()
    };
    let batches = vec![vec![images(2, 4, 3)]];
    let made = quantize(&graph, &shapes, &batches, &params.check().unwrap(), &Silent).unwrap();
    let integers = |name: &str| {
        let value = made.graph.find(name).unwrap();
        made.graph.initializer(value).unwrap().to_i64s().unwrap()
    };
    let number = |name: &str| {
        let value = made.graph.find(name).unwrap();
        made.graph.initializer(value).unwrap().to_f32s().unwrap()
    };
    let (sx, zx) = (number("x_scale")[0], integers("x_zero_point")[0]);
    let (sz, zz) = (number("z_scale")[0], integers("z_zero_point")[0]);
    let (sw, qw) = (number("w_scale"), integers("w_quantized"));
    let (sb, qb) = (number("b_scale"), integers("b_quantized"));
    assert_eq!(zz, 0);
    assert_eq!(sb, [sx * sw[0], sx * sw[1]]);
    let input = images(2, 4, 8);
    let pixels = input.to_f32s().unwrap();
    let session = Session::new(&made.graph).unwrap();
    let output = session.run(&[(made.graph.inputs[0], input)]).unwrap()[0].to_f32s().unwrap();
    for (i, &found) in output.iter().enumerate() {
        let (sample, channel, pixel) = (i / 32, i / 16 % 2, i % 16);
        let x = pixels[sample * 16 + pixel];
        let q = ((x / sx).round_ties_even() as i64 + zx).clamp(0, 255);
        let sum = (q - zx) * qw[channel] + qb[channel];
        let exact = f64::from(sb[channel]) * sum as f64 / f64::from(sz);
        let expected = exact.round_ties_even().clamp(0.0, 255.0) as f32 * sz;
        let is_tie = (exact.fract().abs() - 0.5).abs() < 1e-4;
        assert!(is_tie || (found - expected).abs() <= 1e-6, "{found} for {expected}");
    }
    // The graph output keeps its name behind DequantizeLinear.
    assert_eq!(made.graph.name(made.graph.outputs[0]), "z");
    assert_eq!(made.graph.nodes.last().unwrap().op, "DequantizeLinear");
}

/// `b + (W - W_q) E[x]`, once, however weights are rounded; or `b`.
#[test]
fn analytic_correction_takes_up_the_mean_error_once() {
    let mut graph = Graph::default();
    graph.opsets.insert(String::new(), 17);
    let [x, w, b, y] = ["x", "w", "b", "y"].map(|name| graph.value(name));
    graph.inputs.push(x);
    graph.outputs.push(y);
    let weight: Vec<f32> =
        (0..24_i32).map(|i| ((i * i * 7 + 3) % 23) as f32 / 11.0 - 1.0).collect();
    let bias = [0.1_f32, -0.3, 0.7];
    graph.set_initializer(w, Constant::from_f32s(&[8, 3], &weight).unwrap());
    graph.set_initializer(b, Constant::from_f32s(&[3], &bias).unwrap());
    graph.nodes.push(Node::new("fc", "Gemm", &[x, w, b], &[y]));
    let shapes = BTreeMap::from([("x".to_owned(), vec![1, 8])]);
    let rows = 64;
    let inputs: Vec<f32> = (0..rows * 8)
        .map(|i| ((i * i * 13 + i) % 101) as f32 / 100.0 + (i % 8) as f32 / 4.0)
        .collect();
    let mean = |column: usize| inputs.iter().skip(column).step_by(8).sum::<f32>() / rows as f32;
    let batch = Array::float(Tensor::from_vec(inputs.clone(), (rows, 8), &Device::Cpu).unwrap());
    for rounding in [Rounding::Nearest, Rounding::Optimal, Rounding::Adaptive] {
        for correction in [BiasCorrection::None, BiasCorrection::Analytic] {
            let params = QuantizeParams {
                bits: Assignment::uniform(3, 8),
                rounding,
                bias_correction: correction,
                ..QuantizeParams::default()
            };
            let batches = vec![vec![batch.clone()]];
            let params = params.check().unwrap();
            let made = quantize(&graph, &shapes, &batches, &params, &Silent).unwrap().graph;
            let constant = |name: &str| made.initializer(made.find(name).unwrap()).unwrap();
            let floats = |name: &str| constant(name).to_f32s().unwrap();
            let integers = |name: &str| constant(name).to_i64s().unwrap();
            let (scales, codes) = (floats("w_scale"), integers("w_quantized"));
            let (steps, biases) = (floats("b_scale"), integers("b_quantized"));
            for output in 0..3 {
                let lost = (0..8).map(|input| {
                    let at = input * 3 + output;
                    (weight[at] - codes[at] as f32 * scales[output]) * mean(input)
                });
                let lost: f32 = lost.sum();
                let expected = match correction {
                    BiasCorrection::None => bias[output],
                    _ => bias[output] + lost,
                };
                let found = biases[output] as f32 * steps[output];
                let close = steps[output] + 1e-4;
                assert!(
                    (found - expected).abs() <= close,
                    "{rounding:?} {correction:?}: {found} {expected}"
                );
                assert!(lost.abs() > 4.0 * close, "{rounding:?}: nothing to take up: {lost}");
            }
        }
    }
}

#[test]
fn integers_and_names_follow_the_conventions() {
    let graph = resnet20();
    let made = quantized(&graph, QuantizeParams::default()).graph;
    assert_eq!(made.opset(), 17);
    let count = |op: &str| made.nodes.iter().filter(|node| node.op == op).count();
    assert_eq!(count("Conv") + count("Gemm"), 22);
    assert_eq!(count("QuantizeLinear"), 33);
    assert_eq!(count("DequantizeLinear"), 33 + 2 * 22);
    for node in made.nodes.iter().filter(|node| node.op == "Conv") {
        let weight = node.input(1).unwrap();
        let producer = made.nodes.iter().find(|other| other.output(0) == Some(weight)).unwrap();
        assert_eq!(producer.attributes.get("axis"), Some(&Attribute::Int(0)));
        let stored = made.initializer(producer.input(0).unwrap()).unwrap();
        assert_eq!(stored.element(), ElementType::I8);
        assert!(stored.to_i64s().unwrap().iter().all(|q| (-127..=127).contains(q)));
    }
    let names = |graph: &Graph| -> Vec<String> {
        graph.inputs.iter().chain(&graph.outputs).map(|&v| graph.name(v).to_owned()).collect()
    };
    assert_eq!(names(&made), names(&graph));
}

/// Two layers of one weight before a wide one.
#[test]
fn what_is_not_done_as_asked_is_said() {
    let mut graph = Graph::default();
    graph.opsets.insert(String::new(), 17);
    let [x, w, y, ry, z, flat, wide, scores] =
        ["x", "w", "y", "ry", "z", "flat", "wide", "scores"].map(|name| graph.value(name));
    graph.inputs.push(x);
    graph.outputs.push(scores);
    let numbers = |count: usize| (0..count).map(|i| ((i * i * 7 + i * 3 + 1) % 23) as f32 - 11.0);
    graph.set_initializer(
        w,
        Constant::from_f32s(&[1, 1, 3, 3], &numbers(9).collect::<Vec<_>>()).unwrap(),
    );
    let columns = 69 * 69;
    let values: Vec<f32> = numbers(2 * columns).collect();
    graph.set_initializer(wide, Constant::from_f32s(&[columns, 2], &values).unwrap());
    graph.nodes.push(Node::new("first", "Conv", &[x, w], &[y]));
    graph.nodes.push(Node::new("relu", "Relu", &[y], &[ry]));
    graph.nodes.push(Node::new("second", "Conv", &[ry, w], &[z]));
    graph.nodes.push(Node::new("flatten", "Flatten", &[z], &[flat]));
    graph.nodes.push(Node::new("last", "MatMul", &[flat, wide], &[scores]));
    let shapes = BTreeMap::from([("x".to_owned(), vec![4, 1, 73, 73])]);
    let params = QuantizeParams::default().check().unwrap();
    let batches = vec![vec![images(4, 73, 1)]];
    let made = quantize(&graph, &shapes, &batches, &params, &Silent).unwrap();
    let report = &made.report;
    assert_eq!(report.copied.len(), 1);
    assert_eq!(report.copied[0].layers, ["first", "second"]);
    let keys: Vec<&str> = report.rounded_to_nearest.iter().map(|left| &*left.key).collect();
    assert_eq!(keys, ["last"]);
    assert!(report.rounded_to_nearest[0].reason.contains("4761 inputs"), "{report:?}");
    let nearest = QuantizeParams { rounding: Rounding::Nearest, ..QuantizeParams::default() };
    let made = quantize(&graph, &shapes, &batches, &nearest.check().unwrap(), &Silent).unwrap();
    assert!(made.report.rounded_to_nearest.is_empty());
}

#[test]
fn wrong_requests_are_named() {
    let graph = resnet20();
    let code = |graph: &Graph, params: QuantizeParams| {
        let params = params.check().unwrap();
        quantize(graph, &BTreeMap::new(), &calibration(), &params, &Silent).unwrap_err().code()
    };
    let mut exclude = QuantizeParams::default();
    exclude.ranges.exclude.push("nothing".to_owned());
    assert_eq!(code(&graph, exclude), "E0502");
    let mut all = QuantizeParams::default();
    all.ranges.exclude.push("*".to_owned());
    assert_eq!(code(&graph, all), "E0501");
    let mut plan = QuantizeParams::default();
    plan.bits.layers.insert("conv9".to_owned(), LayerBits { weights: 4, activations: 4 });
    assert_eq!(code(&graph, plan), "E0502");
    let twice = quantized(&graph, QuantizeParams::default()).graph;
    assert_eq!(code(&twice, QuantizeParams::default()), "E0504");
    let bits = QuantizeParams { bits: Assignment::uniform(0, 8), ..QuantizeParams::default() };
    assert_eq!(bits.check().unwrap_err().code(), "E0500");
}
