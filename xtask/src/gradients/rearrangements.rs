//! Operators that move elements.

use super::case::{Case, Input, Results, any, floats, integers};
use serde_json::{Value, json};
use tch::Tensor;

fn case<R: Into<Results>>(
    op: &'static str,
    about: &str,
    attributes: Value,
    inputs: Vec<Input>,
    compute: impl Fn(&[Tensor]) -> R + 'static,
) -> Case {
    Case::new(op, about, attributes, inputs, compute)
}

fn shapes() -> Vec<Case> {
    let x = || any(&[2, 3, 4]);
    vec![
        case("Reshape", "", json!({}), vec![x(), integers(&[0, -1, 2])], |v| {
            v[0].reshape([2, 6, 2])
        }),
        case("Flatten", "", json!({}), vec![x()], |v| v[0].reshape([2, 12])),
        case("Flatten", "axis 2", json!({"axis": 2}), vec![x()], |v| v[0].reshape([6, 4])),
        case("Transpose", "", json!({"perm": [2, 0, 1]}), vec![x()], |v| v[0].permute([2, 0, 1])),
        case("Squeeze", "", json!({}), vec![any(&[2, 1, 3]), integers(&[1])], |v| {
            v[0].squeeze_dim(1)
        }),
        case("Unsqueeze", "", json!({}), vec![x(), integers(&[1])], |v| v[0].unsqueeze(1)),
        case("Expand", "", json!({}), vec![any(&[3, 1]), integers(&[2, 3, 4])], |v| {
            v[0].expand([2, 3, 4], false)
        }),
        case("Tile", "", json!({}), vec![any(&[2, 3]), integers(&[2, 3])], |v| v[0].repeat([2, 3])),
    ]
}

fn parts() -> Vec<Case> {
    let x = || any(&[5, 4]);
    let slice = |starts: i64, ends: i64, axis: i64, step: i64| {
        vec![x(), integers(&[starts]), integers(&[ends]), integers(&[axis]), integers(&[step])]
    };
    let joined = || vec![any(&[2, 3]), any(&[2, 1]), any(&[2, 4])];
    vec![
        case("Concat", "", json!({"axis": 1}), joined(), |v| Tensor::cat(v, 1)),
        case("Split", "", json!({"axis": 0}), vec![x(), integers(&[2, 3])], |v| {
            v[0].split_with_sizes([2, 3], 0)
        }),
        case("Slice", "steps of two", json!({}), slice(1, 5, 0, 2), |v| v[0].slice(0, 1, 5, 2)),
        case("Slice", "backwards", json!({}), slice(-1, -100, 1, -1), |v| v[0].flip([1])),
        case("Gather", "", json!({"axis": 0}), vec![x(), integers(&[4, 0, 4, -2])], |v| {
            v[0].index_select(0, &Tensor::from_slice(&[4_i64, 0, 4, 3]))
        }),
        case("Gather", "axis 1", json!({"axis": 1}), vec![x(), integers(&[3, 1, 1])], |v| {
            v[0].index_select(1, &Tensor::from_slice(&[3_i64, 1, 1]))
        }),
    ]
}

fn pads() -> Vec<Case> {
    // libtorch begins with the last axis, and takes other modes than zeros of images only.
    let line = |mode: &'static str, torch: &'static str| {
        let attributes = json!({"mode": mode});
        let inputs = vec![any(&[1, 2, 3, 4]), integers(&[0, 0, 1, 2, 0, 0, 2, 1])];
        case("Pad", mode, attributes, inputs, move |v| v[0].pad([2, 1, 1, 2], torch, None))
    };
    let value = vec![any(&[3, 4]), integers(&[1, 0, 0, 2]), floats(&[], &[0.5])];
    vec![
        line("constant", "constant"),
        line("reflect", "reflect"),
        line("edge", "replicate"),
        case("Pad", "with a value", json!({}), value, |v| v[0].pad([0, 2, 1, 0], "constant", 0.5)),
    ]
}

fn blocks() -> Vec<Case> {
    let deep = || vec![any(&[2, 8, 2, 3])];
    vec![
        case(
            "DepthToSpace",
            "columns first",
            json!({"blocksize": 2, "mode": "CRD"}),
            deep(),
            |v| v[0].pixel_shuffle(2),
        ),
        case("DepthToSpace", "depth first", json!({"blocksize": 2, "mode": "DCR"}), deep(), |v| {
            v[0].reshape([2, 2, 2, 2, 2, 3]).permute([0, 3, 4, 1, 5, 2]).reshape([2, 2, 4, 6])
        }),
        case("SpaceToDepth", "", json!({"blocksize": 2}), vec![any(&[2, 2, 4, 6])], |v| {
            v[0].reshape([2, 2, 2, 2, 3, 2]).permute([0, 3, 5, 1, 2, 4]).reshape([2, 8, 2, 3])
        }),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    [shapes(), parts(), pads(), blocks()].into_iter().flatten().collect()
}
