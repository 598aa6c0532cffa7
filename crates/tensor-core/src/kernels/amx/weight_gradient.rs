//! The gradient of the weight: input planes from the left, pairs of gradients from the right,
//! summed over output positions.

use super::super::geometry::ConvGeometry;
use super::super::lattice::Lattice;
use super::super::parallel::{Output, filled, for_each, with_scratch};
use super::super::weight_gradient::add_chunks;
use super::convert::{outputs, planes, turn};
use super::tile::{Blocks, COLUMNS, DEPTH, ROWS, Tiles, multiply};
use crate::Result;
use std::ops::Range;

/// Positions that small images are joined to, so that sums stay in tiles for long.
const SET: usize = 1024;

/// Most chunks of the images, whose sums are added in order.
const MAX_CHUNKS: usize = 16;

/// Most elements of the sums of all chunks.
const MAX_SUMS: usize = 1 << 22;

/// Most blocks of output channels of a task.
const MAX_BLOCKS: usize = 8;

/// Elements of a tile of sums.
const TILE: usize = ROWS * COLUMNS;

/// The gradient of the weight of the convolution `g` of `x`, from the gradient `dy` of its output,
/// both rounded to bfloat16.
///
/// How the images are split into chunks depends on the sizes alone.
///
/// # Errors
/// When there is no memory for the result.
pub(in super::super) fn weight_gradient(
    x: &[f32],
    dy: &[f32],
    g: &ConvGeometry,
) -> Result<Vec<f32>> {
    assert!(super::available() && g.groups == 1, "a convolution for tiles");
    assert!(x.len() == g.input_count() && dy.len() == g.output_count(), "operands");
    let plan = &Plan::new(g);
    let sets = g.batch.div_ceil(plan.images);
    let chunks = (MAX_SUMS / g.weight_count()).clamp(1, MAX_CHUNKS).min(sets.max(1));
    let blocks = g.out_channels.div_ceil(COLUMNS);
    let parts = blocks.div_ceil(MAX_BLOCKS);
    let work = g.output_area() * g.in_channels * MAX_BLOCKS;
    // SAFETY: every element of a chunk's sums belongs to one part of the output channels; the
    // processor has what a task needs.
    let sums = unsafe {
        filled(chunks * g.weight_count(), |output| {
            for_each(chunks * parts, work, |task| {
                let (chunk, part) = (task / parts, task % parts);
                let sets = chunk * sets / chunks..(chunk + 1) * sets / chunks;
                let blocks = part * blocks / parts..(part + 1) * blocks / parts;
                plan.task(x, dy, sets, blocks, output, chunk * g.weight_count());
            });
        })
    }?;
    if chunks == 1 {
        return Ok(sums);
    }
    Ok(add_chunks(&sums, g.weight_count()))
}

struct Plan<'a> {
    g: &'a ConvGeometry,
    lattice: Lattice,
    /// Images of a set.
    images: usize,
    /// Blocks of input channels.
    inputs: usize,
    /// Terms of one image, in whole steps.
    terms: usize,
    /// Bytes of the planes of one image.
    image_bytes: usize,
}

impl<'a> Plan<'a> {
    fn new(g: &'a ConvGeometry) -> Self {
        let lattice = Lattice::new(g);
        let terms = lattice.positions.next_multiple_of(DEPTH).max(DEPTH);
        let inputs = g.in_channels.div_ceil(ROWS);
        let image_bytes = lattice.phases() * inputs * ROWS * lattice.length * size_of::<u16>();
        let images = (SET / terms).clamp(1, g.batch.max(1));
        Self { g, lattice, images, inputs, terms, image_bytes }
    }

    /// Sums some sets of images for some blocks of output channels.
    ///
    /// # Safety
    /// The processor must have what [`available`](super::available) asks for, and no other task
    /// the same chunk and blocks.
    unsafe fn task(
        &self,
        x: &[f32],
        dy: &[f32],
        sets: Range<usize>,
        blocks: Range<usize>,
        output: &Output,
        start: usize,
    ) {
        let units = self.lattice.taps.len() * self.inputs;
        let sums = units * blocks.len() * TILE;
        let x_count = self.images * self.image_bytes / size_of::<f32>();
        let dy_bytes = blocks.len() * COLUMNS * self.terms * size_of::<u16>();
        let dy_count = self.images * dy_bytes / size_of::<f32>();
        let line = COLUMNS * self.terms * size_of::<u16>() / size_of::<f32>();
        with_scratch(sums + x_count + dy_count + line, |scratch| {
            scratch[..sums + x_count].fill(0.0);
            let (sums, rest) = scratch.split_at_mut(sums);
            let (x_planes, rest) = rest.split_at_mut(x_count);
            let (dy_pairs, line) = rest.split_at_mut(dy_count);
            // SAFETY: the caller vouches for the processor.
            let tiles = unsafe { Tiles::configure(DEPTH) };
            for set in sets {
                let images = set * self.images..((set + 1) * self.images).min(self.g.batch);
                // SAFETY: as the caller; all parts of the scratch have the sizes above.
                unsafe {
                    self.convert_x(x, images.clone(), x_planes);
                    self.convert_dy(dy, images.clone(), &blocks, dy_pairs, line);
                    self.add(images.len(), blocks.len(), x_planes, dy_pairs, dy_bytes, sums);
                }
            }
            drop(tiles);
            // SAFETY: as the caller.
            unsafe { self.write(sums, &blocks, output, start) };
        });
    }

