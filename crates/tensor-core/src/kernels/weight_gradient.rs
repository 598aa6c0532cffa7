//! The gradient of a convolution's weight: for every tile of output positions, the product of the
//! input patches with the transposed gradient of the output.
//!
//! Positions are split into chunks, whose sums are added in order. Chunks and the order of sums
//! depend on the sizes alone, so that any number of threads gives the same bits.

use super::block::{PANEL, ROWS};
use super::geometry::ConvGeometry;
use super::parallel::{Output, filled, for_each, with_scratch};
use super::patches::{ImageRun, PatchPlan, Patches};
use super::simd::{Kernel, SECTION, Simd, dispatch};
use super::transpose::transpose;
use super::{lattice_conv, lattice_gradient};
use crate::Result;
use std::cell::RefCell;
use std::ops::Range;

/// Most output channels of one task.
const MAX_COLUMNS: usize = 5 * PANEL;

/// Most sums of one task, so that they stay in the second cache level.
const MAX_SUMS: usize = 1 << 17;

/// Output positions that small images are joined to.
const SET: usize = 768;

/// Most output positions of a chunk, for the sake of rounding.
const MAX_CHUNK: usize = 1 << 14;

/// Tasks that the work is split into at least, where there is enough of it.
const TASKS: usize = 16;

thread_local! {
    static PATCHES: RefCell<Patches> = RefCell::default();
}

/// How the work is split, by the sizes alone.
struct Split {
    /// Images of a set.
    images: usize,
    /// Sets of all images.
    sets: usize,
    /// Chunks of the sets.
    chunks: usize,
    /// Output channels of a task.
    columns: usize,
    /// Elements of one output channel's weight that a task sums.
    rows: usize,
}

impl Split {
    fn new(g: &ConvGeometry) -> Self {
        let area = g.output_area().max(1);
        let images = SET.div_ceil(area).clamp(1, g.batch.max(1));
        let sets = g.batch.div_ceil(images).max(1);
        let column_parts = g.group_outputs().div_ceil(MAX_COLUMNS);
        let columns = g.group_outputs().div_ceil(column_parts).next_multiple_of(SECTION);
        // Few sets leave little to split but the rows.
        let wanted = TASKS.div_ceil(2 * g.groups * column_parts * sets);
        let row_parts = wanted.max((g.depth() * columns).div_ceil(MAX_SUMS));
        let rows = g.depth().div_ceil(row_parts).next_multiple_of(ROWS);
        let tasks = g.groups * column_parts * g.depth().div_ceil(rows);
        let chunks = (sets * images * area).div_ceil(MAX_CHUNK).max(TASKS.div_ceil(tasks));
        Self { images, sets, chunks: chunks.min(sets), columns, rows }
    }
}

/// The gradient of the weight of the convolution `g` of `x`, from the gradient `dy` of its output.
///
/// # Errors
/// When there is no memory for the result.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], g: &ConvGeometry) -> Result<Vec<f32>> {
    assert!(
        x.len() == g.input_count() && dy.len() == g.output_count(),
        "operands of the weight's gradient"
    );
    if lattice_conv::suits_gradient(g) {
        return lattice_gradient::weight_gradient(x, dy, g);
    }
    let split = Split::new(g);
    let plan = PatchPlan::new(g);
    let (count, depth) = (g.weight_count(), g.depth());
    let (row_parts, column_parts) =
        (depth.div_ceil(split.rows), g.group_outputs().div_ceil(split.columns));
    let parts = row_parts * column_parts;
    let scratch = split.rows * PANEL + split.columns * PANEL + split.rows * split.columns;
    let per_chunk = split.sets.div_ceil(split.chunks);
    let work = per_chunk * split.images * g.output_area() * split.rows * split.columns;
    // SAFETY: every element of every chunk's sum belongs to one part of one group.
    let sums = unsafe {
        filled(split.chunks * count, |output| {
            for_each(split.chunks * g.groups * parts, work, |task| {
                let (place, part) = (task / parts, task % parts);
                let (chunk, group) = (place / g.groups, place % g.groups);
                let first_row = part / column_parts * split.rows;
                let first_column = part % column_parts * split.columns;
                let sets =
                    (chunk * split.sets / split.chunks)..((chunk + 1) * split.sets / split.chunks);
                with_scratch(scratch, |scratch| {
                    PATCHES.with_borrow_mut(|patches| {
                        let (panel, rest) = scratch.split_at_mut(split.rows * PANEL);
                        let (turned, sums) = rest.split_at_mut(split.columns * PANEL);
                        let mut part = Part {
                            g,
                            plan: &plan,
                            group,
                            rows: first_row..(first_row + split.rows).min(depth),
                            columns: first_column
                                ..(first_column + split.columns).min(g.group_outputs()),
                            panel,
                            turned,
                            sums,
                            step: split.columns,
                        };
                        part.sums.fill(0.0);
                        part.add_sets(x, dy, &split, sets, patches);
                        part.write(output, chunk * count);
                    });
                });
            });
        })
    }?;
    if split.chunks == 1 {
        return Ok(sums);
    }
    Ok(add_chunks(&sums, count))
}

