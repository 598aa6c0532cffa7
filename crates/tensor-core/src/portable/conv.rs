//! Convolution.

use super::window::{every, fitted, padded, tap, taps};
use crate::kernels::{ConvGeometry, WindowAxis};
use candle_core::{Result, Tensor, bail};

/// The convolution of `x` with `weight`, `[batch, out channels, height, width]`.
///
/// # Errors
/// When an operand does not have the size that `geometry` implies, or the device refuses.
pub(crate) fn convolution(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    geometry: &ConvGeometry,
) -> Result<Tensor> {
    let g = geometry;
    let x = x.reshape((g.batch, g.in_channels, g.rows.input, g.columns.input))?;
    let weight =
        weight.reshape((g.out_channels, g.group_inputs(), g.rows.kernel, g.columns.kernel))?;
    let y = match g.is_depthwise() {
        true => depthwise(&x, &weight, g)?,
        false => dense(&x, &weight, g)?,
    };
    match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, g.out_channels, 1, 1))?),
        None => Ok(y),
    }
}

/// By candle's convolution, which takes one stride and one dilation for both axes, and whose
/// gradient wants windows that end where the input ends.
fn dense(x: &Tensor, weight: &Tensor, g: &ConvGeometry) -> Result<Tensor> {
    let axes = [&g.rows, &g.columns];
    // One window has no stride, and one tap no dilation.
    let stride = common(axes.map(|axis| (axis.stride, axis.output > 1)));
    let dilation = common(axes.map(|axis| (axis.dilation, axis.kernel > 1)));
    let (mut x, mut weight) = (x.clone(), weight.clone());
    for (i, axis) in axes.into_iter().enumerate() {
        let at = i + 2;
        let windows = if own_stride(axis, stride) {
            (axis.output - 1) * axis.stride + 1
        } else {
            axis.output
        };
        if axis.kernel > 1 && axis.dilation != dilation {
            weight = spread(&weight, at, axis.dilation)?;
        }
        let length = (windows - 1) * stride + (axis.kernel - 1) * axis.dilation + 1;
        x = fitted(&x, at, axis.pad_begin, length)?;
    }
    let mut y = x.contiguous()?.conv2d(&weight.contiguous()?, 0, stride, dilation, g.groups)?;
    for (i, axis) in axes.into_iter().enumerate() {
        if own_stride(axis, stride) {
            let whole = fitted(&y, i + 2, 0, axis.output * axis.stride)?;
            y = every(&whole, i + 2, 0, axis.output, axis.stride)?;
        }
    }
    if y.dims() != [g.batch, g.out_channels, g.rows.output, g.columns.output] {
        bail!("a convolution of {g:?} gave {:?}", y.dims());
    }
    Ok(y)
}

/// Does an axis pick its windows after a convolution with another stride?
fn own_stride(axis: &WindowAxis, stride: usize) -> bool {
    axis.output > 1 && axis.stride != stride
}

/// The value that both axes have, or the one that matters; 1 when both matter and differ.
fn common([(a, a_matters), (b, b_matters)]: [(usize, bool); 2]) -> usize {
    match (a_matters, b_matters) {
        (true, true) if a == b => a,
        (true, false) => a,
        (false, true) => b,
        _ => 1,
    }
}

/// A kernel with zeros between its taps along an axis, in place of a dilation.
fn spread(weight: &Tensor, axis: usize, dilation: usize) -> Result<Tensor> {
    let mut dims = weight.dims().to_vec();
    let length = (dims[axis] - 1) * dilation + 1;
    dims[axis] *= dilation;
    let apart = weight.unsqueeze(axis + 1)?.pad_with_zeros(axis + 1, 0, dilation - 1)?;
    apart.reshape(dims)?.narrow(axis, 0, length)
}

/// As a sum over taps: candle runs one convolution for each group.
fn depthwise(x: &Tensor, weight: &Tensor, g: &ConvGeometry) -> Result<Tensor> {
    let (rows, columns) = (&g.rows, &g.columns);
    let mut x = padded(x, rows, columns, 0.0)?;
    let (batch, channels, height, width) = x.dims4()?;
    let each = g.group_outputs();
    if each > 1 {
        let repeated = x.unsqueeze(2)?.broadcast_as((batch, channels, each, height, width))?;
        x = repeated.contiguous()?.reshape((batch, channels * each, height, width))?;
    }
    let mut sum: Option<Tensor> = None;
    for (row, column) in taps(rows, columns) {
        let factors = weight.narrow(2, row, 1)?.narrow(3, column, 1)?;
        let factors = factors.reshape((1, g.out_channels, 1, 1))?;
        let term = tap(&x, rows, columns, (row, column))?.broadcast_mul(&factors)?;
        sum = Some(match sum {
            Some(sum) => (sum + term)?,
            None => term,
        });
    }
    match sum {
        Some(sum) => Ok(sum),
        None => bail!("a kernel without taps"),
    }
}
