//! Depthwise convolution: each output channel slides over one input channel.
//!
//! A band of padded input rows is copied to scratch memory, split into one plane per phase of the
//! strides. In these planes every tap is a plain shift, whatever stride and padding, so the sums
//! of a whole band are one loop over neighbouring elements.

use super::conv::{self, PackedConv};
use super::epilogue::Finish;
use super::geometry::{ConvGeometry, WindowAxis};
use super::parallel::{Output, filled, for_each, with_scratch};
use super::patches::Run;
use super::simd::{Fill, Kernel, SECTION, Simd, dispatch};
use crate::Result;

/// Elements of scratch planes that a band of rows is chosen to need.
const BAND: usize = 6144;

/// Most elements of scratch memory.
pub(super) const MAX_SCRATCH: usize = 1 << 22;

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
    if plan.scratch() > MAX_SCRATCH {
        // Far dilations: gathering patches needs no planes.
        let weight = PackedConv::new(weight, g.groups, g.out_channels, g.depth());
        return conv::forward(x, &weight, g, finish);
    }
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
pub(super) struct Plan {
    /// Phases of the rows that a tap reads.
    row_phases: Vec<usize>,
    /// Number of phases of the columns that a tap reads.
    column_phases: usize,
    /// Where each section of a plane's row comes from, by phase of the columns.
    runs: Vec<Option<Run>>,
    /// Start of each tap's elements in the planes.
    pub(super) taps: Vec<usize>,
    /// Output rows of a band.
    pub(super) band: usize,
    /// Elements between the rows of a plane.
    pub(super) pitch: usize,
    /// Elements of a plane.
    pub(super) plane: usize,
}

impl Plan {
    pub(super) fn new(g: &ConvGeometry) -> Self {
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
        let runs = section_runs(&g.columns, &columns, pitch);
        Self { row_phases: rows, column_phases: columns.len(), runs, taps, band, pitch, plane }
    }

    /// Elements of all planes.
    pub(super) fn planes(&self) -> usize {
        (self.row_phases.len() * self.column_phases).saturating_mul(self.plane)
    }

    /// Elements of the planes and of one band of results.
    pub(super) fn scratch(&self) -> usize {
        self.planes().saturating_add(self.band * self.pitch + SLACK)
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
pub(super) fn reach(axis: &WindowAxis) -> usize {
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
        let (planes, sums) = self.scratch.split_at_mut(plan.planes());
        let width = g.columns.output;
        for first in (0..g.rows.output).step_by(plan.band) {
            let rows = plan.band.min(g.rows.output - first);
            for (phase, plane) in planes.chunks_exact_mut(plan.plane).enumerate() {
                let height = rows + reach(&g.rows);
                // SAFETY: the instruction set is there.
                unsafe { fill_plane::<S>(plane, self.input, g, plan, phase, first, height) };
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
                    self.finish.write::<S>(self.channel, sums, out, start);
                }
            }
        }
    }
}

/// Runs of each section of a plane's row, for the phases of the columns in order.
fn section_runs(columns: &WindowAxis, phases: &[usize], pitch: usize) -> Vec<Option<Run>> {
    let mut runs = Vec::new();
    for &phase in phases {
        // Element `x` of the plane is input element `x * stride + phase - pad_begin`.
        let shift = phase as isize - columns.pad_begin as isize;
        let begin = columns.pad_begin.saturating_sub(phase).div_ceil(columns.stride);
        let end =
            (columns.input + columns.pad_begin).saturating_sub(phase).div_ceil(columns.stride);
        for section in (0..pitch).step_by(SECTION) {
            let (first, last) = (begin.max(section), end.min(section + SECTION).min(pitch));
            runs.push((first < last).then(|| Run {
                offset: (section * columns.stride) as isize + shift,
                lanes: (((1_u32 << (last - first)) - 1) << (first - section)) as u16,
            }));
        }
    }
    runs
}

/// Copies the padded input elements of one phase; row 0 belongs to output row `first`.
///
/// # Safety
/// The instruction set of `S` must be there.
#[inline(always)]
pub(super) unsafe fn fill_plane<S: Simd>(
    plane: &mut [f32],
    input: &[f32],
    g: &ConvGeometry,
    plan: &Plan,
    phase: usize,
    first: usize,
    height: usize,
) {
    let sections = plan.pitch.div_ceil(SECTION);
    let row_phase = plan.row_phases[phase / plan.column_phases];
    let runs = &plan.runs[phase % plan.column_phases * sections..][..sections];
    assert!(plane.len() >= height * plan.pitch + SECTION, "a band has slack behind its last row");
    // Rows of the plane that lie inside the input.
    let (stride, before) = (g.rows.stride, g.rows.pad_begin);
    let at = |row: usize| (first + row) * stride + row_phase;
    let begin = before.saturating_sub(at(0)).div_ceil(stride).min(height);
    let end = (g.rows.input + before).saturating_sub(at(0)).div_ceil(stride).clamp(begin, height);
    let source = if begin < end { (at(begin) - before) * g.columns.input } else { 0 };
    // A row's last section may reach into the start of the next row: the first section, which is
    // filled last, puts that right.
    for (section, run) in runs.iter().enumerate().rev() {
        let parts = [(0, begin, false), (begin, end, true), (end, height, false)];
        for (from, to, inside) in parts {
            // SAFETY: runs cover elements of the input rows only, and sections lie in the plane
            // or its slack.
            unsafe {
                S::fill_sections(Fill {
                    runs: if inside { run.as_slice() } else { &[] },
                    stride: g.columns.stride,
                    rows: to - from,
                    source: input.as_ptr().add(source),
                    source_step: stride * g.columns.input,
                    to: plane.as_mut_ptr().add(from * plan.pitch + section * SECTION),
                    to_step: plan.pitch,
                });
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
