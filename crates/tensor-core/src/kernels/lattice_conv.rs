//! Convolutions of few channels without gathered patches: gathering would cost nearly as much as
//! the product.

use super::block::{Block, LEFT_SLACK, PANEL, ROWS, multiply_at};
use super::conv::PackedConv;
use super::epilogue::Finish;
use super::geometry::ConvGeometry;
use super::lattice::Lattice;
use super::parallel::{Output, filled, for_each, threads, with_scratch};
use super::simd::{Kernel, Simd, dispatch};
use crate::Result;

/// Output channels up to which gathered patches are used too rarely.
const MAX_OUTPUTS: usize = 32;

/// Terms up to which gathering costs more than it is worth, and [`winograd`](super::winograd) saves
/// too little.
const MAX_DEPTH: usize = 256;

/// Terms up to which the gradient of the weight is faster this way.
const MAX_GRADIENT_DEPTH: usize = 320;

/// Positions of no output, as a part of all, that cost as much as gathering.
const MAX_WASTE: usize = 8;

/// Images from which on there is enough to share among threads: an image is one task.
const MIN_BATCH: usize = 16;

/// Most images that one task computes.
const MAX_BUNDLE: usize = 8;

/// Is the convolution faster this way?
pub(super) fn suits(g: &ConvGeometry) -> bool {
    g.depth() <= MAX_DEPTH && spares_gathering(g)
}

/// Is the gradient of its weight?
pub(super) fn suits_gradient(g: &ConvGeometry) -> bool {
    g.depth() <= MAX_GRADIENT_DEPTH && spares_gathering(g)
}

fn spares_gathering(g: &ConvGeometry) -> bool {
    let width = g.columns.output + (g.columns.kernel - 1) * g.columns.dilation / g.columns.stride;
    g.groups == 1
        && g.batch >= MIN_BATCH
        && g.taps() > 1
        && g.columns.stride == 1
        && g.out_channels <= MAX_OUTPUTS
        && g.output_area() >= PANEL
        && (width - g.columns.output) * MAX_WASTE <= width
}

/// The convolution of `x`, which must hold [`ConvGeometry::input_count`] elements.
///
/// # Errors
/// When there is no memory for the output.
pub(super) fn forward(
    x: &[f32],
    weight: &PackedConv,
    g: &ConvGeometry,
    finish: &Finish,
) -> Result<Vec<f32>> {
    assert!(x.len() == g.input_count() && weight.fits(g), "operands of the convolution");
    let lattice = Lattice::new(g);
    let step = g.in_channels * lattice.length;
    let offsets: Vec<usize> = (0..g.in_channels)
        .flat_map(|channel| {
            let taps = lattice.taps.iter();
            let offset = move |&(phase, shift): &(usize, usize)| phase * step + shift;
            taps.map(offset).map(move |offset| channel * lattice.length + offset)
        })
        .collect();
    let planes = lattice.phases() * step;
    let bundle = (g.batch / (4 * threads())).clamp(1, MAX_BUNDLE);
    let work = bundle * g.output_area() * g.depth() * g.out_channels;
    // SAFETY: every image belongs to one task, which writes all of its outputs.
    unsafe {
        filled(g.output_count(), |output| {
            for_each(g.batch.div_ceil(bundle), work, |task| {
                with_scratch(planes + ROWS * PANEL, |scratch| {
                    let (planes, sums) = scratch.split_at_mut(planes);
                    planes.fill(0.0);
                    for image in task * bundle..((task + 1) * bundle).min(g.batch) {
                        let area = g.input_area();
                        let x = &x[image * g.in_channels * area..][..g.in_channels * area];
                        for (channel, x) in x.chunks_exact(area).enumerate() {
                            let to = planes[channel * lattice.length..].as_mut_ptr();
                            lattice.copy(x.as_ptr(), to, step);
                        }
                        dispatch(Image {
                            planes,
                            sums,
                            weight: weight.values(),
                            g,
                            lattice: &lattice,
                            offsets: &offsets,
                            finish,
                            output,
                            image,
                        });
                    }
                });
            });
        })
    }
}

/// All outputs of one image.
struct Image<'a> {
    planes: &'a [f32],
    sums: &'a mut [f32],
    weight: &'a [f32],
    g: &'a ConvGeometry,
    lattice: &'a Lattice,
    /// Offset of each term in the planes.
    offsets: &'a [usize],
    finish: &'a Finish<'a>,
    output: &'a Output<'a>,
    image: usize,
}

impl Kernel for Image<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { g, lattice, sums, .. } = self;
        let depth = g.depth();
        for start in (0..lattice.positions).step_by(PANEL) {
            let len = PANEL.min(lattice.positions - start);
            for row in (0..g.out_channels).step_by(ROWS) {
                let rows = ROWS.min(g.out_channels - row);
                let left = &self.weight[row * depth..][..depth * rows + LEFT_SLACK];
                // SAFETY: slices are checked above; planes have room behind the last position.
                unsafe {
                    let block = Block {
                        rows,
                        columns: len,
                        depth,
                        left: left.as_ptr(),
                        left_step: rows,
                        right: self.planes.as_ptr().add(start),
                        right_step: 0,
                        sums: sums.as_mut_ptr(),
                        add: false,
                    };
                    multiply_at::<S>(block, self.offsets);
                }
                for (channel, sums) in (row..row + rows).zip(sums.chunks_exact(PANEL)) {
                    let first = (self.image * g.out_channels + channel) * g.output_area();
                    for segment in lattice.outputs(start, len) {
                        let at = first + segment.position;
                        let sums = &sums[segment.lane..segment.lane + segment.count];
                        // SAFETY: no other task writes this image.
                        unsafe {
                            let out = self.output.part(at, segment.count);
                            self.finish.write::<S>(channel, sums, out, at);
                        }
                    }
                }
            }
        }
    }
}
