//! Every operator on absurd shapes, types and attributes: an error or a result, never a panic, and
//! what inference promised.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Attributes, Draws, Model, typed};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tensor_core::channels::analyze;
use tensor_core::graph::Attribute;
use tensor_core::run::{Session, infer};
use tensor_core::{Constant, ElementType, ops};

/// Numbers that break careless arithmetic. Those between are left out, since they are valid sizes
/// that would merely take long.
const NUMBERS: &[i64] = &[0, 1, -1, 2, 3, -2, 5, i64::MAX, i64::MIN, 1 << 40, -(1 << 40)];

const FLOATS: &[f32] = &[0.0, 1.0, -1.0, 2.0, 0.5, f32::NAN, f32::INFINITY, 1e30, -0.0];

const LISTS: &[&str] = &[
    "axes",
    "perm",
    "pads",
    "kernel_shape",
    "strides",
    "dilations",
    "output_padding",
    "output_shape",
    "split",
    "starts",
    "ends",
];

const INTEGERS: &[&str] = &[
    "axis",
    "keepdims",
    "group",
    "blocksize",
    "block_size",
    "num_outputs",
    "to",
    "start",
    "end",
    "allowzero",
    "ceil_mode",
    "noop_with_empty_axes",
    "antialias",
    "exclude_outside",
    "transA",
    "fmod",
];

const TEXTS: &[(&str, &[&str])] = &[
    ("mode", &["nearest", "linear", "cubic", "constant", "reflect", "edge", "wrap", "CRD", "?"]),
    ("auto_pad", &["SAME_UPPER", "VALID", "NOTSET", "?"]),
    ("coordinate_transformation_mode", &["align_corners", "tf_crop_and_resize", "asymmetric", "?"]),
    ("keep_aspect_ratio_policy", &["not_larger", "not_smaller", "?"]),
    ("approximate", &["tanh", "?"]),
];

fn constant(draws: &mut Draws, element: ElementType, dims: &[usize]) -> Constant {
    let count = dims.iter().product();
    if element == ElementType::F32 {
        let values: Vec<f32> = (0..count).map(|_| draws.pick(FLOATS)).collect();
        return Constant::from_f32s(dims, &values).unwrap();
    }
    let values: Vec<i64> = (0..count).map(|_| draws.pick(NUMBERS)).collect();
    typed(element, dims, &values)
}

fn attributes(draws: &mut Draws) -> Attributes {
    let mut attributes: Attributes = Vec::new();
    for _ in 0..draws.below(4) {
        attributes.push(match draws.below(4) {
            0 => {
                let count = draws.below(5);
                let list = (0..count).map(|_| draws.pick(NUMBERS)).collect();
                (draws.pick(LISTS), Attribute::Ints(list))
            }
            1 | 2 => (draws.pick(INTEGERS), Attribute::Int(draws.pick(NUMBERS))),
            _ => {
                let (name, values) = draws.pick(TEXTS);
                (name, Attribute::Bytes(draws.pick(values).as_bytes().to_vec()))
            }
        });
    }
    attributes
}

proptest! {
    #![proptest_config(common::config(40_000))]

    #[test]
    fn nothing_panics(list in prop::collection::vec(any::<u16>(), 120)) {
        let draws = &mut Draws::new(list);
        let op = draws.pick(&ops::names());
        let opset = draws.pick(&[9, 11, 13, 18, 21]);
        let mut model = Model::new(opset);
        let (mut inputs, mut values) = (Vec::new(), Vec::new());
        for i in 0..draws.below(6) {
            let element = draws.pick(&[
                ElementType::F32, ElementType::I64, ElementType::F32, ElementType::Bool, ElementType::U8,
            ]);
            let rank = draws.below(5);
            let dims: Vec<usize> = (0..rank).map(|_| draws.below(4)).collect();
            let value = constant(draws, element, &dims);
            inputs.push(match draws.below(6) {
                0 => None,
                1 if i > 0 => Some(model.constant(value)),
                _ => {
                    let input = model.input(element, &dims);
                    values.push((input, value));
                    Some(input)
                }
            });
        }
        let attributes = attributes(draws);
        let shown = format!("{op} {attributes:?}");
        let outputs = model.nodes(op, &inputs, 1 + draws.below(2), attributes);
        let mut graph = model.graph;
        graph.outputs = outputs.clone();
        // What is a graph input is unknown to inference.
        if let Ok(facts) = infer(&graph, &BTreeMap::new()) {
            let _ = analyze(&graph, &facts);
        }
        graph.inputs.clear();
        for (input, value) in values {
            graph.set_initializer(input, value);
        }
        let facts = infer(&graph, &BTreeMap::new());
        if let Ok(results) = Session::new(&graph).and_then(|session| session.run(&[])) {
            let facts =
                facts.map_err(|e| TestCaseError::fail(format!("{shown}: only inference fails: {e}")))?;
            for (&value, array) in outputs.iter().zip(&results) {
                let fact = facts.get(value).unwrap();
                prop_assert_eq!(array.dims(), fact.dims.as_slice(), "{}", &shown);
                prop_assert_eq!(array.element, fact.element, "{}", &shown);
            }
        }
    }
}
