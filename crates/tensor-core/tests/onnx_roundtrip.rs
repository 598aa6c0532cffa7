//! What goes through the graph unchanged comes out unchanged.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(feature = "onnx")]

mod onnx_common;

use onnx_common::*;
use tensor_core::graph::{Attribute, Declared, Dim, Encoding, Graph};
use tensor_core::{Constant, ElementType, onnx};

/// Everything a reader of the graph sees of its nodes.
fn nodes(graph: &Graph) -> Vec<String> {
    let names = |values: &[Option<tensor_core::ValueId>]| -> Vec<String> {
        values.iter().map(|v| v.map_or("-", |v| graph.name(v)).to_owned()).collect()
    };
    graph
        .nodes
        .iter()
        .map(|node| {
            let captures: Vec<&str> = node.captures.iter().map(|&v| graph.name(v)).collect();
            format!(
                "{} {}.{} {:?} {:?} {captures:?} {:?}",
                node.name,
                node.domain,
                node.op,
                names(&node.inputs),
                names(&node.outputs),
                node.attributes
            )
        })
        .collect()
}

fn initializers(graph: &Graph) -> Vec<(&str, &Constant)> {
    graph
        .initializers()
        .iter()
        .map(|&value| (graph.name(value), graph.initializer(value).unwrap()))
        .collect()
}

#[test]
fn models_keep_their_nodes_and_initializers() {
    let folder = tempfile::tempdir().unwrap();
    let models = models();
    assert!(models.len() >= 4);
    for path in models {
        let before = match onnx::read(&path) {
            Ok(graph) => graph,
            Err(error) if error.code() == "E0103" => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let copy = folder.path().join("copy.onnx");
        onnx::write(&before, &copy).unwrap();
        let after = onnx::read(&copy).unwrap();
        assert_eq!(nodes(&before), nodes(&after), "{}", path.display());
        assert!(initializers(&before) == initializers(&after), "{}", path.display());
        assert_eq!(before.opsets, after.opsets);
        let names = |graph: &Graph| -> Vec<String> {
            graph.inputs.iter().chain(&graph.outputs).map(|&v| graph.name(v).to_owned()).collect()
        };
        assert_eq!(names(&before), names(&after));
    }
}

#[test]
fn a_bit_of_everything_keeps_its_bytes() {
    let bytes = tiny();
    assert!(bytes.len() < 4096);
    let graph = onnx::decode(&bytes, None).unwrap();
    assert_eq!(onnx::encode(&graph).unwrap(), bytes);
}

#[test]
fn a_bit_of_everything_is_understood() {
    let graph = onnx::decode(&tiny(), None).unwrap();
    let value = |name: &str| graph.find(name).unwrap();
    let constant = |name: &str| graph.initializer(value(name)).unwrap();
    assert_eq!(graph.opset(), 17);
    assert_eq!(graph.metadata, [("key".to_owned(), "value".to_owned())]);
    assert_eq!(graph.producer, ("tiny".to_owned(), String::new()));
    assert_eq!(constant("zero").to_i64s().unwrap(), [0, 128, 255]);
    assert_eq!(constant("halves").to_f32s().unwrap(), [1.0, -2.0]);
    assert_eq!(constant("b").encoding, Encoding::Typed);
    assert_eq!(constant("k").encoding, Encoding::Raw);
    assert_eq!(constant("nibbles").element(), ElementType::I4);
    assert_eq!(constant("nibbles").bytes(), [0x21, 0x03]);

    let branches = graph.nodes.iter().find(|node| node.op == "If").unwrap();
    let mut captures: Vec<&str> = branches.captures.iter().map(|&v| graph.name(v)).collect();
    captures.sort_unstable();
    assert_eq!(captures, ["flat", "w"]);
    assert!(matches!(branches.attributes.get("then_branch"), Some(Attribute::Opaque(_))));

    let strange = graph.nodes.last().unwrap();
    assert_eq!(strange.domain, "org.example");
    assert_eq!(strange.inputs[1], None);
    assert_eq!(strange.outputs[1], None);
    assert_eq!(strange.attributes.float("alpha", 0.0).unwrap(), 0.5);
    assert_eq!(strange.attributes.string("mode", "").unwrap(), "linear");
    assert_eq!(strange.attributes.int("axis", 9).unwrap(), 0, "left out as proto3 does");
    assert_eq!(strange.attributes.int("untyped", 9).unwrap(), 3, "as before IR version 2");
    assert_eq!(strange.attributes.ints("none").unwrap(), Some(&[][..]));

    let dims = |name: &str| graph.declared(value(name)).unwrap().dims.clone().unwrap();
    let expected = [Dim::Symbol("batch".to_owned()), Dim::Known(1), Dim::Known(2), Dim::Known(2)];
    assert_eq!(dims("x"), expected);
    assert_eq!(dims("c")[0], Dim::Unknown, "-1 is how some exporters say any size");
}

#[test]
fn initializers_that_are_inputs_stay_so() {
    let (x, y) = ends();
    let inputs = [value_info("w", FLOAT, &[2]), x[0].clone()];
    let body = graph(
        &[node("", "Add", &["x", "w"], &["y"])],
        &[floats("w", &[2], &[1.0, 2.0])],
        &inputs,
        &y,
    );
    let bytes = model_of(3, 9, &body).0;
    let mut graph = onnx::decode(&bytes, None).unwrap();
    assert_eq!(graph.inputs, [graph.find("x").unwrap()]);
    assert_eq!(onnx::encode(&graph).unwrap(), bytes);

    // Below IR version 4 a new or changed initializer is listed with its own shape.
    let w = graph.find("w").unwrap();
    graph.set_initializer(w, Constant::from_f32s(&[1], &[3.0]).unwrap());
    let extra = graph.value("extra");
    graph.set_initializer(extra, Constant::from_i64s(&[2], &[3, 4]).unwrap());
    let again = onnx::decode(&onnx::encode(&graph).unwrap(), None).unwrap();
    assert_eq!(again.inputs.len(), 1);
    let dims = |name: &str| {
        again.declared(again.find(name).unwrap()).and_then(|declared| declared.dims.clone())
    };
    assert_eq!(dims("w"), Some(vec![Dim::Known(1)]));
    assert_eq!(dims("extra"), Some(vec![Dim::Known(2)]));
}

#[test]
fn unsorted_nodes_are_sorted() {
    let (x, y) = ends();
    let nodes = [
        node("third", "Add", &["b", "a"], &["y"]),
        node("second", "Relu", &["a"], &["b"]),
        node("first", "Relu", &["x"], &["a"]),
    ];
    let graph = onnx::decode(&model(&graph(&nodes, &[], &x, &y)), None).unwrap();
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["first", "second", "third"]);
}

