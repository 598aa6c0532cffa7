//! Runs that nobody looks into fuse operators; what they return is what a tapped run returns.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{Device, Tensor};
use common::{Attributes, Model, ints};
use tensor_core::run::{Array, Session, Tap};
use tensor_core::{ElementType, Graph, NodeId, Result, ValueId};

/// Counts the values that it sees.
#[derive(Default)]
struct Count(usize);

impl Tap for Count {
    fn after(&mut self, _value: ValueId, _array: &Array) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

fn pattern(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
}

fn input(dims: &[usize]) -> Tensor {
    Tensor::from_vec(pattern(dims.iter().product(), 1), dims, &Device::Cpu).unwrap()
}

/// A 3 x 3 convolution that keeps height and width.
fn conv(model: &mut Model, x: ValueId, inputs: usize, outputs: usize) -> ValueId {
    let dims = [outputs, inputs, 3, 3];
    let w = model.floats(&dims, &pattern(dims.iter().product(), outputs));
    let b = model.floats(&[outputs], &pattern(outputs, 3));
    model.node("Conv", &[x, w, b], vec![("pads", ints(&[1, 1, 1, 1]))])
}

fn batch_norm(model: &mut Model, x: ValueId, channels: usize) -> ValueId {
    let variance: Vec<f32> = (0..channels).map(|c| 0.5 + c as f32).collect();
    let parameters = [2, 5, 7].map(|seed| model.floats(&[channels], &pattern(channels, seed)));
    let variance = model.floats(&[channels], &variance);
    let [scale, shift, mean] = parameters;
    model.node("BatchNormalization", &[x, scale, shift, mean, variance], Attributes::new())
}

/// Fused and tapped runs agree within rounding, and the tap sees every node's output.
fn check(graph: &Graph, dims: &[usize]) {
    let session = Session::new(graph).unwrap();
    let inputs = [(graph.inputs[0], Array::float(input(dims)))];
    let fused = session.run(&inputs).unwrap();
    let mut count = Count::default();
    let tapped = session.run_for(&inputs, &graph.outputs, &mut count).unwrap();
    assert_eq!(count.0, graph.nodes.len() + 1);
    for (fused, tapped) in fused.iter().zip(&tapped) {
        assert_eq!(fused.dims(), tapped.dims());
        let (fused, tapped) = (fused.to_f32s().unwrap(), tapped.to_f32s().unwrap());
        // A few roundings, relative to the range of the output.
        let range = tapped.iter().fold(0.0_f32, |range, v| range.max(v.abs()));
        for (a, b) in fused.iter().zip(&tapped) {
            assert!((a - b).abs() <= 8.0 * f32::EPSILON * range, "{a} instead of {b}");
        }
    }
}

#[test]
fn residual_block_with_normalization() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[2, 4, 9, 7]);
    let first = conv(&mut m, x, 4, 6);
    let first = batch_norm(&mut m, first, 6);
    let first = m.node("Relu", &[first], Attributes::new());
    let (low, high) = (m.floats(&[], &[-0.5]), m.floats(&[], &[0.75]));
    let second = conv(&mut m, first, 6, 6);
    let second = batch_norm(&mut m, second, 6);
    let sum = m.node("Add", &[first, second], Attributes::new());
    let sum = m.node("Clip", &[sum, low, high], Attributes::new());
    check(&m.finish(&[sum]), &[2, 4, 9, 7]);
}

#[test]
fn branches_that_meet_in_one_addition() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[1, 3, 8, 8]);
    let (a, b) = (conv(&mut m, x, 3, 5), conv(&mut m, x, 3, 5));
    let sum = m.node("Add", &[a, b], Attributes::new());
    let sum = m.node("Relu", &[sum], Attributes::new());
    check(&m.finish(&[sum]), &[1, 3, 8, 8]);
}

#[test]
fn outputs_within_a_chain_stay_what_they_are() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[1, 3, 8, 8]);
    let inner = conv(&mut m, x, 3, 5);
    let outer = m.node("Relu", &[inner], Attributes::new());
    let graph = m.finish(&[inner, outer]);
    check(&graph, &[1, 3, 8, 8]);
    let session = Session::new(&graph).unwrap();
    let outputs = session.run_one(input(&[1, 3, 8, 8])).unwrap();
    assert!(outputs[0].to_f32s().unwrap().iter().any(|&v| v < 0.0));
    assert!(outputs[1].to_f32s().unwrap().iter().all(|&v| v >= 0.0));
}

#[test]
fn an_addition_that_broadcasts_is_not_fused() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[2, 3, 8, 8]);
    let pooled = m.node("GlobalAveragePool", &[x], Attributes::new());
    let y = conv(&mut m, x, 3, 3);
    let sum = m.node("Add", &[pooled, y], Attributes::new());
    let narrow = conv(&mut m, pooled, 3, 3);
    let wide = m.node("Add", &[narrow, y], Attributes::new());
    check(&m.finish(&[sum, wide]), &[2, 3, 8, 8]);
}

#[test]
fn depthwise_and_grouped_convolutions_fuse_too() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[2, 6, 9, 9]);
    let mut y = x;
    for groups in [6, 3] {
        let w = m.floats(&[6, 6 / groups, 3, 3], &pattern(324 / groups, groups));
        let attributes = vec![
            ("group", common::int(groups as i64)),
            ("strides", ints(&[2, 1])),
            ("auto_pad", common::text("SAME_UPPER")),
        ];
        y = m.node("Conv", &[y, w], attributes);
        y = m.node("Relu", &[y], Attributes::new());
    }
    check(&m.finish(&[y]), &[2, 6, 9, 9]);
}

/// Replaces the weight of a node by zeros.
struct Silence(NodeId);

impl Tap for Silence {
    fn before(&mut self, node: NodeId, input: usize, value: &Array) -> Result<Option<Array>> {
        let zeros = (node == self.0 && input == 1).then(|| value.tensor.zeros_like());
        Ok(zeros.transpose()?.map(Array::float))
    }
}

#[test]
fn a_tap_that_replaces_a_weight_is_heard() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[1, 3, 4, 4]);
    let w = m.floats(&[2, 3, 1, 1], &[1.0; 6]);
    let y = m.node("Conv", &[x, w], Attributes::new());
    let flat = m.node("Flatten", &[y], Attributes::new());
    let w = m.floats(&[32, 4], &pattern(128, 1));
    let z = m.node("MatMul", &[flat, w], Attributes::new());
    let graph = m.finish(&[y, z]);
    let session = Session::new(&graph).unwrap();
    let inputs = [(graph.inputs[0], Array::float(input(&[1, 3, 4, 4])))];
    for silent in [0, 2] {
        let mut tap = Silence(NodeId::from_index(silent));
        let outputs = session.run_for(&inputs, &graph.outputs, &mut tap).unwrap();
        assert!(outputs[1].to_f32s().unwrap().iter().all(|&v| v == 0.0), "node {silent}");
    }
}
