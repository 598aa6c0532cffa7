//! Reductions and softmax.

use super::case::{Case, any, integers, positive};
use serde_json::json;
use tch::{Kind, Tensor};

/// A reduction over given axes.
type Reduce = fn(&Tensor, &[i64], bool) -> Tensor;

const REDUCTIONS: [(&str, Reduce); 10] = [
    ("ReduceSum", |x, axes, keep| x.sum_dim_intlist(axes, keep, Kind::Double)),
    ("ReduceMean", |x, axes, keep| x.mean_dim(axes, keep, Kind::Double)),
    ("ReduceMax", |x, axes, keep| x.amax(axes, keep)),
    ("ReduceMin", |x, axes, keep| x.amin(axes, keep)),
    ("ReduceProd", |x, axes, keep| {
        // One axis after the other, from the last, so that none moves.
        axes.iter().rev().fold(x.shallow_clone(), |x, &a| x.prod_dim_int(a, keep, Kind::Double))
    }),
    ("ReduceL1", |x, axes, keep| x.abs().sum_dim_intlist(axes, keep, Kind::Double)),
    ("ReduceL2", |x, axes, keep| x.square().sum_dim_intlist(axes, keep, Kind::Double).sqrt()),
    ("ReduceSumSquare", |x, axes, keep| x.square().sum_dim_intlist(axes, keep, Kind::Double)),
    ("ReduceLogSum", |x, axes, keep| x.sum_dim_intlist(axes, keep, Kind::Double).log()),
    ("ReduceLogSumExp", |x, axes, keep| x.logsumexp(axes, keep)),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (op, reduce) in REDUCTIONS {
        for (about, axes, keep) in
            [("one axis", &[1][..], true), ("two axes", &[0, 2], false), ("last axis", &[2], true)]
        {
            let attributes = json!({"keepdims": i64::from(keep)});
            // A logarithm of a sum needs positive terms.
            let x = if op == "ReduceLogSum" { positive(&[2, 3, 4]) } else { any(&[2, 3, 4]) };
            let inputs = vec![x, integers(axes)];
            cases
                .push(Case::new(op, about, attributes, inputs, move |v| reduce(&v[0], axes, keep)));
        }
    }
    for axis in [0, 1, -1] {
        let about = format!("axis {axis}");
        let case = |op, softmax: fn(&Tensor, i64) -> Tensor| {
            let inputs = vec![any(&[2, 5, 3])];
            Case::new(op, &about, json!({"axis": axis}), inputs, move |v| softmax(&v[0], axis))
        };
        cases.push(case("Softmax", |x, axis| x.softmax(axis, Kind::Double)));
        cases.push(case("LogSoftmax", |x, axis| x.log_softmax(axis, Kind::Double)));
    }
    cases
}
