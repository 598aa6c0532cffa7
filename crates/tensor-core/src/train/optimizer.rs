//! Optimizers: one update per variable, in plain loops.

use crate::{Error, Result};
use candle_core::{DType, Tensor, Var};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// How gradients change variables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Stochastic gradient descent; weight decay is added to the gradient. With gradient `g` after
    /// decay: `v = momentum v + g`, and the step is along `v` (heavy ball) or `g + momentum v`
    /// (Nesterov), as in PyTorch.
    Sgd {
        /// In `0..1`.
        momentum: f64,
        /// Look ahead?
        nesterov: bool,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW {
        /// Decay of the first moment, in `0..1`.
        beta1: f64,
        /// Decay of the second moment, in `0..1`.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
    },
}

impl Optimizer {
    /// SGD with Nesterov momentum 0.9.
    pub fn sgd() -> Self {
        Self::Sgd { momentum: 0.9, nesterov: true }
    }

    /// AdamW with the usual constants.
    pub fn adam_w() -> Self {
        Self::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// A variable that is optimized.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Unique name, for the state in checkpoints.
    pub(crate) name: String,
    pub(crate) var: Var,
    /// Factor of the learning rate.
    pub(crate) rate: f64,
    pub(crate) decays: bool,
}

/// The moments of one variable.
#[derive(Debug, Clone, Default)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// An optimizer with its variables and moments.
#[derive(Debug, Clone)]
pub(crate) struct Optimization {
    optimizer: Optimizer,
    decay: f64,
    targets: Vec<(Target, Moments)>,
}

impl Optimization {
    /// Starts with zero moments.
    pub(crate) fn new(optimizer: Optimizer, decay: f64, targets: Vec<Target>) -> Self {
        let zeros = |target: Target| {
            let count = target.var.elem_count();
            let second = if matches!(optimizer, Optimizer::AdamW { .. }) { count } else { 0 };
            (target, Moments { first: vec![0.0; count], second: vec![0.0; second] })
        };
        Self { optimizer, decay, targets: targets.into_iter().map(zeros).collect() }
    }

    /// The variables, in order.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().map(|(target, _)| target)
    }

    /// One step at a learning rate, `step` steps after the first, with the gradient of each
    /// variable (`None` where the loss does not depend on it: it then stays). All gradients are
    /// multiplied by `scale`.
    pub(crate) fn step(
        &mut self,
        step: u64,
        rate: f64,
        gradients: Vec<Option<Vec<f32>>>,
        scale: f32,
    ) -> Result<()> {
        let (optimizer, decay) = (self.optimizer, self.decay);
        let updates = self.targets.par_iter_mut().zip(gradients);
        updates.try_for_each(|((target, moments), gradient)| -> Result<()> {
            let Some(mut gradient) = gradient else { return Ok(()) };
            if scale != 1.0 {
                gradient.iter_mut().for_each(|g| *g *= scale);
            }
            let mut values = target.var.flatten_all()?.to_vec1::<f32>()?;
            let (rate, decay) = (rate * target.rate, if target.decays { decay } else { 0.0 });
            match optimizer {
                Optimizer::Sgd { momentum, nesterov } => {
                    let constants = [rate, decay, momentum].map(|x| x as f32);
                    sgd(&mut values, &gradient, &mut moments.first, constants, nesterov);
                }
                Optimizer::AdamW { beta1, beta2, epsilon } => {
                    let constants = [rate, decay, beta1, beta2, epsilon];
                    adam_w(&mut values, &gradient, moments, constants, step);
                }
            }
            Ok(target.var.set(&Tensor::from_vec(
                values,
                target.var.dims(),
                target.var.device(),
            )?)?)
        })
    }

    /// Sets the moments of a variable to zero where `places` is not zero.
    pub(crate) fn reset(&mut self, name: &str, places: &Tensor) -> Result<()> {
        let places = places.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        for (_, moments) in self.targets.iter_mut().filter(|(target, _)| target.name == name) {
            for moment in [&mut moments.first, &mut moments.second] {
                let chosen = moment.iter_mut().zip(&places).filter(|(_, place)| **place != 0.0);
                chosen.for_each(|(value, _)| *value = 0.0);
            }
        }
        Ok(())
    }

    /// The moments by variable, for a checkpoint.
    pub(crate) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (target, moments) in &self.targets {
            for (kind, values) in [("first", &moments.first), ("second", &moments.second)] {
                if !values.is_empty() {
                    let tensor = Tensor::new(values.as_slice(), target.var.device())?;
                    state.insert(format!("{kind}/{}", target.name), tensor);
                }
            }
        }
        Ok(state)
    }

    /// Goes on from what [`state`](Self::state) gave.
    pub(crate) fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (target, moments) in &mut self.targets {
            let kinds = [("first", &mut moments.first), ("second", &mut moments.second)];
            for (kind, values) in kinds {
                if values.is_empty() {
                    continue;
                }
                let name = format!("{kind}/{}", target.name);
                let tensor = state.get(&name).filter(|tensor| {
                    tensor.elem_count() == values.len() && tensor.dtype() == DType::F32
                });
                let tensor = tensor.ok_or_else(|| {
                    Error::invalid(format!("the checkpoint lacks the moments of `{name}`"))
                        .code_is("E0404")
                })?;
                *values = tensor.flatten_all()?.to_vec1()?;
            }
        }
        Ok(())
    }
}

