//! Views of an image as windows see it.

use crate::kernels::WindowAxis;
use candle_core::{Result, Tensor};

/// The image with a constant around it, long enough for every tap and stride.
pub(super) fn padded(
    x: &Tensor,
    rows: &WindowAxis,
    columns: &WindowAxis,
    value: f32,
) -> Result<Tensor> {
    let reach = |axis: &WindowAxis| (axis.kernel - 1) * axis.dilation + axis.output * axis.stride;
    let x = lengthened(x, 2, rows.pad_begin, reach(rows), value)?;
    lengthened(&x, 3, columns.pad_begin, reach(columns), value)
}

/// An axis with `before` constants before it, and after it as many as `least` elements need.
fn lengthened(x: &Tensor, axis: usize, before: usize, least: usize, value: f32) -> Result<Tensor> {
    let after = least.saturating_sub(before + x.dim(axis)?);
    let constant = |length: usize| {
        let mut dims = x.dims().to_vec();
        dims[axis] = length;
        Tensor::full(value, dims, x.device())
    };
    let mut parts = vec![x.clone()];
    if before > 0 {
        parts.insert(0, constant(before)?);
    }
    if after > 0 {
        parts.push(constant(after)?);
    }
    if parts.len() == 1 {
        return Ok(x.clone());
    }
    Tensor::cat(&parts, axis)
}

/// An axis of exactly `length` elements, after `before` zeros.
pub(super) fn fitted(x: &Tensor, axis: usize, before: usize, length: usize) -> Result<Tensor> {
    lengthened(x, axis, before, length, 0.0)?.narrow(axis, 0, length)
}

/// What one tap reads for every output, from a [`padded`] image.
pub(super) fn tap(
    x: &Tensor,
    rows: &WindowAxis,
    columns: &WindowAxis,
    (row, column): (usize, usize),
) -> Result<Tensor> {
    let x = every(x, 2, row * rows.dilation, rows.output, rows.stride)?;
    every(&x, 3, column * columns.dilation, columns.output, columns.stride)
}

/// Elements `start`, `start + stride`, ... of an axis that holds `start + count * stride`.
pub(super) fn every(
    x: &Tensor,
    axis: usize,
    start: usize,
    count: usize,
    stride: usize,
) -> Result<Tensor> {
    if stride == 1 {
        return x.narrow(axis, start, count);
    }
    let x = x.narrow(axis, start, count * stride)?;
    let mut split = x.dims().to_vec();
    split[axis] = count;
    split.insert(axis + 1, stride);
    x.contiguous()?.reshape(split)?.narrow(axis + 1, 0, 1)?.squeeze(axis + 1)
}

/// All taps of a window, row by row.
pub(super) fn taps(
    rows: &WindowAxis,
    columns: &WindowAxis,
) -> impl Iterator<Item = (usize, usize)> {
    let (height, width) = (rows.kernel, columns.kernel);
    (0..height * width).map(move |i| (i / width, i % width))
}
