//! Operators on single elements.

use super::case::{Case, Input, any, floats, positive, within};
use serde_json::{Value, json};
use tch::Tensor;

/// A function of one tensor.
type Function = fn(&Tensor) -> Tensor;

/// `x` where it is positive, and something else where it is not.
fn above(x: &Tensor, zero: f64, or: &Tensor) -> Tensor {
    x.where_self(&x.gt(zero), or)
}

/// An operator without attributes on numbers of both signs.
const PLAIN: [(&str, Function); 25] = [
    ("Relu", |x| x.relu()),
    ("LeakyRelu", |x| above(x, 0.0, &(x * f64::from(0.01_f32)))),
    ("Elu", |x| x.elu()),
    ("Celu", |x| x.celu()),
    ("Selu", |x| x.selu()),
    ("Sigmoid", |x| x.sigmoid()),
    ("HardSigmoid", |x| (x * f64::from(0.2_f32) + 0.5).clamp(0.0, 1.0)),
    ("HardSwish", |x| x.hardswish()),
    ("Tanh", |x| x.tanh()),
    ("Erf", |x| x.erf()),
    ("Exp", |x| x.exp()),
    ("Neg", |x| x.neg()),
    ("Abs", |x| x.abs()),
    ("Sign", |x| x.sign()),
    ("Floor", |x| x.floor()),
    ("Ceil", |x| x.ceil()),
    ("Round", |x| x.round()),
    ("Sin", |x| x.sin()),
    ("Cos", |x| x.cos()),
    ("Softplus", |x| x.softplus()),
    ("Softsign", |x| x / (x.abs() + 1.0)),
    ("Mish", |x| x.mish()),
    ("Swish", |x| x.silu()),
    ("Gelu", |x| x.gelu("none")),
    ("Identity", |x| x * 1.0),
];

const OF_POSITIVE: [(&str, Function); 3] =
    [("Log", |x| x.log()), ("Sqrt", |x| x.sqrt()), ("Reciprocal", |x| x.reciprocal())];

/// A function of two tensors that broadcast.
type Binary = fn(&Tensor, &Tensor) -> Tensor;

const BINARY: [(&str, Binary); 10] = [
    ("Add", |a, b| a + b),
    ("Sub", |a, b| a - b),
    ("Mul", |a, b| a * b),
    ("Div", |a, b| a / b),
    ("Pow", |a, b| a.pow(b)),
    ("Max", |a, b| a.maximum(b)),
    ("Min", |a, b| a.minimum(b)),
    ("Sum", |a, b| a + b),
    ("Mean", |a, b| (a + b) / 2.0),
    // Of positive numbers, so that the sign of the rest does not matter.
    ("Mod", |a, b| a.fmod_tensor(b)),
];

fn with_attributes() -> Vec<Case> {
    let one = |op, about: &str, attributes: Value, f: Function| {
        Case::new(op, about, attributes, vec![any(&[3, 7])], move |v| f(&v[0]))
    };
    vec![
        one("LeakyRelu", "slope", json!({"alpha": 0.25}), |x| above(x, 0.0, &(x * 0.25))),
        one("Elu", "factor", json!({"alpha": 0.5}), |x| above(x, 0.0, &(x.expm1() * 0.5))),
        one("Celu", "factor", json!({"alpha": 2.0}), |x| above(x, 0.0, &((x / 2.0).expm1() * 2.0))),
        one("ThresholdedRelu", "", json!({"alpha": 0.75}), |x| x.threshold(0.75, 0.0)),
        one("HardSigmoid", "steeper", json!({"alpha": 0.5, "beta": 0.25}), |x| {
            (x * 0.5 + 0.25).clamp(0.0, 1.0)
        }),
        one("Gelu", "by a hyperbolic tangent", json!({"approximate": "tanh"}), |x| x.gelu("tanh")),
        one("Swish", "steeper", json!({"alpha": 1.5}), |x| x * (x * 1.5).sigmoid()),
    ]
}

fn clips() -> Vec<Case> {
    let bound = |value: f32| floats(&[], &[value]);
    let inputs = |low: Input, high: Input| vec![any(&[3, 7]), low, high];
    vec![
        Case::new("Clip", "both bounds", json!({}), inputs(bound(-0.5), bound(1.25)), |v| {
            v[0].clamp(-0.5, 1.25)
        }),
        Case::new("Clip", "from below", json!({}), inputs(bound(0.0), Input::Absent), |v| {
            v[0].clamp_min(0.0)
        }),
        Case::new("Clip", "from above", json!({}), inputs(Input::Absent, bound(0.75)), |v| {
            v[0].clamp_max(0.75)
        }),
    ]
}

fn choice() -> Case {
    let (dims, values) = (vec![2, 1, 4], vec![1_i64, 0, 0, 1, 0, 1, 1, 0]);
    let condition = Tensor::from_slice(&values).reshape(&dims).gt(0);
    let inputs = vec![Input::Booleans { dims, values }, any(&[2, 3, 4]), any(&[3, 1])];
    Case::new("Where", "", json!({}), inputs, move |v| v[0].where_self(&condition, &v[1]))
}

pub(super) fn cases() -> Vec<Case> {
    let unary = |op, input: Input, f: Function| {
        Case::new(op, "", json!({}), vec![input], move |v| f(&v[0]))
    };
    let mut cases: Vec<Case> = PLAIN.map(|(op, f)| unary(op, any(&[3, 7]), f)).into();
    cases.extend(OF_POSITIVE.map(|(op, f)| unary(op, positive(&[3, 7]), f)));
    cases.extend(with_attributes());
    cases.extend(clips());
    cases.push(choice());
    let shapes: [(&str, &[i64], &[i64]); 4] = [
        ("one shape", &[2, 3, 4], &[2, 3, 4]),
        ("one value per channel", &[2, 3, 4], &[3, 1]),
        ("both broadcast", &[2, 1, 4], &[3, 1]),
        ("a scalar", &[], &[2, 3]),
    ];
    for (op, f) in BINARY {
        for (about, a, b) in shapes {
            let attributes = if op == "Mod" { json!({"fmod": 1}) } else { json!({}) };
            let inputs = vec![positive(a), positive(b)];
            cases.push(Case::new(op, about, attributes, inputs, move |v| f(&v[0], &v[1])));
        }
    }
    for (about, slopes) in [("one slope per channel", &[3, 1][..]), ("one slope", &[1])] {
        let inputs = vec![any(&[2, 3, 4]), within(slopes, (0.1, 0.9))];
        cases.push(Case::new("PRelu", about, json!({}), inputs, |v| {
            above(&v[0], 0.0, &(&v[0] * &v[1]))
        }));
    }
    let three = || vec![any(&[2, 3]), any(&[3]), any(&[2, 1])];
    let (max, min): (Binary, Binary) = (|a, b| a.maximum(b), |a, b| a.minimum(b));
    for (op, f) in [("Max", max), ("Min", min)] {
        let join = move |v: &[Tensor]| f(&f(&v[0], &v[1]), &v[2]);
        cases.push(Case::new(op, "three inputs", json!({}), three(), join));
    }
    cases.push(Case::new("Sum", "three inputs", json!({}), three(), |v| &v[0] + &v[1] + &v[2]));
    cases.push(Case::new("Mean", "three inputs", json!({}), three(), |v| {
        (&v[0] + &v[1] + &v[2]) / 3.0
    }));
    cases
}
