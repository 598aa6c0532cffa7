//! The convolution: weights from the left, pairs of input channels from the right.

use super::super::geometry::ConvGeometry;
use super::super::lattice::{Lattice, Segment};
use super::super::parallel::{Output, filled, for_each, threads, with_scratch};
use super::convert::{pairs, round};
use super::tile::{Blocks, COLUMNS, DEPTH, ROWS, Tiles, multiply};
use crate::Result;
use std::arch::x86_64::*;

/// Sums that a product may leave: four tiles.
const SUMS: usize = 4 * ROWS * COLUMNS;

/// The convolution of `x` with `weight`, both rounded to bfloat16.
///
/// # Errors
/// When there is no memory for the output.
pub(in super::super) fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    g: &ConvGeometry,
) -> Result<Vec<f32>> {
    assert!(super::available() && g.groups == 1, "a convolution for tiles");
    assert!(x.len() == g.input_count() && weight.len() == g.weight_count(), "operands");
    assert!(bias.is_none_or(|bias| bias.len() == g.out_channels), "a value per output channel");
    let plan = &Plan::new(g, weight);
    let bundle = (g.batch / (4 * threads())).clamp(1, 8);
    let work = bundle * g.output_area() * g.out_channels;
    // SAFETY: every image belongs to one task, which writes all of its outputs; the processor has
    // what the task needs.
    unsafe {
        filled(g.output_count(), |output| {
            for_each(g.batch.div_ceil(bundle), work, |task| {
                with_scratch(plan.pairs + SUMS, |scratch| {
                    scratch[..plan.pairs].fill(0.0);
                    let tiles = Tiles::configure(plan.depth);
                    for image in task * bundle..((task + 1) * bundle).min(g.batch) {
                        plan.image(x, bias, image, output, scratch);
                    }
                    drop(tiles);
                });
            });
        })
    }
}

/// What is the same for all images.
struct Plan<'a> {
    g: &'a ConvGeometry,
    lattice: Lattice,
    /// Terms of a step.
    depth: usize,
    /// Pairs of one image: all channels of a phase, phase by phase.
    pairs: usize,
    /// Planes of pairs of one phase.
    planes: usize,
    weight: Vec<Line>,
    /// Offsets of weights and pairs, step by step.
    steps: Vec<(usize, usize)>,
    /// Outputs of each tile of positions.
    segments: Vec<Vec<Segment>>,
}

/// A cache line of bfloat16.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u16; 32]);

impl<'a> Plan<'a> {
    fn new(g: &'a ConvGeometry, weight: &[f32]) -> Self {
        let lattice = Lattice::new(g);
        let depth = if g.in_channels > DEPTH / 2 { DEPTH } else { DEPTH / 2 };
        let parts = g.in_channels.div_ceil(depth);
        let planes = parts * depth / 2;
        let mut steps = Vec::new();
        for &(phase, shift) in &lattice.taps {
            for part in 0..parts {
                let plane = phase * planes + part * depth / 2;
                let left = steps.len() * ROWS * depth * size_of::<u16>();
                steps.push((left, (plane * lattice.length + shift) * size_of::<u32>()));
            }
        }
        let tiles = lattice.positions.div_ceil(COLUMNS);
        let outputs = |tile| lattice.outputs(tile * COLUMNS, COLUMNS).collect();
        Self {
            g,
            depth,
            pairs: lattice.phases() * planes * lattice.length,
            planes,
            weight: pack(weight, g, depth),
            steps,
            segments: (0..tiles).map(outputs).collect(),
            lattice,
        }
    }

