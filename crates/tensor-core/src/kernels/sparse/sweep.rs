//! One stream of weights times one panel of columns.

use super::super::block::PANEL;
use super::super::simd::Simd;
use super::weight::{QUAD, Stream};

/// Panels that lie side by side.
pub(super) const PANELS: usize = 2;

/// Columns of all panels: elements of one row of them.
pub(super) const WIDTH: usize = PANELS * PANEL;

/// `sums (+)= weights x panel` for one block of `rows` outputs, 1 or [`QUAD`].
///
/// # Safety
/// The instruction set of `S` must be there. At every term of the stream, `panel` must have
/// `columns` readable elements, rounded up to whole vectors, and `sums` as many writable ones in
/// each of `rows` rows that are [`WIDTH`] elements apart.
#[inline(always)]
pub(super) unsafe fn sweep<S: Simd>(
    rows: usize,
    columns: usize,
    stream: &Stream,
    panel: *const f32,
    sums: *mut f32,
    add: bool,
) {
    let vectors = columns.div_ceil(S::LANES);
    let most = most_vectors::<S>(rows);
    let mut vector = 0;
    while vector < vectors {
        let count = (vectors - vector).min(most);
        let shift = vector * S::LANES;
        // SAFETY: vectors lie within the columns, rounded up.
        unsafe {
            let part = Part { stream, panel: panel.add(shift), sums: sums.add(shift), add };
            choose::<S>(part, rows, count);
        }
        vector += count;
    }
}

/// Vectors of columns whose sums fit the registers, beside one vector of columns each for blocks.
fn most_vectors<S: Simd>(rows: usize) -> usize {
    if rows == 1 || S::LANES >= 16 { 6 } else { 3 }
}

#[derive(Clone, Copy)]
struct Part<'a> {
    stream: &'a Stream<'a>,
    panel: *const f32,
    sums: *mut f32,
    add: bool,
}

/// Chooses the code for a number of rows and vectors.
#[inline(always)]
unsafe fn choose<S: Simd>(part: Part, rows: usize, vectors: usize) {
    macro_rules! choose {
        ($($v:literal),*) => {
            match (rows, vectors) {
                $(
                    (1, $v) => in_registers::<S, 1, $v>(part),
                    (QUAD, $v) => in_registers::<S, QUAD, $v>(part),
                )*
                _ => {}
            }
        };
    }
    // SAFETY: as the caller.
    unsafe { choose!(1, 2, 3, 4, 5, 6) }
}

/// The sums of `R` rows and `V` vectors of columns, held in registers.
#[inline(always)]
unsafe fn in_registers<S: Simd, const R: usize, const V: usize>(part: Part) {
    // SAFETY: the caller vouches for `V` vectors of columns at every term, and for the sums.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        if part.add {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(part.sums.add(r * WIDTH + v * S::LANES));
                }
            }
        }
        let weights = part.stream.values.chunks_exact(R);
        for (&term, weights) in part.stream.terms.iter().zip(weights) {
            let row = part.panel.add(term as usize);
            let mut columns = [S::splat(0.0); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::load(row.add(v * S::LANES));
            }
            for (sums, &weight) in sums.iter_mut().zip(weights) {
                let weight = S::splat(weight);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = S::mul_add(weight, column, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                S::store(part.sums.add(r * WIDTH + v * S::LANES), *sum);
            }
        }
    }
}
