//! The product at the heart of all kernels: a few packed rows times one panel of columns.

use super::simd::{SECTION, Simd};

/// Columns of a panel.
pub(super) const PANEL: usize = 48;

/// Sections of a panel.
pub(super) const SECTIONS: usize = PANEL / SECTION;

/// Rows that are packed together.
pub(super) const ROWS: usize = 8;

/// Columns up to which lanes run over rows instead of columns.
const NARROW: usize = 3;

/// Elements behind packed rows that may be read, though they do not count.
pub(super) const LEFT_SLACK: usize = SECTION;

/// Most terms that are summed in one go, so that a panel of them stays in the first cache level.
const MAX_DEPTH: usize = 224;

/// Splits `depth` into equal parts of at most the depth that stays in cache.
///
/// The parts depend on nothing but `depth`, and with them the order of every sum.
pub(super) fn depth_step(depth: usize) -> usize {
    depth.div_ceil(depth.div_ceil(MAX_DEPTH).max(1)).max(1)
}

/// Packs `rows x depth` values for [`multiply`]: blocks of up to [`ROWS`] rows, each stored term
/// by term. The block that starts at row `r` begins at `r * depth`.
pub(super) fn pack_rows(
    rows: usize,
    depth: usize,
    out: &mut [f32],
    at: impl Fn(usize, usize) -> f32,
) {
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        let block = &mut out[first * depth..(first + count) * depth];
        for (k, terms) in block.chunks_exact_mut(count).enumerate() {
            for (r, term) in terms.iter_mut().enumerate() {
                *term = at(first + r, k);
            }
        }
    }
}

/// Operands of [`multiply`].
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Rows, at most [`ROWS`].
    pub(super) rows: usize,
    /// Columns to compute, at most [`PANEL`]; rounded up to whole vectors.
    pub(super) columns: usize,
    /// Terms.
    pub(super) depth: usize,
    /// Packed rows: `rows` values per term, and [`LEFT_SLACK`] readable elements behind them.
    pub(super) left: *const f32,
    /// Elements between the packed rows' terms.
    pub(super) left_step: usize,
    /// Panel: one row of columns per term.
    pub(super) right: *const f32,
    /// Elements between the panel's rows.
    pub(super) right_step: usize,
    /// Sums, one row of [`PANEL`] per row.
    pub(super) sums: *mut f32,
    /// Add to the sums instead of starting from zero.
    pub(super) add: bool,
}

/// `sums (+)= left x right`.
///
/// # Safety
/// The instruction set of `S` must be there, and all pointers valid for the sizes of `Block`,
/// columns rounded up to whole sections and rows followed by [`LEFT_SLACK`] elements.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(block: Block) {
    if block.columns <= NARROW {
        // SAFETY: as the caller.
        return unsafe { multiply_narrow::<S>(block) };
    }
    let step = block.right_step;
    // SAFETY: as the caller.
    unsafe { multiply_rows::<S>(block, |term| term.wrapping_mul(step)) }
}

/// As [`multiply`], with the columns of each term at an offset of their own in place of a step.
///
/// # Safety
/// As there, for `columns` elements at every offset.
#[inline(always)]
pub(super) unsafe fn multiply_at<S: Simd>(block: Block, offsets: &[usize]) {
    assert!(offsets.len() >= block.depth, "an offset for every term");
    // SAFETY: as the caller; there are as many offsets as terms.
    unsafe { multiply_rows::<S>(block, |term| *offsets.get_unchecked(term)) }
}

/// `offset` says where the columns of a term are.
#[inline(always)]
unsafe fn multiply_rows<S: Simd>(block: Block, offset: impl Fn(usize) -> usize + Copy) {
    let vectors = block.columns.div_ceil(S::LANES);
    let mut row = 0;
    while row < block.rows {
        let rows = (block.rows - row).min(S::ROWS);
        let mut vector = 0;
        while vector < vectors {
            let count = (vectors - vector).min(3);
            // SAFETY: offsets stay within the block's rows and columns.
            unsafe {
                let part = Part {
                    depth: block.depth,
                    left: block.left.add(row),
                    left_step: block.left_step,
                    right: block.right.add(vector * S::LANES),
                    sums: block.sums.add(row * PANEL + vector * S::LANES),
                    add: block.add,
                };
                multiply_part::<S>(part, rows, count, offset);
            }
            vector += count;
        }
        row += rows;
    }
}

/// Few columns: each lane sums one row, and each column is summed in four interleaved parts.
#[inline(always)]
unsafe fn multiply_narrow<S: Simd>(block: Block) {
    const PARTS: usize = 4;
    for column in 0..block.columns {
        for row in (0..block.rows).step_by(S::LANES) {
            // SAFETY: lanes past the last row read the next terms or the slack and are not used.
            unsafe {
                let right =
                    |term: usize| S::splat(*block.right.add(term * block.right_step + column));
                let left = |term: usize| S::load(block.left.add(term * block.left_step + row));
                let mut parts = [S::splat(0.0); PARTS];
                let whole = block.depth / PARTS * PARTS;
                for term in (0..whole).step_by(PARTS) {
                    for (i, part) in parts.iter_mut().enumerate() {
                        *part = S::mul_add(right(term + i), left(term + i), *part);
                    }
                }
                for term in whole..block.depth {
                    parts[0] = S::mul_add(right(term), left(term), parts[0]);
                }
                let sum = S::add(S::add(parts[0], parts[1]), S::add(parts[2], parts[3]));
                let mut lanes = [0.0_f32; SECTION];
                S::store(lanes.as_mut_ptr(), sum);
                for (i, value) in lanes.iter().enumerate().take(S::LANES.min(block.rows - row)) {
                    let to = block.sums.add((row + i) * PANEL + column);
                    *to = if block.add { *to + value } else { *value };
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Part {
    depth: usize,
    left: *const f32,
    left_step: usize,
    right: *const f32,
    sums: *mut f32,
    add: bool,
}

/// Chooses the code for a number of rows and vectors.
#[inline(always)]
unsafe fn multiply_part<S: Simd>(
    part: Part,
    rows: usize,
    vectors: usize,
    offset: impl Fn(usize) -> usize,
) {
    macro_rules! choose {
        ($($r:literal),*) => {
            match (rows, vectors) {
                $(
                    ($r, 1) => in_registers::<S, $r, 1>(part, offset),
                    ($r, 2) => in_registers::<S, $r, 2>(part, offset),
                    ($r, 3) => in_registers::<S, $r, 3>(part, offset),
                )*
                _ => {}
            }
        };
    }
    // SAFETY: as the caller.
    unsafe { choose!(1, 2, 3, 4, 5, 6, 7, 8) }
}

/// The sums of `R` rows and `V` vectors of columns, held in registers.
#[inline(always)]
unsafe fn in_registers<S: Simd, const R: usize, const V: usize>(
    part: Part,
    offset: impl Fn(usize) -> usize,
) {
    // SAFETY: the caller vouches for `R` packed rows, `V` vectors of columns and their sums.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        if part.add {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(part.sums.add(r * PANEL + v * S::LANES));
                }
            }
        }
        let mut left = part.left;
        for term in 0..part.depth {
            let right = part.right.wrapping_add(offset(term));
            let mut columns = [S::splat(0.0); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::load(right.add(v * S::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let factor = S::splat(*left.add(r));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = S::mul_add(factor, column, *sum);
                }
            }
            left = left.wrapping_add(part.left_step);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                S::store(part.sums.add(r * PANEL + v * S::LANES), *sum);
            }
        }
    }
}
