//! Depthwise convolution: each output channel slides over one input channel.
//!
//! A band of padded input rows is copied to scratch memory, split into one plane per phase of the
//! strides. In these planes every tap is a plain shift, whatever stride and padding, so the sums
//! of a whole band are one loop over neighbouring elements.

use super::epilogue::Finish;
use super::geometry::{ConvGeometry, WindowAxis};
use super::parallel::{Output, filled, for_each, with_scratch};
use super::simd::{Kernel, Simd, dispatch};
use crate::Result;

/// Elements of scratch planes that a band of rows is chosen to need.
const BAND: usize = 6144;

/// Vectors that are summed at once.
const VECTORS: usize = 4;

/// Elements past the end of sums and planes that whole vectors may touch.
const SLACK: usize = 16 * VECTORS;

/// The convolution of `x` with `weight`, `[out channels, 1, height, width]`.
///
/// # Errors
/// When there is no memory for the output.
pub(super) fn forward(
    x: &[f32],
    weight: &[f32],
    g: &ConvGeometry,
    finish: &Finish,
) -> Result<Vec<f32>> {
    assert!(
        g.group_inputs() == 1 && x.len() == g.input_count() && weight.len() == g.weight_count(),
        "operands of the depthwise convolution"
    );
    let plan = Plan::new(g);
    let channels = g.batch * g.out_channels;
    // SAFETY: each channel's task writes all rows of its channel.
    unsafe {
        filled(g.output_count(), |output| {
            for_each(channels, g.output_area() * g.taps(), |task| {
                let (image, channel) = (task / g.out_channels, task % g.out_channels);
                let source = image * g.in_channels + channel / g.group_outputs();
                let input = &x[source * g.input_area()..][..g.input_area()];
                let weight = &weight[channel * g.taps()..][..g.taps()];
                with_scratch(plan.scratch(), |scratch| {
                    let start = task * g.output_area();
                    let plan = &plan;
                    dispatch(Plane {
                        plan,
                        g,
                        input,
                        weight,
                        finish,
                        output,
                        channel,
                        start,
                        scratch,
                    });
                });
            });
        })
    }
}

/// Layout of the scratch planes of a band.
struct Plan {
    /// Phases of rows and columns that a tap reads.
    phases: Vec<(usize, usize)>,
    /// Start of each tap's elements in the planes.
    taps: Vec<usize>,
    /// Output rows of a band.
    band: usize,
    /// Elements between the rows of a plane.
    pitch: usize,
    /// Elements of a plane.
    plane: usize,
}

impl Plan {
    fn new(g: &ConvGeometry) -> Self {
        let (rows, columns) = (phases(&g.rows), phases(&g.columns));
        let pitch = g.columns.output + reach(&g.columns);
        let phase_count = rows.len() * columns.len();
        let height = (BAND / (phase_count * pitch)).saturating_sub(reach(&g.rows));
        let band = height.clamp(1, g.rows.output.max(1));
        let plane = (band + reach(&g.rows)) * pitch + SLACK;
        let index = |list: &[usize], shift: usize, stride: usize| {
            list.iter().position(|&phase| phase == shift % stride).unwrap_or(0)
        };
        let mut taps = Vec::with_capacity(g.taps());
        for tap_row in 0..g.rows.kernel {
            for tap_column in 0..g.columns.kernel {
                let (y, x) = (tap_row * g.rows.dilation, tap_column * g.columns.dilation);
                let phase = index(&rows, y, g.rows.stride) * columns.len()
                    + index(&columns, x, g.columns.stride);
                taps.push(phase * plane + y / g.rows.stride * pitch + x / g.columns.stride);
            }
        }
        let phases = rows.iter().flat_map(|&y| columns.iter().map(move |&x| (y, x))).collect();
        Self { phases, taps, band, pitch, plane }
    }

    fn scratch(&self) -> usize {
        self.phases.len() * self.plane + self.band * self.pitch + SLACK
    }
}

/// Remainders of the taps' shifts by the stride.
fn phases(axis: &WindowAxis) -> Vec<usize> {
    let mut phases: Vec<_> =
        (0..axis.kernel).map(|tap| tap * axis.dilation % axis.stride).collect();
    phases.sort_unstable();
    phases.dedup();
    phases
}

/// Plane elements that the last tap lies behind the first.
fn reach(axis: &WindowAxis) -> usize {
    (axis.kernel - 1) * axis.dilation / axis.stride
}