/// The sum of the chunks, in their order.
pub(super) fn add_chunks(sums: &[f32], count: usize) -> Vec<f32> {
    let (first, rest) = sums.split_at(count);
    let mut total = first.to_vec();
    for chunk in rest.chunks_exact(count) {
        for (total, sum) in total.iter_mut().zip(chunk) {
            *total += sum;
        }
    }
    total
}

/// Some rows (input channels and taps) and columns (output channels) of one group's weight.
struct Part<'a> {
    g: &'a ConvGeometry,
    plan: &'a PatchPlan,
    group: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Patches of a tile: a row of [`PANEL`] positions for each row.
    panel: &'a mut [f32],
    /// Gradients of a tile: for each [`PANEL`] columns, a row of them for each position.
    turned: &'a mut [f32],
    sums: &'a mut [f32],
    /// Sums of one row.
    step: usize,
}

impl Part<'_> {
    /// Adds what the positions of some sets contribute, tile by tile.
    fn add_sets(
        &mut self,
        x: &[f32],
        dy: &[f32],
        split: &Split,
        sets: Range<usize>,
        patches: &mut Patches,
    ) {
        let area = self.g.output_area();
        for start in (0..split.images * area).step_by(PANEL) {
            let mut located = 0;
            for set in sets.clone() {
                let first_image = set * split.images;
                let positions = (self.g.batch - first_image).min(split.images) * area;
                let len = PANEL.min(positions.saturating_sub(start));
                if len == 0 {
                    continue;
                }
                if len != located {
                    patches.locate(self.plan, start, len);
                    located = len;
                }
                dispatch(Tile {
                    g: self.g,
                    plan: self.plan,
                    group: self.group,
                    rows: self.rows.clone(),
                    columns: self.columns.clone(),
                    panel: self.panel,
                    turned: self.turned,
                    sums: self.sums,
                    step: self.step,
                    x,
                    dy,
                    patches,
                    first_image,
                    len,
                });
            }
        }
    }

    /// Writes the sums to their places in the weight that starts at `start` of the output.
    ///
    /// # Safety
    /// No other task may have these rows and columns of this group.
    unsafe fn write(&self, output: &Output, start: usize) {
        let depth = self.g.depth();
        for (i, column) in self.columns.clone().enumerate() {
            let channel = self.group * self.g.group_outputs() + column;
            let start = start + channel * depth + self.rows.start;
            // SAFETY: as the caller.
            unsafe {
                let to = output.part(start, self.rows.len());
                for row in 0..self.rows.len() {
                    to.add(row).write(self.sums[row * self.step + i]);
                }
            }
        }
    }
}

/// Columns of a panel: equal parts of all columns, in whole sections.
fn panel_columns(count: usize) -> usize {
    count.div_ceil(count.div_ceil(PANEL).max(1)).next_multiple_of(SECTION)
}

/// One tile of output positions.
struct Tile<'a> {
    g: &'a ConvGeometry,
    plan: &'a PatchPlan,
    group: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    panel: &'a mut [f32],
    turned: &'a mut [f32],
    sums: &'a mut [f32],
    /// Sums of one row.
    step: usize,
    x: &'a [f32],
    dy: &'a [f32],
    patches: &'a Patches,
    first_image: usize,
    len: usize,
}

