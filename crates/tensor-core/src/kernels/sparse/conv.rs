//! Convolution by sparse weights.

use super::super::block::PANEL;
use super::super::epilogue::Finish;
use super::super::geometry::ConvGeometry;
use super::super::parallel::{Output, filled, for_each, threads, with_scratch};
use super::super::patches::{PatchPlan, Patches};
use super::super::simd::{Kernel, SECTION, Simd, dispatch};
use super::sweep::{PANELS, WIDTH, sweep};
use super::weight::{QUAD, SparseWeight};
use crate::Result;
use std::cell::RefCell;
use std::ops::Range;

/// Output positions that small images are joined to, so that few lanes stay empty.
const SET: usize = 8 * WIDTH;

/// Most rows of weights that meet a panel, so that their sums stay in the second cache level.
const MAX_ROWS: usize = 512;

thread_local! {
    static PATCHES: RefCell<[Patches; PANELS]> = RefCell::default();
}

/// The convolution of `x`, which must hold [`ConvGeometry::input_count`] elements.
///
/// # Errors
/// When there is no memory for the output.
pub(in super::super) fn forward(
    x: &[f32],
    weight: &SparseWeight,
    g: &ConvGeometry,
    finish: &Finish,
) -> Result<Vec<f32>> {
    assert!(x.len() == g.input_count() && weight.fits(g), "operands of the convolution");
    let area = g.output_area();
    let images = SET.div_ceil(area.max(1)).clamp(1, g.batch.max(1));
    let sets = g.batch.div_ceil(images);
    // Tiles of equal width keep more sums in flight than full ones and a narrow rest.
    let tiles = (images * area).div_ceil(WIDTH);
    let width = (images * area).div_ceil(tiles.max(1)).next_multiple_of(SECTION);
    let places = sets * tiles;
    let blocks = g.out_channels.div_ceil(QUAD);
    let parts = threads().div_ceil(places.max(1)).min(blocks);
    let rows = (blocks.div_ceil(parts) * QUAD).min(MAX_ROWS);
    let parts = g.out_channels.div_ceil(rows);
    let plan = PatchPlan::new(g);
    let work = (width as f64 * weight.density() * (g.depth() * rows) as f64) as usize;
    // SAFETY: every output position lies in one tile of one set, and every row in one part.
    unsafe {
        filled(g.output_count(), |output| {
            for_each(places * parts, work, |task| {
                let (place, part) = (task / parts, task % parts);
                let first_image = place / tiles * images;
                let start = place % tiles * width;
                let positions = (g.batch - first_image).min(images) * area;
                let len = width.min(positions.saturating_sub(start));
                if len == 0 {
                    return;
                }
                let first_row = part * rows;
                let rows = first_row..(first_row + rows).min(g.out_channels);
                let sums = rows.len().next_multiple_of(QUAD);
                with_scratch((weight.step() + sums) * WIDTH, |scratch| {
                    PATCHES.with_borrow_mut(|patches| {
                        let lens = [len.min(PANEL), len.saturating_sub(PANEL)];
                        for (i, patches) in patches.iter_mut().enumerate() {
                            patches.locate(&plan, start + i * PANEL, lens[i]);
                        }
                        let (panel, sums) = scratch.split_at_mut(weight.step() * WIDTH);
                        dispatch(Tile {
                            x,
                            weight,
                            g,
                            plan: &plan,
                            finish,
                            output,
                            patches,
                            first_image,
                            rows,
                            len,
                            panel,
                            sums,
                        });
                    });
                });
            });
        })
    }
}

/// One tile of output positions for some rows of weights.
struct Tile<'a> {
    x: &'a [f32],
    weight: &'a SparseWeight,
    g: &'a ConvGeometry,
    plan: &'a PatchPlan,
    finish: &'a Finish<'a>,
    output: &'a Output<'a>,
    patches: &'a [Patches; PANELS],
    first_image: usize,
    /// From a multiple of [`QUAD`].
    rows: Range<usize>,
    len: usize,
    /// One row of [`WIDTH`] columns for each term of a part.
    panel: &'a mut [f32],
    /// One row of [`WIDTH`] sums for each output, rounded up to whole blocks.
    sums: &'a mut [f32],
}

impl Tile<'_> {
    /// Applies the epilogue to a finished row.
    #[inline(always)]
    unsafe fn finish_row<S: Simd>(&self, row: usize) {
        let g = self.g;
        let area = g.output_area();
        let sums = &self.sums[(row - self.rows.start) * WIDTH..][..WIDTH];
        for (patches, sums) in self.patches.iter().zip(sums.chunks_exact(PANEL)) {
            for run in patches.images() {
                let image = self.first_image + run.image;
                let start = (image * g.out_channels + row) * area + run.position;
                let sums = &sums[run.lane..run.lane + run.len];
                // SAFETY: no other task writes this row of this tile.
                unsafe {
                    let out = self.output.part(start, run.len);
                    self.finish.write::<S>(row, sums, out, start);
                }
            }
        }
    }
}

impl Kernel for Tile<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let g = self.g;
        let count = self.weight.form().rows();
        let source =
            self.x.as_ptr().wrapping_add(self.first_image * g.in_channels * g.input_area());
        for (part, terms) in self.weight.parts().enumerate() {
            let last = terms.end == g.depth();
            let panel = self.panel[..terms.len() * WIDTH].as_mut_ptr();
            for (i, patches) in self.patches.iter().enumerate() {
                // SAFETY: `source` is as `gather_rows` wants it, and the panel holds `PANELS` rows
                // of `PANEL` elements side by side for every term.
                unsafe {
                    let to = panel.add(i * PANEL);
                    patches.gather_rows::<S>(
                        self.plan,
                        source,
                        terms.start,
                        terms.len(),
                        to,
                        WIDTH,
                    );
                }
            }
            for row in self.rows.clone().step_by(count) {
                let stream = self.weight.stream(part, row / count);
                let sums = &mut self.sums[(row - self.rows.start) * WIDTH..][..count * WIDTH];
                // SAFETY: the stream's terms are below `terms.len() * WIDTH`, where the panel has
                // whole rows, and the sums hold `count` of them.
                unsafe {
                    sweep::<S>(count, self.len, &stream, panel, sums.as_mut_ptr(), part > 0);
                    if last {
                        (row..(row + count).min(self.rows.end))
                            .for_each(|row| self.finish_row::<S>(row));
                    }
                }
            }
        }
    }
}