fn sgd(
    values: &mut [f32],
    gradient: &[f32],
    velocity: &mut [f32],
    [rate, decay, momentum]: [f32; 3],
    nesterov: bool,
) {
    for ((x, &g), v) in values.iter_mut().zip(gradient).zip(velocity) {
        let g = g + decay * *x;
        *v = momentum * *v + g;
        let direction = if nesterov { g + momentum * *v } else { *v };
        *x -= rate * direction;
    }
}

fn adam_w(
    values: &mut [f32],
    gradient: &[f32],
    moments: &mut Moments,
    [rate, decay, beta1, beta2, epsilon]: [f64; 5],
    step: u64,
) {
    let count = step as f64 + 1.0;
    let first_bias = 1.0 - beta1.powf(count);
    let second_bias = (1.0 - beta2.powf(count)).sqrt();
    let keep = (1.0 - rate * decay) as f32;
    let length = (rate / first_bias) as f32;
    // In f32, 1 - 0.999 would be off by 5e-5.
    let [new1, new2] = [1.0 - beta1, 1.0 - beta2].map(|x| x as f32);
    let [second_bias, epsilon, beta2] = [second_bias, epsilon, beta2].map(|x| x as f32);
    let state = moments.first.iter_mut().zip(&mut moments.second);
    for ((x, &g), (m, v)) in values.iter_mut().zip(gradient).zip(state) {
        *m += new1 * (g - *m);
        *v = beta2 * *v + new2 * g * g;
        *x = keep * *x - length * *m / (v.sqrt() / second_bias + epsilon);
    }
}

/// The Euclidean norm of all gradients together; summed in f64 in the order of the list.
pub(crate) fn global_norm(gradients: &[Option<Vec<f32>>]) -> f64 {
    let squares = |g: &Vec<f32>| g.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    gradients.iter().flatten().map(squares).sum::<f64>().sqrt()
}

/// The factor that brings gradients to a norm of at most `most`.
pub(crate) fn clip_factor(norm: f64, most: f64) -> f32 {
    if norm > most { (most / norm) as f32 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Heavy ball and Nesterov on f(x) = x^2 / 2, by hand.
    #[test]
    fn momentum_by_hand() {
        for (nesterov, expected) in [(false, [0.9, 0.72]), (true, [0.81, 0.5751])] {
            let var = Var::new(&[1.0_f32], &Device::Cpu).expect("variable");
            let target = Target { name: "x".into(), var: var.clone(), rate: 1.0, decays: false };
            let optimizer = Optimizer::Sgd { momentum: 0.9, nesterov };
            let mut optimization = Optimization::new(optimizer, 0.1, vec![target]);
            for (step, expected) in expected.into_iter().enumerate() {
                let gradient = var.to_vec1::<f32>().expect("values");
                optimization.step(step as u64, 0.1, vec![Some(gradient)], 1.0).expect("step");
                let found = var.to_vec1::<f32>().expect("values")[0];
                assert!((found - expected).abs() < 1e-6, "{nesterov} {step}: {found}");
            }
        }
    }

    /// A variable whose momentum is forgotten moves as if it had never moved.
    #[test]
    fn moments_are_forgotten_where_asked() {
        let var = Var::new(&[1.0_f32, 1.0], &Device::Cpu).expect("variable");
        let target = Target { name: "x".into(), var: var.clone(), rate: 1.0, decays: false };
        let optimizer = Optimizer::Sgd { momentum: 0.5, nesterov: false };
        let mut optimization = Optimization::new(optimizer, 0.0, vec![target]);
        optimization.step(0, 1.0, vec![Some(vec![1.0, 1.0])], 1.0).expect("step");
        let places = Tensor::new(&[1_u8, 0], &Device::Cpu).expect("places");
        optimization.reset("x", &places).expect("reset");
        optimization.step(1, 1.0, vec![Some(vec![0.0, 0.0])], 1.0).expect("step");
        assert_eq!(var.to_vec1::<f32>().expect("values"), [0.0, -0.5]);
    }

    #[test]
    fn the_norm_is_global_and_only_shortened() {
        let gradients = [Some(vec![3.0, 0.0]), None, Some(vec![4.0])];
        assert_eq!(global_norm(&gradients), 5.0);
        assert_eq!(clip_factor(5.0, 10.0), 1.0);
        assert_eq!(clip_factor(5.0, 1.0), 0.2);
    }
}