#[test]
fn repeated_declarations_are_kept_until_one_changes() {
    let x = [value_info("x", FLOAT, &[2])];
    let outputs =
        [value_info("y", FLOAT, &[2]), value_info("x", FLOAT, &[-1]), value_info("y", FLOAT, &[3])];
    let body = graph(&[node("", "Relu", &["x"], &["y"])], &[], &x, &outputs)
        .sub(13, &value_info("y", FLOAT, &[4]));
    let bytes = model(&body);
    let mut graph = onnx::decode(&bytes, None).unwrap();
    assert_eq!(onnx::encode(&graph).unwrap(), bytes);

    let y = graph.find("y").unwrap();
    let declared = Declared { element: Some(ElementType::F16), dims: None, ..Declared::default() };
    graph.declare(y, Some(declared));
    let bytes = onnx::encode(&graph).unwrap();
    let again = onnx::decode(&bytes, None).unwrap();
    let declared = again.declared(again.find("y").unwrap()).unwrap();
    assert_eq!((declared.element, declared.dims.as_ref()), (Some(ElementType::F16), None));
    assert_eq!(onnx::encode(&again).unwrap(), bytes);
}

#[test]
fn edits_leave_the_rest_alone() {
    let mut graph = onnx::decode(&tiny(), None).unwrap();
    graph.producer.0 = "other".to_owned();
    graph.metadata.push(("more".to_owned(), "data".to_owned()));
    graph.opsets.insert(String::new(), 18);
    graph.opsets.insert("com.example".to_owned(), 2);
    graph.nodes[1].attributes.set("group", Attribute::Int(1));
    let again = onnx::decode(&onnx::encode(&graph).unwrap(), None).unwrap();
    assert_eq!(nodes(&graph), nodes(&again));
    assert_eq!(graph.opsets, again.opsets);
    assert_eq!(graph.metadata, again.metadata);
    assert_eq!(graph.producer, again.producer);

    // Taking the edits back gives the old bytes.
    graph.producer.0 = "tiny".to_owned();
    graph.metadata.pop();
    graph.opsets.insert(String::new(), 17);
    graph.opsets.remove("com.example");
    graph.nodes[1].attributes.remove("group");
    assert_eq!(onnx::encode(&graph).unwrap(), tiny());
}

