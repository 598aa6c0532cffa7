//! Normalizations.

use super::case::{Case, Results, any, floats, positive};
use serde_json::json;
use tch::{Kind, Tensor};

const MEANS: [f32; 3] = [0.25, -0.5, 1.0];
const VARIANCES: [f32; 3] = [0.5, 1.5, 2.0];

/// Batch normalization of three channels with the statistics of the batch.
fn batch(about: &str, dims: &[i64], epsilon: f32, momentum: f32) -> Case {
    let statistics = [floats(&[3], &MEANS), floats(&[3], &VARIANCES)];
    let mut inputs = vec![any(dims), any(&[3]), any(&[3])];
    inputs.extend(statistics);
    let attributes = json!({"epsilon": epsilon, "momentum": momentum});
    Case::new("BatchNormalization", about, attributes, inputs, move |v| {
        let running = [MEANS, VARIANCES].map(|s| Tensor::from_slice(&s).to_kind(Kind::Double));
        let [mean, variance] = &running;
        // ONNX's momentum is what the old statistics keep, libtorch's what the new ones bring.
        let (epsilon, momentum) = (f64::from(epsilon), 1.0 - f64::from(momentum));
        let y = v[0].batch_norm(
            Some(&v[1]),
            Some(&v[2]),
            Some(mean),
            Some(variance),
            true,
            momentum,
            epsilon,
            false,
        );
        Results { outputs: vec![y], statistics: running.into() }
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        batch("images", &[4, 3, 3, 5], 1e-5, 0.9),
        batch("images, other settings", &[2, 3, 4, 4], 0.125, 0.75),
        batch("lines", &[3, 3, 7], 1e-3, 0.9),
        batch("rows", &[8, 3], 1e-5, 0.5),
    ];
    let image = || any(&[2, 4, 3, 3]);
    let parameters = || [positive(&[4]), any(&[4])];
    let inputs = || std::iter::once(image()).chain(parameters()).collect();
    cases.push(Case::new("InstanceNormalization", "", json!({"epsilon": 1e-3}), inputs(), |v| {
        let none = None::<&Tensor>;
        v[0].instance_norm(Some(&v[1]), Some(&v[2]), none, none, true, 0.1, 1e-3, false)
    }));
    let attributes = json!({"epsilon": 1e-3, "num_groups": 2});
    cases.push(Case::new("GroupNormalization", "", attributes, inputs(), |v| {
        v[0].group_norm(2, Some(&v[1]), Some(&v[2]), 1e-3, false)
    }));
    for (about, axis, dims) in [("last axis", -1, &[5][..]), ("two axes", 1, &[4, 5])] {
        let inputs = vec![any(&[3, 4, 5]), positive(dims), any(dims)];
        let attributes = json!({"axis": axis, "epsilon": 1e-3});
        cases.push(Case::new("LayerNormalization", about, attributes, inputs, move |v| {
            v[0].layer_norm(dims, Some(&v[1]), Some(&v[2]), 1e-3, false)
        }));
    }
    cases
}
