//! The gradient of a convolution's input, which is also the transposed convolution: convolutions
//! without stride of the output's gradient.
//!
//! Input positions with the same remainder by the stride (a *phase*) are reached by the same taps,
//! at neighbouring output positions: each phase is a plain convolution with the turned weights of
//! its taps, and the phases are interleaved.

use super::conv::{self, PackedConv};
use super::conv_op::uses_winograd;
use super::depthwise;
use super::epilogue::Finish;
use super::geometry::{ConvGeometry, WindowAxis};
use super::parallel::{filled, for_each};
use super::precision::Precision;
use super::tiles;
use super::winograd::{self, WinogradWeight};
use crate::Result;

/// From the output of the convolution `g` to its input: `y` is `[batch, out channels, ...]`, the
/// weight `[out channels, in channels / groups, height, width]`, the bias per input channel.
///
/// # Errors
/// When there is no memory for the result.
pub(super) fn input_gradient(
    y: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    g: &ConvGeometry,
    precision: Precision,
) -> Result<Vec<f32>> {
    assert!(
        y.len() == g.output_count()
            && weight.len() == g.weight_count()
            && bias.is_none_or(|bias| bias.len() == g.in_channels),
        "operands of the transposed convolution"
    );
    let (rows, columns) = (phases(&g.rows), phases(&g.columns));
    if let ([row], [column]) = (rows.as_slice(), columns.as_slice())
        && row.covers(&g.rows)
        && column.covers(&g.columns)
    {
        return convolve(y, weight, bias, g, [row, column], precision);
    }
    let mut parts = Vec::with_capacity(rows.len() * columns.len());
    for row in &rows {
        for column in &columns {
            let reached = !row.taps.is_empty() && !column.taps.is_empty();
            parts.push(
                reached
                    .then(|| convolve(y, weight, bias, g, [row, column], precision))
                    .transpose()?,
            );
        }
    }
    interleave(&parts, bias, g, &rows, &columns)
}

/// Brings the results of all phases, or the bias where no tap reaches, to where they belong.
fn interleave(
    parts: &[Option<Vec<f32>>],
    bias: Option<&[f32]>,
    g: &ConvGeometry,
    rows: &[Phase],
    columns: &[Phase],
) -> Result<Vec<f32>> {
    // SAFETY: each plane has its own task, and every position of it belongs to one phase along
    // either axis.
    unsafe {
        filled(g.input_count(), |output| {
            for_each(g.batch * g.in_channels, g.input_area(), |plane| {
                let bias = bias.map_or(0.0, |bias| bias[plane % g.in_channels]);
                for (row, parts) in rows.iter().zip(parts.chunks(columns.len())) {
                    for i in 0..row.count {
                        let y = plane * g.rows.input + row.first + i * g.rows.stride;
                        let to = output.part(y * g.columns.input, g.columns.input);
                        for (column, part) in columns.iter().zip(parts) {
                            let to = to.add(column.first);
                            let step = g.columns.stride;
                            let Some(part) = part else {
                                (0..column.count).for_each(|j| to.add(j * step).write(bias));
                                continue;
                            };
                            let width = column.window.output;
                            let start = (plane * row.window.output + row.skip + i) * width;
                            let part = &part[start + column.skip..][..column.count];
                            for (j, value) in part.iter().enumerate() {
                                to.add(j * step).write(*value);
                            }
                        }
                    }
                }
            });
        })
    }
}

/// Input positions `first`, `first + stride`, ... along one axis.
struct Phase {
    /// Taps that reach them, the last one first.
    taps: Vec<usize>,
    /// The convolution of the output's gradient with these taps.
    window: WindowAxis,
    /// Its results that lie before the first position.
    skip: usize,
    first: usize,
    count: usize,
}

impl Phase {
    /// Is the result of the convolution the whole axis?
    fn covers(&self, axis: &WindowAxis) -> bool {
        !self.taps.is_empty() && self.skip == 0 && self.count == axis.input
    }
}

/// The phases of an axis. Input `i` meets output `o` at tap `t` when
/// `i + pad = o * stride + t * dilation`.
fn phases(axis: &WindowAxis) -> Vec<Phase> {
    let &WindowAxis { input, stride, dilation, pad_begin, .. } = axis;
    (0..input.min(stride))
        .map(|first| {
            let (start, remainder) = ((first + pad_begin) / stride, (first + pad_begin) % stride);
            let count = (input - first).div_ceil(stride);
            let reaches = |tap: &usize| (tap * dilation) % stride == remainder;
            let taps: Vec<usize> = (0..axis.kernel).rev().filter(reaches).collect();
            // Outputs that a tap lies before the position's own.
            let behind = |tap: usize| (tap * dilation - remainder) / stride;
            let last = taps.first().map_or(0, |&tap| behind(tap));
            let step = match taps.as_slice() {
                [a, b, ..] => behind(*a) - behind(*b),
                _ => 1,
            };
            let skip = start.saturating_sub(last);
            let window = WindowAxis {
                input: axis.output,
                output: count + skip,
                kernel: taps.len(),
                stride: 1,
                dilation: step,
                pad_begin: last.saturating_sub(start),
                pad_end: 0,
            };
            Phase { taps, window, skip, first, count }
        })
        .collect()
}

/// The convolution of one phase of the rows and one of the columns.
fn convolve(
    y: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    g: &ConvGeometry,
    [row, column]: [&Phase; 2],
    precision: Precision,
) -> Result<Vec<f32>> {
    let phase = ConvGeometry {
        in_channels: g.out_channels,
        out_channels: g.in_channels,
        rows: row.window,
        columns: column.window,
        ..*g
    };
    phase.check()?;
    let turned = turned_weight(weight, g, row, column);
    let finish = Finish { bias, ..Finish::default() };
    if phase.is_depthwise() && g.group_inputs() == 1 {
        return depthwise::forward(y, &turned, &phase, &finish);
    }
    if precision.uses_tiles(&phase) {
        return tiles::forward(y, &turned, bias, &phase);
    }
    if uses_winograd(&phase) {
        let transformed = WinogradWeight::new(&turned, phase.out_channels);
        return winograd::forward(y, &transformed, &phase, &finish);
    }
    let packed = PackedConv::new(&turned, g.groups, g.in_channels, phase.depth());
    conv::forward(y, &packed, &phase, &finish)
}

/// `[in channels, out channels / groups, row taps, column taps]`.
fn turned_weight(weight: &[f32], g: &ConvGeometry, row: &Phase, column: &Phase) -> Vec<f32> {
    let (inputs, outputs) = (g.group_inputs(), g.group_outputs());
    let mut turned = Vec::with_capacity(weight.len());
    for channel in 0..g.in_channels {
        let (group, input) = (channel / inputs, channel % inputs);
        for output in group * outputs..(group + 1) * outputs {
            let taps = &weight[(output * inputs + input) * g.taps()..][..g.taps()];
            for i in &row.taps {
                turned.extend(column.taps.iter().map(|j| taps[i * g.columns.kernel + j]));
            }
        }
    }
    turned
}
