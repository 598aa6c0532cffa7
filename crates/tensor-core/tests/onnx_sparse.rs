//! Sparse initializers: what is written, that ONNX Runtime reads it, and what is refused.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(all(feature = "onnx", feature = "measure"))]

mod onnx_common;

use candle_core::{Device, Tensor};
use onnx_common::*;
use tensor_core::graph::{Constant, Graph};
use tensor_core::measure::{self, Choice};
use tensor_core::zoo::{self, Options};
use tensor_core::{Result, onnx};

/// A network of which every tenth weight is left, but for the first and the depthwise layers.
fn sparse_network() -> Graph {
    let options = Options { input: Some([3, 32, 32]), width: 0.25, ..Options::default() };
    let mut graph = zoo::architecture("mobilenet-v1").unwrap().build(&options).unwrap();
    for value in graph.initializers().to_vec() {
        let constant = graph.initializer(value).unwrap();
        let dims = constant.dims().to_vec();
        if dims.len() >= 2 && dims[1] > 3 {
            let mut values = constant.to_f32s().unwrap();
            let zeros = values.iter_mut().enumerate().filter(|(i, _)| i % 10 != 3);
            zeros.for_each(|(_, value)| *value = 0.0);
            graph.set_initializer(value, Constant::from_f32s(&dims, &values).unwrap());
        }
    }
    graph
}

#[test]
fn the_same_weights_come_back_and_the_file_is_smaller() {
    let graph = sparse_network();
    let dense = onnx::encode(&graph).unwrap();
    let sparse = onnx::to_sparse(&dense).unwrap();
    // The products, and biases and means that are still zero.
    assert!(sparse.converted >= 14, "{}", sparse.converted);
    assert!(2 * sparse.bytes.len() < dense.len(), "{} of {}", sparse.bytes.len(), dense.len());
    let again = onnx::decode(&sparse.bytes, None).unwrap();
    assert_eq!(again.initializers().len(), graph.initializers().len());
    for &value in graph.initializers() {
        let name = graph.name(value);
        let read = again.initializer(again.find(name).unwrap()).unwrap();
        let written = graph.initializer(value).unwrap();
        assert_eq!((read.dims(), read.bytes()), (written.dims(), written.bytes()), "{name}");
    }
    assert!(onnx::encode(&again).unwrap() == sparse.bytes, "what did not change is kept");
}

#[test]
fn a_changed_weight_is_written_dense() {
    let bytes = onnx::to_sparse(&onnx::encode(&sparse_network()).unwrap()).unwrap().bytes;
    let mut graph = onnx::decode(&bytes, None).unwrap();
    let value = graph.find("fc.weight").unwrap();
    let constant = graph.initializer(value).unwrap().clone();
    let mut values = constant.to_f32s().unwrap();
    values[0] = 4.0;
    graph.set_initializer(value, Constant::from_f32s(constant.dims(), &values).unwrap());
    let written = onnx::encode(&graph).unwrap();
    let again = onnx::decode(&written, None).unwrap();
    let read = again.initializer(again.find("fc.weight").unwrap()).unwrap();
    assert_eq!(read.to_f32s().unwrap(), values);
    // Thirteen of fourteen are sparse as before.
    assert_eq!(onnx::to_sparse(&written).unwrap().converted, 1);
}

#[test]
fn onnx_runtime_gives_the_same_outputs() {
    // Where its library is not installed there is nothing to compare with.
    let Ok(found) = measure::engine(Choice::OnnxRuntime) else { return };
    let graph = sparse_network();
    let dense = onnx::encode(&graph).unwrap();
    let sparse = onnx::to_sparse(&dense).unwrap().bytes;
    let x = (0..2 * 3 * 32 * 32).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0);
    let x = Tensor::from_iter(x, &Device::Cpu).unwrap().reshape((2, 3, 32, 32)).unwrap();
    let inputs = [(graph.name(graph.inputs[0]).to_owned(), x)];
    let outputs = [dense, sparse].map(|model| {
        let outputs = found.engine.load(&model, 1).unwrap().run(&inputs).unwrap();
        outputs[0].1.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    });
    assert!(outputs[0].iter().any(|value| *value != 0.0));
    assert_eq!(outputs[0], outputs[1]);
}

