//! Products of the columns of two matrices on tiles, each value as the sum of two bfloat16.
//!
//! A value `v` is kept as `h + l` with `h = bf16(v)` and `l = bf16(v - h)`, which is off by at most
//! `2^-17 |v|`. The products of two such sums are four products of bfloat16, all of which are exact
//! in `f32`; so what comes out are the moments of values that differ in the eighteenth bit, and not
//! inexact moments.

use super::convert::{pairs_of, turn, unpaired};
use super::tile::{Blocks, COLUMNS, DEPTH, ROWS, Tiles, multiply};
use rayon::prelude::*;
use std::arch::x86_64::*;

/// Columns of a panel.
const PANEL: usize = super::super::block::PANEL;

/// Tiles side by side in a panel.
const TILES: usize = PANEL / COLUMNS;

/// Pairs of terms in a tile.
const TILE: usize = DEPTH / 2 * COLUMNS;

/// Pairs of one step of [`DEPTH`] rows in a panel: high and low tiles in turn.
const STEP: usize = TILES * 2 * TILE;

/// Steps whose high products are summed in `f32`.
const BLOCK: usize = super::super::products::BLOCK / DEPTH;

/// A row-major matrix in panels of columns, as tiles.
#[derive(Debug)]
pub(in super::super) struct TilePanels {
    /// Tiles of right operands: pair by pair all columns.
    right: Vec<u32>,
    /// Tiles of left operands: column by column all pairs.
    left: Vec<u32>,
    steps: usize,
}

impl TilePanels {
    /// None, where there are no tiles.
    pub(in super::super) fn new() -> Option<Self> {
        super::available().then(|| Self { right: Vec::new(), left: Vec::new(), steps: 0 })
    }

    /// Takes `values - shift`, and adds the columns' sums to `sums`.
    pub(in super::super) fn fill(&mut self, values: &[f32], shift: &[f32], sums: &mut [f64]) {
        let columns = shift.len();
        assert!(sums.len() == columns && values.len().is_multiple_of(columns), "a matrix");
        self.steps = (values.len() / columns).div_ceil(DEPTH).max(1);
        let size = columns.div_ceil(PANEL) * self.steps * STEP;
        for tiles in [&mut self.right, &mut self.left] {
            tiles.resize(size, 0);
        }
        let right = self.right.par_chunks_exact_mut(self.steps * STEP);
        let left = self.left.par_chunks_exact_mut(self.steps * STEP);
        let sums = sums.par_chunks_mut(PANEL);
        right.zip(left).zip(sums).enumerate().for_each(|(panel, ((right, left), sums))| {
            for (tile, sums) in sums.chunks_mut(COLUMNS).enumerate() {
                let first = panel * PANEL + tile * COLUMNS;
                // SAFETY: values of this type exist only where there are tiles.
                unsafe { split(values, shift, first, sums, right, left, tile) };
            }
            let used = sums.len().div_ceil(COLUMNS);
            for step in right.chunks_exact_mut(STEP).chain(left.chunks_exact_mut(STEP)) {
                step[used * 2 * TILE..].fill(0);
            }
        });
    }

    /// Adds the products of the columns of panel `i` with the first `width` ones of panel `j` of
    /// another matrix, as [`add_products`](super::super::add_products).
    pub(in super::super) fn add_products(
        &self,
        i: usize,
        (other, j, width): (&Self, usize, usize),
        sums: &mut [f64],
    ) {
        let steps = self.steps;
        assert!(other.steps == steps && sums.len() == PANEL * PANEL, "matrices of as many rows");
        let right = &self.right[i * steps * STEP..][..steps * STEP];
        let left = &other.left[j * steps * STEP..][..steps * STEP];
        let strips = width.div_ceil(ROWS).min(TILES);
        // SAFETY: values of this type exist only where there are tiles.
        let tiles = unsafe { Tiles::configure(DEPTH) };
        let (mut high, mut low) = (Sums([0.0; PANEL * ROWS]), Sums([0.0; PANEL * PANEL]));
        let blocks = right.chunks(BLOCK * STEP).zip(left.chunks(BLOCK * STEP));
        for (right, left) in blocks {
            let steps = right.len() / STEP;
            for strip in 0..strips {
                let at = |sums: &mut [f32]| Blocks {
                    left: [left[strip * 2 * TILE..].as_ptr().cast(); 2],
                    left_row: DEPTH * size_of::<u16>(),
                    right: right.as_ptr().cast(),
                    right_block: 2 * TILE * size_of::<u32>(),
                    right_row: COLUMNS * size_of::<u32>(),
                    sums: sums.as_mut_ptr().cast(),
                    sums_rows: 0,
                    sums_columns: COLUMNS * size_of::<f32>(),
                    sums_row: PANEL * size_of::<f32>(),
                };
                let rows = strip * ROWS * PANEL..(strip + 1) * ROWS * PANEL;
                // SAFETY: tiles are configured, operands hold all tiles of these steps, and sums a
                // strip of rows.
                unsafe {
                    multiply::<1, TILES, false>(at(&mut high.0), &HIGH[..steps]);
                    multiply::<1, TILES, true>(at(&mut low.0[rows.clone()]), &LOW[..3 * steps]);
                }
                add(&mut sums[rows], &high.0);
            }
        }
        drop(tiles);
        let rows = ..strips * ROWS * PANEL;
        add(&mut sums[rows], &low.0[rows]);
    }
}

