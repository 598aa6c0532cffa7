//! Steps of optimizers, and cross-entropy with its gradient.

use anyhow::Result;
use serde::Serialize;
use tch::nn::{OptimizerConfig, VarStore};
use tch::{Device, Kind, Reduction, Tensor, nn};

const START: [f64; 4] = [0.5, -1.25, 2.0, -0.001];
const GRADIENTS: [[f64; 4]; 5] = [
    [0.1, -0.4, 1.5, 0.002],
    [-0.3, 0.25, 0.75, -0.01],
    [0.0, 2.0, -1.0, 0.5],
    [0.6, -0.7, 0.0625, 0.03],
    [-1.2, 0.9, 0.3, -0.2],
];
const RATES: [f64; 5] = [0.1, 0.08, 0.05, 0.02, 0.01];

const SCORES: [[f64; 4]; 3] =
    [[1.5, -0.25, 0.0, 3.0], [10.0, 9.5, -7.0, 0.1], [-80.0, 80.0, 0.0, 0.5]];
const LABELS: [i64; 3] = [3, 1, 2];

#[derive(Serialize)]
pub(super) struct Steps {
    start: [f64; 4],
    gradients: [[f64; 4]; 5],
    rates: [f64; 5],
    sgd: Vec<Vec<f64>>,
    nesterov: Vec<Vec<f64>>,
    adamw: Vec<Vec<f64>>,
    cross_entropy: Vec<CrossEntropy>,
}

#[derive(Serialize)]
struct CrossEntropy {
    smoothing: f64,
    scores: [[f64; 4]; 3],
    labels: [i64; 3],
    loss: f64,
    gradient: Vec<Vec<f64>>,
}

pub(super) fn computed() -> Result<Steps> {
    let sgd = |nesterov| nn::Sgd { momentum: 0.9, dampening: 0.0, wd: 0.01, nesterov };
    Ok(Steps {
        start: START,
        gradients: GRADIENTS,
        rates: RATES,
        sgd: optimize(sgd(false))?,
        nesterov: optimize(sgd(true))?,
        adamw: optimize(nn::AdamW { wd: 0.05, ..nn::AdamW::default() })?,
        cross_entropy: [0.0, 0.1].map(cross_entropy).into_iter().collect::<Result<_>>()?,
    })
}

/// The parameters after each step along the gradients above.
fn optimize(config: impl OptimizerConfig) -> Result<Vec<Vec<f64>>> {
    let store = VarStore::new(Device::Cpu);
    let parameters = store.root().var_copy("x", &Tensor::from_slice(&START));
    let mut optimizer = config.build(&store, RATES[0])?;
    let mut after = Vec::new();
    for (gradient, rate) in GRADIENTS.iter().zip(RATES) {
        optimizer.set_lr(rate);
        // The gradient of a product is its other factor.
        let loss = (&parameters * Tensor::from_slice(gradient)).sum(Kind::Double);
        optimizer.backward_step(&loss);
        after.push(Vec::try_from(parameters.detach())?);
    }
    Ok(after)
}

fn cross_entropy(smoothing: f64) -> Result<CrossEntropy> {
    let scores = Tensor::from_slice(SCORES.as_flattened()).reshape([3, 4]).set_requires_grad(true);
    let labels = Tensor::from_slice(&LABELS);
    let weight = None::<&Tensor>;
    let loss = scores.cross_entropy_loss(&labels, weight, Reduction::Mean, -100, smoothing);
    loss.backward();
    Ok(CrossEntropy {
        smoothing,
        scores: SCORES,
        labels: LABELS,
        loss: f64::try_from(&loss.detach())?,
        gradient: Vec::try_from(scores.grad())?,
    })
}
