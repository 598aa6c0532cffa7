//! Transposed convolution, which is the backward pass of a convolution to its data: a product of
//! transposed weights with the pixels of the input, added up where the windows overlap.

use super::block::{Block, LEFT_SLACK, PANEL, ROWS, depth_step, multiply, pack_rows};
use super::geometry::ConvGeometry;
use super::parallel::{Output, filled, for_each, threads, with_scratch};
use super::simd::{Kernel, Simd, dispatch};
use crate::Result;
use std::ops::Range;

/// Sums that the channels of one task may have, as long as they are several.
const MAX_SUMS: usize = 1 << 18;

/// Most output channels that share one gathered panel.
const MAX_CHANNELS: usize = 32;

/// From the output of the convolution `g` to its input: `y` is `[batch, out channels, ...]`, the
/// weight `[out channels, in channels / groups, height, width]`, the bias per input channel.
///
/// # Errors
/// When there is no memory for the result.
pub(super) fn backward_data(
    y: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    g: &ConvGeometry,
) -> Result<Vec<f32>> {
    assert!(
        y.len() == g.output_count()
            && weight.len() == g.weight_count()
            && bias.is_none_or(|bias| bias.len() == g.in_channels),
        "operands of the transposed convolution"
    );
    let packed = pack(weight, g);
    let (channels, taps) = (g.group_inputs(), g.taps());
    let places = g.batch * g.groups;
    let wanted = channels.div_ceil(threads().div_ceil(places.max(1)));
    let share = wanted.min(MAX_CHANNELS).min(MAX_SUMS / (taps * PANEL)).max(1);
    let parts = channels.div_ceil(share);
    let step = depth_step(g.group_outputs());
    // SAFETY: each task writes all elements of its channels.
    unsafe {
        filled(g.input_count(), |output| {
            let work = share * taps * g.group_outputs() * g.output_area();
            for_each(places * parts, work, |task| {
                let (place, part) = (task / parts, task % parts);
                let (image, group) = (place / g.groups, place % g.groups);
                let channels = part * share..((part + 1) * share).min(channels);
                with_scratch((step + share * taps) * PANEL, |scratch| {
                    let (panel, sums) = scratch.split_at_mut(step * PANEL);
                    dispatch(Share {
                        y,
                        packed: &packed,
                        bias,
                        g,
                        output,
                        image,
                        group,
                        channels,
                        panel,
                        sums,
                        step,
                    });
                });
            });
        })
    }
}

/// Rows `(channel, tap)` of terms over the output channels, packed channel by channel.
fn pack(weight: &[f32], g: &ConvGeometry) -> Vec<f32> {
    let (channels, taps, depth) = (g.group_inputs(), g.taps(), g.group_outputs());
    let mut packed = vec![0.0; weight.len() + LEFT_SLACK];
    for (i, rows) in packed[..weight.len()].chunks_exact_mut(taps * depth).enumerate() {
        let (group, channel) = (i / channels, i % channels);
        pack_rows(taps, depth, rows, |tap, k| {
            weight[((group * depth + k) * channels + channel) * taps + tap]
        });
    }
    packed
}

/// Some channels of the result for one image and group.
struct Share<'a> {
    y: &'a [f32],
    packed: &'a [f32],
    bias: Option<&'a [f32]>,
    g: &'a ConvGeometry,
    output: &'a Output<'a>,
    image: usize,
    group: usize,
    channels: Range<usize>,
    panel: &'a mut [f32],
    sums: &'a mut [f32],
    step: usize,
}

impl Kernel for Share<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let g = self.g;
        let (taps, depth, area) = (g.taps(), g.group_outputs(), g.output_area());
        let first = self.group * g.group_inputs() + self.channels.start;
        let count = self.channels.len() * g.input_area();
        let start = (self.image * g.in_channels + first) * g.input_area();
        // SAFETY: these channels belong to this task; they are initialized before they are read.
        let planes = unsafe {
            let planes = self.output.part(start, count);
            for c in 0..self.channels.len() {
                let value = self.bias.map_or(0.0, |bias| bias[first + c]);
                for i in 0..g.input_area() {
                    planes.add(c * g.input_area() + i).write(value);
                }
            }
            std::slice::from_raw_parts_mut(planes, count)
        };
        let source = &self.y[(self.image * g.out_channels + self.group * depth) * area..];
        for position in (0..area).step_by(PANEL) {
            let len = PANEL.min(area - position);
            for term in (0..depth).step_by(self.step) {
                let terms = self.step.min(depth - term);
                for (k, to) in self.panel.chunks_exact_mut(PANEL).enumerate().take(terms) {
                    to[..len].copy_from_slice(&source[(term + k) * area + position..][..len]);
                    to[len..].fill(0.0);
                }
                for (i, channel) in self.channels.clone().enumerate() {
                    let weight = &self.packed
                        [(self.group * g.group_inputs() + channel) * taps * depth..]
                        [..taps * depth + LEFT_SLACK];
                    for tap in (0..taps).step_by(ROWS) {
                        let rows = ROWS.min(taps - tap);
                        let left =
                            &weight[tap * depth + term * rows..][..terms * rows + LEFT_SLACK];
                        let sums = &mut self.sums[(i * taps + tap) * PANEL..][..rows * PANEL];
                        // SAFETY: the slices have the sizes of the block.
                        unsafe {
                            multiply::<S>(Block {
                                rows,
                                columns: len,
                                depth: terms,
                                left: left.as_ptr(),
                                right: self.panel.as_ptr(),
                                right_step: PANEL,
                                sums: sums.as_mut_ptr(),
                                add: term > 0,
                            });
                        }
                    }
                }
            }
            for (i, plane) in planes.chunks_exact_mut(g.input_area()).enumerate() {
                let sums = &self.sums[i * taps * PANEL..][..taps * PANEL];
                scatter(plane, sums, g, position, len);
            }
        }
    }
}

/// Adds the sums of every tap at output positions `position..position + len` to where the taps
/// lie in the input.
#[inline(always)]
fn scatter(plane: &mut [f32], sums: &[f32], g: &ConvGeometry, position: usize, len: usize) {
    let (width, columns) = (g.columns.output, &g.columns);
    for (tap, sums) in sums.chunks_exact(PANEL).enumerate() {
        let (tap_row, tap_column) = (tap / columns.kernel, tap % columns.kernel);
        let (begin, end) = columns.inside(tap_column);
        let mut lane = 0;
        while lane < len {
            let (row, column) = ((position + lane) / width, (position + lane) % width);
            let run = (width - column).min(len - lane);
            let (first, last) = (column.max(begin), (column + run).min(end));
            if let Some(y) = g.rows.source(row, tap_row)
                && first < last
            {
                let x = first * columns.stride + tap_column * columns.dilation - columns.pad_begin;
                let to = plane[y * columns.input + x..].iter_mut().step_by(columns.stride);
                for (to, sum) in to.zip(&sums[lane + first - column..lane + last - column]) {
                    *to += sum;
                }
            }
            lane += run;
        }
    }
}
