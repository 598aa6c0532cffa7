//! Logit standardization.

use crate::check;
use crate::log_softmax::widen;
use crate::registry::{Build, LogitLoss, Method, Parameter, Values};
use crate::soft_targets::soft_targets;
use candle_core::{D, Result, Tensor, bail};

/// Added to the deviation, as the authors do.
const EPSILON: f64 = 1e-7;

/// Under the root, where the slope at 0 would be infinite; vanishes beside every other variance.
const TINY: f64 = 1e-30;

/// Each row with mean 0 and standard deviation 1 (the unbiased one, as in the authors' code):
///
/// ```text
/// Z(z) = (z - mean(z)) / std(z)
/// ```
///
/// (Sun et al., "Logit standardization in knowledge distillation", CVPR 2024, equation 12, without
/// the temperature.) A student then has to follow the teacher's relations between classes, not its
/// scale. Use it on the logits of both before any logit loss. A constant row gives 0.
///
/// # Errors
/// When the logits are not a matrix with two columns or more.
pub fn standardize(logits: &Tensor) -> Result<Tensor> {
    let (_, classes) = check::matrix("standardize", logits)?;
    if classes < 2 {
        bail!("standardize: needs two classes or more")
    }
    let logits = widen(logits)?;
    let centred = logits.broadcast_sub(&logits.mean_keepdim(D::Minus1)?)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / (classes - 1) as f64)?;
    centred.broadcast_div(&((variance + TINY)?.sqrt()? + EPSILON)?)
}

/// [`soft_targets`](crate::soft_targets) on [`standardize`]d logits, as a [`LogitLoss`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standardized {
    /// `T`, above 0.
    pub temperature: f64,
}

impl Default for Standardized {
    fn default() -> Self {
        Self { temperature: 2.0 }
    }
}

impl LogitLoss for Standardized {
    fn temperature(&self) -> f64 {
        self.temperature
    }

    fn loss(&self, student: &Tensor, teacher: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
        soft_targets(&standardize(student)?, &standardize(teacher)?, self.temperature)
    }
}

/// For the registry.
pub(crate) const METHOD: Method = Method {
    name: "standardized",
    summary: "Soft targets from logits with mean 0 and deviation 1 per sample (Sun et al. 2024)",
    weight: 9.0,
    parameters: &[Parameter::above_zero("temperature", 2.0, "Softens both probabilities")],
    build: Build::Logits(build),
};

fn build(values: &Values) -> Result<Box<dyn LogitLoss>> {
    Ok(Box::new(Standardized { temperature: values.get("temperature")? }))
}
