//! Probabilities with temperature, in logarithms.

use crate::check;
use candle_core::{D, DType, Result, Tensor};

/// `log q` with `q_i = exp(z_i / T) / sum_j exp(z_j / T)`, along the last axis (Hinton, Vinyals and
/// Dean 2015, equation 1).
///
/// `logits` have shape `(samples, classes)`. Half-precision logits are widened to `F32` first. The
/// row's maximum is subtracted before `exp`, so finite logits give finite values and gradients at
/// every magnitude.
///
/// # Errors
/// When the logits are not a matrix or `temperature` is not above 0 and finite.
pub fn log_softmax(logits: &Tensor, temperature: f64) -> Result<Tensor> {
    check::positive("log_softmax", "temperature", temperature)?;
    check::matrix("log_softmax", logits)?;
    normalize(&(widen(logits)? / temperature)?)
}

/// `z - log sum exp z` along the last axis.
pub(crate) fn normalize(logits: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// `log sum exp z` along the last axis, which stays with length 1.
pub(crate) fn log_sum_exp(logits: &Tensor) -> Result<Tensor> {
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let sum = logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?;
    sum.log()? + max
}

/// At least single precision: sums of exponentials lose too much below it.
pub(crate) fn widen(tensor: &Tensor) -> Result<Tensor> {
    match tensor.dtype() {
        DType::F64 => Ok(tensor.clone()),
        _ => tensor.to_dtype(DType::F32),
    }
}

/// `sum_i p_i (log p_i - log q_i)`, the mean over the rows. Targets take no gradient.
pub(crate) fn divergence(log_targets: &Tensor, log_student: &Tensor) -> Result<Tensor> {
    let log_targets = log_targets.detach();
    let terms = (log_targets.exp()? * (&log_targets - log_student)?)?;
    terms.sum(D::Minus1)?.mean_all()
}