/// A model that adds a weight of some float type to its input; the weight is an initializer or the
/// tensor of a Constant node.
fn adds(weight: Message, in_node: bool) -> Vec<u8> {
    let cast = node("", "Cast", &["w"], &["c"])
        .sub(5, &Message::new().text(1, "to").int(3, FLOAT).int(20, 2));
    let add = node("", "Add", &["x", "c"], &["y"]);
    let (x, y) = ([value_info("x", FLOAT, &[400])], [value_info("y", FLOAT, &[400])]);
    let attribute = Message::new().text(1, "value").sub(5, &weight).int(20, 4);
    match in_node {
        true => {
            let constant = node("", "Constant", &[], &["w"]).sub(5, &attribute);
            model(&graph(&[constant, cast, add], &[], &x, &y))
        }
        false => model(&graph(&[cast, add], &[weight], &x, &y)),
    }
}

/// Of all float types, raw or as numbers, from initializers and Constant nodes; ONNX Runtime reads
/// each and gives the same outputs.
#[test]
fn every_kind_of_weight_becomes_sparse() {
    let ones = |one: &[u8]| -> Vec<u8> {
        (0..400)
            .flat_map(|i| one.iter().map(move |byte| if i % 40 == 7 { *byte } else { 0 }))
            .collect()
    };
    let raw =
        |element: i64, one: &[u8]| tensor_head(element, &[400]).text(8, "w").bytes(9, &ones(one));
    let typed = tensor_head(FLOAT, &[400]).text(8, "w").bytes(4, &ones(&1_f32.to_le_bytes()));
    let kinds = [
        raw(FLOAT, &1_f32.to_le_bytes()),
        raw(10, &0x3c00_u16.to_le_bytes()),
        raw(16, &0x3f80_u16.to_le_bytes()),
        raw(11, &1_f64.to_le_bytes()),
        typed,
    ];
    let found = measure::engine(Choice::OnnxRuntime).ok();
    for (kind, weight) in kinds.into_iter().enumerate() {
        for in_node in [false, true] {
            let dense = adds(weight.clone(), in_node);
            let sparse = onnx::to_sparse(&dense).unwrap();
            assert_eq!((sparse.converted, sparse.kept.len()), (1, 0), "{kind}");
            assert!(sparse.bytes.len() + 200 < dense.len(), "{kind}: {}", sparse.bytes.len());
            let again = onnx::decode(&sparse.bytes, None).unwrap();
            assert_eq!(again.nodes.len(), 2);
            let read = again.initializer(again.find("w").unwrap()).unwrap();
            assert_eq!(read.dims(), [400]);
            let Some(found) = &found else { continue };
            let x = Tensor::zeros(400, candle_core::DType::F32, &Device::Cpu).unwrap();
            let mut engine = found.engine.load(&sparse.bytes, 1).unwrap();
            let y = engine.run(&[("x".to_owned(), x)]).unwrap().remove(0).1;
            let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let expected = |i: usize| if i % 40 == 7 { 1.0 } else { 0.0 };
            assert!(y.iter().enumerate().all(|(i, &y)| y == expected(i)), "{kind}");
        }
    }
}

#[test]
fn what_has_to_stay_is_named() {
    let weight = tensor_head(FLOAT, &[400]).text(8, "x").bytes(9, &[0; 1600]);
    let (x, y) = ends();
    let body = graph(&[node("", "Relu", &["x"], &["y"])], &[weight], &x, &y);
    let kept = onnx::to_sparse(&model(&body)).unwrap().kept;
    assert_eq!((kept[0].name.as_str(), kept[0].reason), ("x", "is the default value of an input"));
    let value = tensor_head(FLOAT, &[400]).bytes(9, &[0; 1600]);
    let attribute = Message::new().text(1, "value").sub(5, &value).int(20, 4);
    let body = graph(&[node("", "Constant", &[], &["y"]).sub(5, &attribute)], &[], &x, &y);
    let kept = onnx::to_sparse(&model(&body)).unwrap().kept;
    assert_eq!((kept[0].name.as_str(), kept[0].reason), ("y", "is an output of the model"));
}

