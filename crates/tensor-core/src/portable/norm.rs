//! Normalization.

use crate::kernels::Normalized;
use candle_core::{Result, Tensor};

/// Batch normalization in training; see
/// [`batch_norm_train`](crate::kernels::batch_norm_train).
///
/// # Errors
/// When parameters do not fit the channels on axis 1, or the device refuses.
pub(crate) fn batch_norm(
    x: &Tensor,
    scale: &Tensor,
    bias: &Tensor,
    epsilon: f64,
) -> Result<Normalized> {
    let (outer, channels) = (x.dim(0)?, x.dim(1)?);
    let inner = x.elem_count() / (outer * channels).max(1);
    let Normalized { y, mean, variance, count } =
        normalize(&x.reshape((outer, channels, inner))?, (0, 2), epsilon)?;
    let (scale, bias) = (scale.reshape((1, channels, 1))?, bias.reshape((1, channels, 1))?);
    let y = y.broadcast_mul(&scale)?.broadcast_add(&bias)?.reshape(x.dims())?;
    Ok(Normalized { y, mean, variance, count })
}

/// Normalizes each row of `[rows, length]`; see
/// [`normalize_rows`](crate::kernels::normalize_rows).
///
/// # Errors
/// When `x` does not have two axes, or the device refuses.
pub(crate) fn normalize_rows(x: &Tensor, epsilon: f64) -> Result<Normalized> {
    normalize(x, 1, epsilon)
}

fn normalize(
    x: &Tensor,
    over: impl candle_core::shape::Dims + Clone,
    epsilon: f64,
) -> Result<Normalized> {
    let mean = x.mean_keepdim(over.clone())?;
    let centred = x.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(over)?;
    let y = centred.broadcast_div(&(&variance + epsilon)?.sqrt()?)?;
    let flat = |tensor: Tensor| tensor.detach().flatten_all();
    let count = x.elem_count() / mean.elem_count().max(1);
    Ok(Normalized { y, mean: flat(mean)?, variance: flat(variance)?, count })
}

/// `factors x + shifts`, by the channels on axis 1.
///
/// # Errors
/// When there are not as many of both as channels, or the device refuses.
pub(crate) fn scale_channels(x: &Tensor, factors: &Tensor, shifts: &Tensor) -> Result<Tensor> {
    let mut dims = vec![1; x.rank()];
    // A single axis holds one channel.
    if let Some(channels) = dims.get_mut(1) {
        *channels = factors.elem_count();
    }
    x.broadcast_mul(&factors.reshape(dims.as_slice())?)?.broadcast_add(&shifts.reshape(dims)?)
}
