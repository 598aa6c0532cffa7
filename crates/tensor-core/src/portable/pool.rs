//! Pooling.

use super::window::{padded, tap, taps};
use crate::kernels::{Pooling, WindowAxis};
use candle_core::{Result, Tensor, bail};

/// Pools `[batch, channels, ...]` with a window along the last two axes; gives
/// `[batch, channels, rows, columns]`. The first of equal largest elements, row by row, gets the
/// gradient.
///
/// # Errors
/// When the windows are not over the input's axes, or the device refuses.
pub(crate) fn pool(
    x: &Tensor,
    rows: &WindowAxis,
    columns: &WindowAxis,
    pooling: Pooling,
) -> Result<Tensor> {
    let &[batch, channels, ..] = x.dims() else {
        bail!("an input without channels: {:?}", x.dims());
    };
    let x = x.reshape((batch, channels, rows.input, columns.input))?;
    let maximum = pooling == Pooling::Maximum;
    let x = padded(&x, rows, columns, if maximum { f32::NEG_INFINITY } else { 0.0 })?;
    let mut result: Option<Tensor> = None;
    for place in taps(rows, columns) {
        let value = tap(&x, rows, columns, place)?.contiguous()?;
        result = Some(match result {
            None => value,
            Some(known) if maximum => value.gt(&known)?.where_cond(&value, &known)?,
            Some(known) => (known + value)?,
        });
    }
    let (Some(result), Pooling::Average { include_padding }) = (&result, pooling) else {
        return result.map_or_else(|| bail!("a window without taps"), Ok);
    };
    let [down, across] = [rows, columns].map(|axis| axis.counts(include_padding));
    let divisors: Vec<f32> =
        down.iter().flat_map(|down| across.iter().map(move |across| down * across)).collect();
    let divisors = Tensor::from_vec(divisors, (rows.output, columns.output), x.device())?;
    result.broadcast_div(&divisors)
}

/// Pools everything behind axis 1; gives `[batch, channels]`. The first of equal largest elements
/// gets the gradient.
///
/// # Errors
/// When there is nothing to pool, or the device refuses.
pub(crate) fn global_pool(x: &Tensor, pooling: Pooling) -> Result<Tensor> {
    let x = x.flatten_from(2)?.contiguous()?;
    match pooling {
        Pooling::Maximum => {
            let first = x.argmax_keepdim(2)?;
            x.gather(&first, 2)?.squeeze(2)
        }
        Pooling::Average { .. } => x.mean(2),
    }
}