/// Sums in `f32`, where tiles are stored.
#[repr(align(64))]
struct Sums<const N: usize>([f32; N]);

/// Where steps of a block find the high parts of both operands, in bytes.
const HIGH: [(usize, usize); BLOCK] = {
    let mut at = [(0, 0); BLOCK];
    let mut step = 0;
    while step < BLOCK {
        let start = step * STEP * size_of::<u32>();
        at[step] = (start, start);
        step += 1;
    }
    at
};

/// Where steps of a block find the other three products. Those are smaller by `2^-8`, so `f32` sums
/// over more rows do them no harm.
const LOW: [(usize, usize); 3 * BLOCK] = {
    let low = TILE * size_of::<u32>();
    let mut at = [(0, 0); 3 * BLOCK];
    let mut step = 0;
    while step < BLOCK {
        let (start, _) = HIGH[step];
        at[3 * step] = (start, start + low);
        at[3 * step + 1] = (start + low, start);
        at[3 * step + 2] = (start + low, start + low);
        step += 1;
    }
    at
};

fn add(sums: &mut [f64], terms: &[f32]) {
    super::super::widest(|| {
        sums.iter_mut().zip(terms).for_each(|(sum, &term)| *sum += f64::from(term));
    });
}

/// Splits up to 16 columns of `values - shift` into one column of tiles of either panel, and adds
/// the columns' sums.
///
/// # Safety
/// The processor must have AVX-512 with BW and BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn split(
    values: &[f32],
    shift: &[f32],
    first: usize,
    sums: &mut [f64],
    right: &mut [u32],
    left: &mut [u32],
    tile: usize,
) {
    let columns = shift.len();
    let (rows, count) = (values.len() / columns, sums.len().min(COLUMNS));
    let mask = ((1_u32 << count) - 1) as u16;
    let shift = &shift[first..first + count];
    let mut totals = [0.0_f64; COLUMNS];
    // SAFETY: lanes outside of the columns are masked.
    let shift = unsafe { _mm512_maskz_loadu_ps(mask, shift.as_ptr()) };
    let row = |row: usize| {
        if row >= rows {
            return _mm512_setzero_ps();
        }
        let values = &values[row * columns + first..][..count];
        // SAFETY: as above.
        let values = unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) };
        _mm512_sub_ps(values, shift)
    };
    let steps = right.chunks_exact_mut(STEP).zip(left.chunks_exact_mut(STEP));
    for (step, (right, left)) in steps.enumerate() {
        let place = tile * 2 * TILE..(tile + 1) * 2 * TILE;
        let (right, left) = (&mut right[place.clone()], &mut left[place]);
        let mut total = [_mm512_setzero_pd(); 2];
        for pair in 0..DEPTH / 2 {
            let values = [row(step * DEPTH + 2 * pair), row(step * DEPTH + 2 * pair + 1)];
            let high = pairs_of(values);
            let [a, b] = unpaired(high);
            let low = pairs_of([_mm512_sub_ps(values[0], a), _mm512_sub_ps(values[1], b)]);
            for (kept, rest) in [a, b].into_iter().zip(unpaired(low)) {
                let kept = _mm512_add_ps(kept, rest);
                let halves = [_mm512_castps512_ps256(kept), upper(kept)];
                for (total, half) in total.iter_mut().zip(halves) {
                    *total = _mm512_add_pd(*total, _mm512_cvtps_pd(half));
                }
            }
            for (part, pairs) in [high, low].into_iter().enumerate() {
                let to = &mut right[part * TILE + pair * COLUMNS..][..COLUMNS];
                // SAFETY: a row of a tile.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs) };
            }
        }
        for (right, left) in right.chunks_exact(TILE).zip(left.chunks_exact_mut(TILE)) {
            // SAFETY: a tile each.
            unsafe { turn(right.as_ptr(), COLUMNS, left.as_mut_ptr()) };
        }
        for (total, totals) in total.into_iter().zip(totals.chunks_exact_mut(8)) {
            // SAFETY: eight lanes.
            unsafe {
                let sum = _mm512_add_pd(_mm512_loadu_pd(totals.as_ptr()), total);
                _mm512_storeu_pd(totals.as_mut_ptr(), sum);
            }
        }
    }
    sums.iter_mut().zip(totals).for_each(|(sum, total)| *sum += total);
}

/// The upper eight lanes.
#[target_feature(enable = "avx512f")]
fn upper(values: __m512) -> __m256 {
    _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(values)))
}