const I64: i64 = 7;

/// A model whose only initializer is sparse.
fn with_sparse(dims: &[i64], values: &Message, indices: &Message) -> Vec<u8> {
    let (x, y) = ends();
    let sparse = dims
        .iter()
        .fold(Message::new().sub(1, values).sub(2, indices), |message, &dim| message.int(3, dim));
    let graph = graph(&[node("", "Add", &["x", "w"], &["y"])], &[], &x, &y).sub(15, &sparse);
    model(&graph)
}

fn floats(values: &[f32]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor_head(FLOAT, &[values.len() as i64]).text(8, "w").bytes(9, &bytes)
}

fn integers(dims: &[i64], values: &[i64]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor_head(I64, dims).bytes(9, &bytes)
}

fn read(model: &[u8]) -> Result<Option<Vec<f32>>> {
    let graph = onnx::decode(model, None)?;
    let weight = graph.find("w").unwrap();
    graph.initializer(weight).map(Constant::to_f32s).transpose()
}

#[test]
fn both_kinds_of_indices_are_read() {
    let values = floats(&[5.0, -0.0, 7.0]);
    let expected = [0.0, 5.0, 0.0, -0.0, 0.0, 7.0];
    let linear = with_sparse(&[2, 3], &values, &integers(&[3], &[1, 3, 5]));
    let tuples = with_sparse(&[2, 3], &values, &integers(&[3, 2], &[0, 1, 1, 0, 1, 2]));
    for model in [linear, tuples] {
        let read = read(&model).unwrap().unwrap();
        assert_eq!(
            read.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            expected.map(f32::to_bits)
        );
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let values = floats(&[5.0, 6.0]);
    for (dims, indices, part) in [
        (&[2, 3][..], integers(&[2], &[1, 6]), "index 6"),
        (&[2, 3], integers(&[2], &[1, -1]), "negative index"),
        (&[2, 3], integers(&[3], &[1, 2, 3]), "indices of shape [3]"),
        (&[2, 3], integers(&[2, 2], &[0, 1, 2, 0]), "outside of shape"),
        (&[2, 3], integers(&[2, 3], &[0, 1, 0, 1, 0, 0]), "indices of shape [2, 3]"),
        (&[-2, 3], integers(&[2], &[1, 2]), "has shape [-2, 3]"),
        (&[0], integers(&[2], &[0, 0]), "index 0"),
        (&[2, 3], integers(&[2], &[4, 4]), "initializer `w` has the same index twice: 4"),
        (&[2, 3], integers(&[2], &[4, 1]), "initializer `w` has indices out of order: 4 before 1"),
        (&[2, 3], integers(&[2, 2], &[1, 0, 0, 2]), "indices out of order: 3 before 2"),
    ] {
        let error = read(&with_sparse(dims, &values, &indices)).unwrap_err();
        assert_eq!(error.code(), "E0101", "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[test]
fn a_small_file_cannot_ask_for_much_memory() {
    let indices = integers(&[1], &[3]);
    for dims in [&[1 << 32][..], &[1 << 40, 1 << 40], &[i64::MAX, i64::MAX, 0]] {
        let model = with_sparse(dims, &floats(&[5.0]), &indices);
        assert_eq!(read(&model).ok().flatten(), None, "{dims:?}");
    }
}

#[test]
fn models_without_sparse_tensors_are_refused_or_left() {
    let (x, y) = ends();
    let body = graph(&[node("", "Relu", &["x"], &["y"])], &[], &x, &y);
    let old = onnx::to_sparse(&model_of(5, 11, &body).0).unwrap_err();
    assert_eq!(old.code(), "E0103");
    assert_eq!(onnx::to_sparse(b"{}").unwrap_err().code(), "E0100");
    let dense = std::fs::read(root().join("fixtures/models/vgg7_fmnist_folded.onnx")).unwrap();
    let same = onnx::to_sparse(&dense).unwrap();
    assert_eq!((same.converted, same.bytes == dense), (0, true));
}