/// One output channel of one image.
struct Plane<'a> {
    plan: &'a Plan,
    g: &'a ConvGeometry,
    input: &'a [f32],
    weight: &'a [f32],
    finish: &'a Finish<'a>,
    output: &'a Output<'a>,
    channel: usize,
    start: usize,
    scratch: &'a mut [f32],
}

impl Kernel for Plane<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (g, plan) = (self.g, self.plan);
        let (planes, sums) = self.scratch.split_at_mut(plan.phases.len() * plan.plane);
        let width = g.columns.output;
        for first in (0..g.rows.output).step_by(plan.band) {
            let rows = plan.band.min(g.rows.output - first);
            for (plane, &phase) in planes.chunks_exact_mut(plan.plane).zip(&plan.phases) {
                let height = rows + reach(&g.rows);
                fill_plane(plane, self.input, g, phase, first, height, plan.pitch);
            }
            let len = (rows - 1) * plan.pitch + width;
            // SAFETY: planes and sums have slack for whole vectors beyond `len`, and each tap's
            // last element lies within its plane.
            unsafe { sum_taps::<S>(planes, sums, &plan.taps, self.weight, len) };
            for row in 0..rows {
                let start = self.start + (first + row) * width;
                // SAFETY: this task alone writes this channel.
                unsafe {
                    let out = self.output.part(start, width);
                    let sums = &sums[row * plan.pitch..][..width];
                    self.finish.write(self.channel, sums, out, start);
                }
            }
        }
    }
}

/// Copies the padded input elements of one phase; row 0 belongs to output row `first`.
#[inline(always)]
fn fill_plane(
    plane: &mut [f32],
    input: &[f32],
    g: &ConvGeometry,
    phase: (usize, usize),
    first: usize,
    height: usize,
    pitch: usize,
) {
    let (rows, columns) = (&g.rows, &g.columns);
    let before = columns.pad_begin;
    let begin = before.saturating_sub(phase.1).div_ceil(columns.stride).min(pitch);
    let end = (columns.input + before).saturating_sub(phase.1).div_ceil(columns.stride);
    let end = end.clamp(begin, pitch);
    for (row, to) in plane.chunks_exact_mut(pitch).take(height).enumerate() {
        let at = (first + row) * rows.stride + phase.0;
        let Some(at) = at.checked_sub(rows.pad_begin).filter(|&at| at < rows.input) else {
            to.fill(0.0);
            continue;
        };
        let from = &input[at * columns.input..][..columns.input];
        to[..begin].fill(0.0);
        to[end..].fill(0.0);
        if begin == end {
            continue;
        }
        let from = &from[begin * columns.stride + phase.1 - before..];
        match columns.stride {
            1 => to[begin..end].copy_from_slice(&from[..end - begin]),
            2 => {
                for (to, from) in to[begin..end].iter_mut().zip(from.chunks(2)) {
                    *to = from[0];
                }
            }
            stride => {
                for (to, from) in to[begin..end].iter_mut().zip(from.iter().step_by(stride)) {
                    *to = *from;
                }
            }
        }
    }
}

/// `sums[p]` is the weighted sum of the taps' elements `p`.
///
/// # Safety
/// The instruction set of `S` must be there; `sums` must hold `len`, and `planes` each tap's start
/// plus `len`, and [`SLACK`] more elements.
#[inline(always)]
unsafe fn sum_taps<S: Simd>(
    planes: &[f32],
    sums: &mut [f32],
    taps: &[usize],
    weight: &[f32],
    len: usize,
) {
    let wide = S::LANES * VECTORS;
    let mut at = 0;
    while at < len {
        // SAFETY: as the caller; a vector starts below `len`.
        unsafe {
            let (from, to) = (planes.as_ptr().add(at), sums.as_mut_ptr().add(at));
            if len - at > wide - S::LANES {
                sum_vectors::<S, VECTORS>(from, to, taps, weight);
                at += wide;
            } else {
                sum_vectors::<S, 1>(from, to, taps, weight);
                at += S::LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn sum_vectors<S: Simd, const V: usize>(
    from: *const f32,
    to: *mut f32,
    taps: &[usize],
    weight: &[f32],
) {
    // SAFETY: the caller vouches for `V` vectors behind `to` and behind each tap.
    unsafe {
        let mut sums = [S::splat(0.0); V];
        for (&tap, &factor) in taps.iter().zip(weight) {
            let (from, factor) = (from.add(tap), S::splat(factor));
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = S::mul_add(factor, S::load(from.add(v * S::LANES)), *sum);
            }
        }
        for (v, sum) in sums.iter().enumerate() {
            S::store(to.add(v * S::LANES), *sum);
        }
    }
}