#[test]
fn an_invalid_graph_is_not_written() {
    let mut graph = onnx::decode(&tiny(), None).unwrap();
    graph.nodes.remove(0);
    assert_eq!(onnx::encode(&graph).unwrap_err().code(), "E0102");
}

#[test]
fn typed_fields_of_every_type() {
    // The type, its field, a value, and the little-endian bytes expected.
    let cases: [(i64, u64, i64, &[u8]); 12] = [
        (2, 5, 200, &[200]),
        (3, 5, -3, &[0xfd]),
        (4, 5, 0x8001, &[0x01, 0x80]),
        (5, 5, -2, &[0xfe, 0xff]),
        (6, 5, -5, &[0xfb, 0xff, 0xff, 0xff]),
        (7, 7, -1, &[0xff; 8]),
        (9, 5, 1, &[1]),
        (10, 5, 0xfc00, &[0x00, 0xfc]),
        (12, 11, 0xffff_fffe, &[0xfe, 0xff, 0xff, 0xff]),
        (13, 11, -1, &[0xff; 8]),
        (16, 5, 0x3f80, &[0x80, 0x3f]),
        (17, 5, 0x38, &[]),
    ];
    for (element, field, number, expected) in cases {
        let bytes = tensor_head(element, &[1]).packed(field, &[number]).0;
        let constant = onnx::tensor_from_bytes(&bytes).unwrap();
        assert_eq!(constant.bytes(), expected, "type {element}");
        assert_eq!(onnx::tensor_to_bytes(&constant, None).unwrap(), bytes);
    }
    let bytes = tensor_head(11, &[1]).bytes(10, &1.5_f64.to_le_bytes()).0;
    let constant = onnx::tensor_from_bytes(&bytes).unwrap();
    assert_eq!(constant.to_f64s().unwrap(), [1.5]);
    assert_eq!(onnx::tensor_to_bytes(&constant, None).unwrap(), bytes);
}

#[test]
fn narrow_integers_may_be_sign_extended_or_not() {
    for number in [255, -1] {
        let bytes = tensor_head(UINT8, &[1]).packed(5, &[number]).0;
        assert_eq!(onnx::tensor_from_bytes(&bytes).unwrap().bytes(), [255]);
    }
}

#[test]
fn tensor_files_take_a_name() {
    let constant = Constant::from_f32s(&[2], &[1.0, 2.0]).unwrap();
    let bytes = onnx::tensor_to_bytes(&constant, Some("input")).unwrap();
    assert_eq!(bytes, floats("input", &[2], &[1.0, 2.0]).0);
    assert_eq!(onnx::tensor_from_bytes(&bytes).unwrap().to_f32s().unwrap(), [1.0, 2.0]);
}

#[test]
fn non_finite_constants_are_found() {
    let (x, y) = ends();
    let infinite = tensor_head(FLOAT, &[1]).bytes(9, &f32::INFINITY.to_le_bytes());
    let nodes = [
        node_with("", "Constant", &[], &["c"], &tensor_attribute("value", &infinite)),
        node("", "Add", &["x", "c"], &["a"]),
        node("", "Add", &["a", "n"], &["b"]),
        node("", "Add", &["b", "w"], &["y"]),
    ];
    let half_nan = tensor_head(10, &[2]).text(8, "n").bytes(9, &[0, 0, 1, 0x7e]);
    let constants = [floats("w", &[2], &[1.0, 2.0]), half_nan];
    let graph = onnx::decode(&model(&graph(&nodes, &constants, &x, &y)), None).unwrap();
    let names: Vec<&str> = graph.non_finite().iter().map(|&v| graph.name(v)).collect();
    assert_eq!(names, ["n", "c"]);
}

#[test]
fn nodes_may_share_a_name() {
    let (x, y) = ends();
    let nodes = [node("a", "Relu", &["x"], &["z"]), node("a", "Neg", &["z"], &["y"])];
    let bytes = model(&graph(&nodes, &[], &x, &y));
    let read = onnx::decode(&bytes, None).unwrap();
    assert_eq!(onnx::encode(&read).unwrap(), bytes);
    let keys: Vec<_> = read.node_ids().map(|id| read.key(id)).collect();
    assert_eq!(keys, ["z", "y"]);
    let places: Vec<_> = read.node_ids().map(|id| read.describe(id)).collect();
    assert_eq!(places, ["`z` (Relu#0)", "`y` (Neg#1)"]);
}
