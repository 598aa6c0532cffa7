//! The gradient of the weight of a convolution of few channels, without gathered patches.

use super::geometry::ConvGeometry;
use super::lattice::Lattice;
use super::lattice_conv::suits_gradient;
use super::parallel::{Output, filled, for_each, with_scratch};
use super::simd::{Kernel, SECTION, Simd, dispatch};
use super::transpose::transpose;
use super::weight_gradient::{Outer, add_chunks, add_outer};
use crate::Result;
use std::ops::Range;

/// Positions whose gradients are transposed together.
const TILE: usize = 64;

/// Chunks that the images are split into at most, whose sums are added in order.
const CHUNKS: usize = 16;

/// The gradient of the weight of the convolution `g` of `x`, from the gradient `dy` of its output.
///
/// # Errors
/// When there is no memory for the result.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], g: &ConvGeometry) -> Result<Vec<f32>> {
    assert!(
        suits_gradient(g) && x.len() == g.input_count() && dy.len() == g.output_count(),
        "operands"
    );
    let lattice = &Lattice::new(g);
    let chunks = g.batch.clamp(1, CHUNKS);
    let work = g.batch.div_ceil(chunks) * g.output_area() * g.weight_count();
    // SAFETY: each task writes its own chunk.
    let sums = unsafe {
        filled(chunks * g.weight_count(), |output| {
            for_each(chunks, work, |chunk| {
                let images = chunk * g.batch / chunks..(chunk + 1) * g.batch / chunks;
                add_images(x, dy, g, lattice, images, output, chunk * g.weight_count());
            });
        })
    }?;
    Ok(if chunks == 1 { sums } else { add_chunks(&sums, g.weight_count()) })
}

/// Sums some images and writes the sums to `output` from `start` on.
///
/// # Safety
/// No other task may have this part of the output.
unsafe fn add_images(
    x: &[f32],
    dy: &[f32],
    g: &ConvGeometry,
    lattice: &Lattice,
    images: Range<usize>,
    output: &Output,
    start: usize,
) {
    let step = g.in_channels * lattice.length;
    let width = g.out_channels.next_multiple_of(SECTION);
    let (planes, sums) = (lattice.phases() * step, g.depth() * width);
    with_scratch(planes + TILE * width + sums, |scratch| {
        let (planes, rest) = scratch.split_at_mut(planes);
        let (turned, sums) = rest.split_at_mut(TILE * width);
        planes.fill(0.0);
        sums.fill(0.0);
        let (area, out_area) = (g.input_area(), g.output_area());
        for image in images {
            let x = &x[image * g.in_channels * area..][..g.in_channels * area];
            for (channel, x) in x.chunks_exact(area).enumerate() {
                let to = planes[channel * lattice.length..].as_mut_ptr();
                // SAFETY: a whole channel, and its planes in every phase.
                unsafe { lattice.copy(x.as_ptr(), to, step) };
            }
            let dy = &dy[image * g.out_channels * out_area..][..g.out_channels * out_area];
            dispatch(Image { planes, turned, sums, dy, g, lattice, step, width });
        }
        // SAFETY: as the caller.
        let to = unsafe { output.part(start, g.weight_count()) };
        for (row, sums) in sums.chunks_exact(width).enumerate() {
            for (channel, sum) in sums[..g.out_channels].iter().enumerate() {
                // SAFETY: an element of the weight.
                unsafe { to.add(channel * g.depth() + row).write(*sum) };
            }
        }
    });
}

/// What one image adds.
struct Image<'a> {
    planes: &'a [f32],
    /// Gradients of a tile, position by position.
    turned: &'a mut [f32],
    /// For each term of the convolution, a sum for each output channel.
    sums: &'a mut [f32],
    dy: &'a [f32],
    g: &'a ConvGeometry,
    lattice: &'a Lattice,
    /// From one phase to the next.
    step: usize,
    /// Output channels in whole sections.
    width: usize,
}

impl Kernel for Image<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { planes, turned, sums, dy, g, lattice, step, width } = self;
        let out_area = g.output_area();
        for start in (0..lattice.positions).step_by(TILE) {
            let len = TILE.min(lattice.positions - start);
            turned[..len * width].fill(0.0);
            for segment in lattice.outputs(start, len) {
                let from = dy[segment.position..].as_ptr();
                let to = turned[segment.lane * width..].as_mut_ptr();
                let size = [g.out_channels, segment.count];
                // SAFETY: the segment lies within every channel, and within the tile.
                unsafe { transpose(from, out_area, size, to, width) };
            }
            for row in (0..g.depth()).step_by(S::ROWS) {
                let rows = S::ROWS.min(g.depth() - row);
                let left: [*const f32; 8] = std::array::from_fn(|r| {
                    let row = (row + r).min(g.depth() - 1);
                    let (phase, shift) = lattice.taps[row % g.taps()];
                    let plane = phase * step + row / g.taps() * lattice.length;
                    planes.as_ptr().wrapping_add(plane + shift + start)
                });
                for column in (0..width).step_by(3 * S::LANES) {
                    let vectors = ((width - column) / S::LANES).min(3);
                    // SAFETY: planes have room behind the last position; columns are whole
                    // sections.
                    unsafe {
                        let outer = Outer {
                            terms: len,
                            left,
                            right: turned.as_ptr().add(column),
                            right_step: width,
                            sums: sums.as_mut_ptr().add(row * width + column),
                            sums_step: width,
                        };
                        add_outer::<S>(outer, rows, vectors);
                    }
                }
            }
        }
    }
}