impl Tile<'_> {
    /// Start of the rows in the input itself, when the convolution is pointwise and the tile
    /// within one image.
    fn in_place(&self) -> Option<usize> {
        let g = self.g;
        match self.patches.images() {
            [run] if g.rows.is_pointwise() && g.columns.is_pointwise() => {
                let channel = (self.first_image + run.image) * g.in_channels
                    + self.group * g.group_inputs()
                    + self.rows.start;
                Some(channel * g.input_area() + run.position)
            }
            _ => None,
        }
    }

    /// Transposes the gradients of the tile; columns up to the next section are zero.
    #[inline(always)]
    fn turn(&mut self) {
        let (g, count) = (self.g, self.columns.len());
        let panel = panel_columns(count);
        for first in (0..count).step_by(panel) {
            let used = panel.min(count - first);
            let width = used.next_multiple_of(SECTION);
            let to = &mut self.turned[first * PANEL..][..width * PANEL];
            if used < width {
                to[..self.len * width].fill(0.0);
            }
            for &ImageRun { lane, len, image, position } in self.patches.images() {
                let channel = (self.first_image + image) * g.out_channels
                    + self.group * g.group_outputs()
                    + self.columns.start
                    + first;
                let area = g.output_area();
                let from = &self.dy[channel * area + position..][..(used - 1) * area + len];
                let to = &mut to[lane * width..][..(len - 1) * width + used];
                // SAFETY: the slices hold `used` rows of `len` elements and the converse.
                unsafe { transpose(from.as_ptr(), area, [used, len], to.as_mut_ptr(), width) };
            }
        }
    }
}

impl Kernel for Tile<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let g = self.g;
        self.turn();
        let (left, left_step) = match self.in_place() {
            Some(start) => {
                let last = (self.rows.len() - 1) * g.input_area() + self.len;
                (self.x[start..start + last].as_ptr(), g.input_area())
            }
            None => {
                let first_channel =
                    self.first_image * g.in_channels + self.group * g.group_inputs();
                let source = self.x.as_ptr().wrapping_add(first_channel * g.input_area());
                let (first, count) = (self.rows.start, self.rows.len());
                let panel = self.panel.as_mut_ptr();
                // SAFETY: `source` and the panel are as `gather` wants them.
                unsafe { self.patches.gather::<S>(self.plan, source, first, count, panel) };
                (panel.cast_const(), PANEL)
            }
        };
        let count = self.columns.len();
        let panel = panel_columns(count);
        for first in (0..count).step_by(panel) {
            let width = panel.min(count - first).next_multiple_of(SECTION);
            for row in (0..self.rows.len()).step_by(S::ROWS) {
                let rows = S::ROWS.min(self.rows.len() - row);
                for column in (0..width).step_by(3 * S::LANES) {
                    let vectors = ((width - column) / S::LANES).min(3);
                    // SAFETY: rows, columns and their sums lie within what was gathered, turned
                    // and allocated; sums have whole sections of columns.
                    unsafe {
                        let outer = Outer {
                            terms: self.len,
                            left: std::array::from_fn(|r| left.wrapping_add((row + r) * left_step)),
                            right: self.turned.as_ptr().add(first * PANEL + column),
                            right_step: width,
                            sums: self.sums.as_mut_ptr().add(row * self.step + first + column),
                            sums_step: self.step,
                        };
                        add_outer::<S>(outer, rows, vectors);
                    }
                }
            }
        }
    }
}

/// `sums[r][c] += sum over k of left[r][k] * right[k][c]`.
#[derive(Clone, Copy)]
pub(super) struct Outer {
    pub(super) terms: usize,
    /// Terms of each row.
    pub(super) left: [*const f32; 8],
    pub(super) right: *const f32,
    pub(super) right_step: usize,
    pub(super) sums: *mut f32,
    pub(super) sums_step: usize,
}

/// Chooses the code for a number of rows and vectors of columns.
///
/// # Safety
/// The instruction set of `S` must be there, and all rows, columns and sums be valid.
#[inline(always)]
pub(super) unsafe fn add_outer<S: Simd>(outer: Outer, rows: usize, vectors: usize) {
    macro_rules! choose {
        ($($r:literal),*) => {
            match (rows, vectors) {
                $(
                    ($r, 1) => in_registers::<S, $r, 1>(outer),
                    ($r, 2) => in_registers::<S, $r, 2>(outer),
                    ($r, 3) => in_registers::<S, $r, 3>(outer),
                )*
                _ => {}
            }
        };
    }
    // SAFETY: as the caller.
    unsafe { choose!(1, 2, 3, 4, 5, 6, 7, 8) }
}

#[inline(always)]
unsafe fn in_registers<S: Simd, const R: usize, const V: usize>(outer: Outer) {
    // SAFETY: the caller vouches for `R` rows of terms, `V` vectors of columns and their sums.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        let mut right = outer.right;
        for k in 0..outer.terms {
            let mut columns = [S::splat(0.0); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::load(right.add(v * S::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let factor = S::splat(*outer.left[r].add(k));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = S::mul_add(factor, column, *sum);
                }
            }
            right = right.wrapping_add(outer.right_step);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let to = outer.sums.add(r * outer.sums_step + v * S::LANES);
                S::store(to, S::add(S::load(to), *sum));
            }
        }
    }
}