    /// Computes one image.
    ///
    /// # Safety
    /// The processor must have what [`available`](super::available) asks for, tiles must be
    /// configured, and no other task have this image. `scratch` holds pairs, zero in the padding,
    /// and sums.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn image(
        &self,
        x: &[f32],
        bias: Option<&[f32]>,
        image: usize,
        output: &Output,
        scratch: &mut [f32],
    ) {
        let g = self.g;
        let (area, length) = (g.input_area(), self.lattice.length);
        let (values, sums) = scratch.split_at_mut(self.pairs);
        let values = values.as_mut_ptr().cast::<u32>();
        for channel in (0..g.in_channels).step_by(2) {
            let from = |channel| {
                let start = (image * g.in_channels + channel) * area;
                (channel < g.in_channels).then(|| x[start..start + area].as_ptr())
            };
            // SAFETY: two whole channels, and the planes of their pairs.
            unsafe {
                let to = values.wrapping_add(channel / 2 * length);
                let both = [from(channel), from(channel + 1)];
                pairs(&self.lattice, both, to, self.planes * length);
            }
        }
        let block = self.steps.len() * ROWS * self.depth * size_of::<u16>();
        let tiles = self.segments.len();
        let blocks = g.out_channels.div_ceil(ROWS);
        for first in (0..blocks).step_by(2) {
            let both = first + 1 < blocks;
            let left = self.weight.as_ptr().cast::<u8>().wrapping_add(first * block);
            let most = if both { 2 } else { 4 };
            for tile in (0..tiles).step_by(most) {
                let count = most.min(tiles - tile);
                let row = count * COLUMNS * size_of::<f32>();
                let at = Blocks {
                    left: [left, left.wrapping_add(block)],
                    left_row: self.depth * size_of::<u16>(),
                    right: values.wrapping_add(tile * COLUMNS).cast(),
                    right_block: COLUMNS * size_of::<u32>(),
                    right_row: length * size_of::<u32>(),
                    sums: sums.as_mut_ptr().cast(),
                    sums_rows: ROWS * row,
                    sums_columns: COLUMNS * size_of::<f32>(),
                    sums_row: row,
                };
                // SAFETY: weights are packed in whole tiles, planes have room behind the last
                // position, and there are as many sums as tiles hold.
                unsafe {
                    match (both, count) {
                        (true, 1) => multiply::<2, 1, false>(at, &self.steps),
                        (true, _) => multiply::<2, 2, false>(at, &self.steps),
                        (false, 1) => multiply::<1, 1, false>(at, &self.steps),
                        (false, 2) => multiply::<1, 2, false>(at, &self.steps),
                        (false, 3) => multiply::<1, 3, false>(at, &self.steps),
                        (false, _) => multiply::<1, 4, false>(at, &self.steps),
                    }
                    let segments = &self.segments[tile..tile + count];
                    let end = ((first + 2) * ROWS).min(g.out_channels);
                    for channel in first * ROWS..end {
                        let sums = &sums[(channel - first * ROWS) * count * COLUMNS..];
                        let bias = bias.map_or(0.0, |bias| bias[channel]);
                        let start = (image * g.out_channels + channel) * g.output_area();
                        write(&sums[..count * COLUMNS], segments, bias, output, start);
                    }
                }
            }
        }
    }
}

/// Writes the sums of one channel to their outputs.
///
/// # Safety
/// The processor must have AVX-512, and no other task write these outputs.
#[target_feature(enable = "avx512f")]
unsafe fn write(sums: &[f32], segments: &[Vec<Segment>], bias: f32, output: &Output, start: usize) {
    let bias = _mm512_set1_ps(bias);
    for (tile, segments) in segments.iter().enumerate() {
        for segment in segments {
            let mask = ((1_u32 << segment.count) - 1) as u16;
            // SAFETY: a segment lies within its tile, and other lanes are masked.
            unsafe {
                let from = sums.as_ptr().add(tile * COLUMNS + segment.lane);
                let to = output.part(start + segment.position, segment.count);
                let values = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, from), bias);
                _mm512_mask_storeu_ps(to, mask, values);
            }
        }
    }
}

/// Weights in tiles: for each block of output channels, tap and part of the input channels.
fn pack(weight: &[f32], g: &ConvGeometry, depth: usize) -> Vec<Line> {
    let (taps, parts) = (g.taps(), g.in_channels.div_ceil(depth));
    let tile = ROWS * depth;
    let blocks = g.out_channels.div_ceil(ROWS);
    let mut lines = vec![Line([0; 32]); blocks * taps * parts * tile / 32];
    for output in 0..g.out_channels {
        for input in 0..g.in_channels {
            for tap in 0..taps {
                let value = weight[(output * g.in_channels + input) * taps + tap];
                let step = (output / ROWS * taps + tap) * parts + input / depth;
                let at = step * tile + output % ROWS * depth + input % depth;
                lines[at / 32].0[at % 32] = round(value);
            }
        }
    }
    lines
}