    /// Rounds the inputs of some images to planes.
    unsafe fn convert_x(&self, x: &[f32], images: Range<usize>, to: &mut [f32]) {
        let g = self.g;
        let (area, length) = (g.input_area(), self.lattice.length);
        let image_step = self.image_bytes / size_of::<u16>();
        let to = to.as_mut_ptr().cast::<u16>();
        for (i, image) in images.enumerate() {
            for channel in 0..g.in_channels {
                let from = &x[(image * g.in_channels + channel) * area..][..area];
                // SAFETY: a whole channel, and its planes in every phase.
                unsafe {
                    let to = to.wrapping_add(i * image_step + channel * length);
                    planes(&self.lattice, from.as_ptr(), to, self.inputs * ROWS * length);
                }
            }
        }
    }

    /// Rounds the gradients of some images to tiles of pairs: for each step of positions and block
    /// of channels, pair by pair all channels.
    unsafe fn convert_dy(
        &self,
        dy: &[f32],
        images: Range<usize>,
        blocks: &Range<usize>,
        to: &mut [f32],
        line: &mut [f32],
    ) {
        let g = self.g;
        let (area, pairs) = (g.output_area(), self.terms / 2);
        let steps = self.terms / DEPTH;
        let line = line.as_mut_ptr().cast::<u32>();
        let mut to = to.as_mut_ptr().cast::<u32>();
        for image in images {
            for (b, block) in blocks.clone().enumerate() {
                for lane in 0..COLUMNS {
                    let channel = block * COLUMNS + lane;
                    // SAFETY: a whole channel, and a line of terms for it.
                    unsafe {
                        let line = line.wrapping_add(lane * pairs);
                        if channel < g.out_channels {
                            let from = &dy[(image * g.out_channels + channel) * area..][..area];
                            outputs(&self.lattice, from.as_ptr(), line.cast(), self.terms);
                        } else {
                            std::ptr::write_bytes(line, 0, pairs);
                        }
                    }
                }
                for step in 0..steps {
                    // SAFETY: 16 lines with 16 pairs of this step, and a tile for them.
                    unsafe {
                        let tile = (step * blocks.len() + b) * TILE;
                        turn(line.wrapping_add(step * DEPTH / 2), pairs, to.wrapping_add(tile));
                    }
                }
            }
            to = to.wrapping_add(steps * blocks.len() * TILE);
        }
    }

    /// Adds the products of some images to the sums: for each tap and block of inputs, and block
    /// of outputs, a tile.
    unsafe fn add(
        &self,
        images: usize,
        blocks: usize,
        x: &[f32],
        dy: &[f32],
        dy_bytes: usize,
        sums: &mut [f32],
    ) {
        let length = self.lattice.length * size_of::<u16>();
        let tile = TILE * size_of::<f32>();
        let steps: Vec<(usize, usize)> = (0..images)
            .flat_map(|image| {
                (0..self.terms / DEPTH).map(move |step| {
                    let left = image * self.image_bytes + step * DEPTH * size_of::<u16>();
                    (left, image * dy_bytes + step * blocks * tile)
                })
            })
            .collect();
        let taps = self.lattice.taps.iter();
        let units: Vec<usize> = taps
            .flat_map(|&(phase, shift)| {
                (0..self.inputs).map(move |input| {
                    (phase * self.inputs + input) * ROWS * length + shift * size_of::<u16>()
                })
            })
            .collect();
        let x = x.as_ptr().cast::<u8>();
        for (pair, both) in units.chunks(2).enumerate() {
            for block in (0..blocks).step_by(2) {
                let at = Blocks {
                    left: [x.wrapping_add(both[0]), x.wrapping_add(both[both.len() - 1])],
                    left_row: length,
                    right: dy.as_ptr().cast::<u8>().wrapping_add(block * tile),
                    right_block: tile,
                    right_row: COLUMNS * size_of::<u32>(),
                    sums: sums[(2 * pair * blocks + block) * TILE..].as_mut_ptr().cast(),
                    sums_rows: blocks * tile,
                    sums_columns: tile,
                    sums_row: COLUMNS * size_of::<f32>(),
                };
                // SAFETY: planes have room behind the last position, and there is a tile of sums
                // for each unit and block.
                unsafe {
                    match (both.len(), blocks - block) {
                        (1, 1) => multiply::<1, 1, true>(at, &steps),
                        (1, _) => multiply::<1, 2, true>(at, &steps),
                        (_, 1) => multiply::<2, 1, true>(at, &steps),
                        _ => multiply::<2, 2, true>(at, &steps),
                    }
                }
            }
        }
    }

    /// Brings the sums to the order of the weight.
    unsafe fn write(&self, sums: &[f32], blocks: &Range<usize>, output: &Output, start: usize) {
        let g = self.g;
        let taps = self.lattice.taps.len();
        let end = (blocks.end * COLUMNS).min(g.out_channels);
        for channel in blocks.start * COLUMNS..end {
            let (block, lane) = (channel / COLUMNS - blocks.start, channel % COLUMNS);
            // SAFETY: no other task has this channel of this chunk.
            let to = unsafe { output.part(start + channel * g.depth(), g.depth()) };
            for input in 0..g.in_channels {
                for tap in 0..taps {
                    let unit = tap * self.inputs + input / ROWS;
                    let tile = (unit * blocks.len() + block) * TILE;
                    let value = sums[tile + input % ROWS * COLUMNS + lane];
                    // SAFETY: an element of the channel's weight.
                    unsafe { to.add(input * taps + tap).write(value) };
                }
            }
        }
    }
}
