//! Products of the columns of two matrices, summed over rows: what second moments are made of.

use super::block::{Block, LEFT_SLACK, PANEL, ROWS, multiply};
use super::parallel::LINE;
use super::simd::{Kernel, Simd, dispatch};
use super::tiles::TilePanels;
use super::widest::widest;
use rayon::prelude::*;

/// Rows whose products are summed in `f32` before the sum goes on in `f64`.
///
/// The rounding of a sum of `S` rows is then about `0.2 * 2^-24 * BLOCK / sqrt(S)` of it, as the
/// blocks' errors are independent: some 1e-8 for a thousand rows, of either sign. Summed in `f32`
/// throughout it would be a thousand times that, which is where the ridges of least squares lie.
pub(super) const BLOCK: usize = 64;

/// Elements of a tile of products.
pub const TILE: usize = PANEL * PANEL;

/// A row-major matrix less a row, cut into panels of [`ColumnPanels::WIDTH`] columns.
///
/// On processors with bfloat16 tiles (AMX) values are rounded to 17 bits of significand or more: the
/// moments are then those of values that differ so little, and are made in half the time.
#[derive(Debug)]
pub struct ColumnPanels {
    form: Form,
    columns: usize,
}

#[derive(Debug)]
enum Form {
    Tiles(TilePanels),
    Values(ValuePanels),
}

impl Default for ColumnPanels {
    fn default() -> Self {
        let tiles = TilePanels::new().map(Form::Tiles);
        Self::of(tiles.unwrap_or_else(|| Form::Values(ValuePanels::default())))
    }
}

impl ColumnPanels {
    /// Columns of a panel.
    pub const WIDTH: usize = PANEL;

    fn of(form: Form) -> Self {
        Self { form, columns: 0 }
    }

    /// Takes other values, `values - shift` with `values` row-major and `shift` the length of a row,
    /// and adds the columns' sums to `sums`; memory is reused.
    ///
    /// # Panics
    /// When `values` is no whole number of rows, or `sums` no row.
    pub fn fill(&mut self, values: &[f32], shift: &[f32], sums: &mut [f64]) {
        self.columns = shift.len();
        match &mut self.form {
            Form::Tiles(panels) => panels.fill(values, shift, sums),
            Form::Values(panels) => panels.fill(values, shift, sums),
        }
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Columns of one panel that exist.
    pub fn width(&self, panel: usize) -> usize {
        PANEL.min(self.columns - panel * PANEL)
    }
}

/// Panels of `f32`, the last one filled up with zeros.
#[derive(Debug, Default)]
struct ValuePanels {
    values: Vec<f32>,
    /// Where panels start in `values`, at a cache line.
    start: usize,
    rows: usize,
}

impl ValuePanels {
    fn fill(&mut self, values: &[f32], shift: &[f32], sums: &mut [f64]) {
        let columns = shift.len();
        assert!(sums.len() == columns && values.len().is_multiple_of(columns), "a matrix");
        self.rows = values.len() / columns;
        let size = columns.div_ceil(PANEL) * self.rows * PANEL;
        self.values.clear();
        self.values.resize(size + LEFT_SLACK + LINE, 0.0);
        self.start = self.values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        let panels = self.values[self.start..][..size].par_chunks_exact_mut(self.rows * PANEL);
        panels.zip(sums.par_chunks_mut(PANEL)).enumerate().for_each(|(panel, (to, sums))| {
            let (first, count) = (panel * PANEL, sums.len());
            widest(|| {
                for (row, to) in values.chunks_exact(columns).zip(to.chunks_exact_mut(PANEL)) {
                    let shifted = row[first..][..count].iter().zip(&shift[first..]);
                    for ((to, sum), (v, shift)) in to.iter_mut().zip(&mut *sums).zip(shifted) {
                        *to = v - shift;
                        *sum += f64::from(*to);
                    }
                }
            });
        });
    }

    /// A panel, row by row, and slack behind it.
    fn panel(&self, panel: usize) -> &[f32] {
        let size = self.rows * PANEL;
        &self.values[self.start + panel * size..][..size + LEFT_SLACK]
    }
}

/// Adds `sum_k a[k, i] b[k, j]` to `tile[j * WIDTH + i]` for the columns `i` of one panel of `a` and
/// `j` of one of `b`.
///
/// Products are in `f32` and are summed in `f32` over blocks of 64 rows, above that in `f64`; on tiles
/// those with a lower part, which are `2^-8` of the others, are summed in `f32` over all rows.
/// Each sum depends on its two columns alone, not on their places.
///
/// # Panics
/// When the matrices have different numbers of rows, or a panel does not exist.
pub fn add_products(
    (a, i): (&ColumnPanels, usize),
    (b, j): (&ColumnPanels, usize),
    tile: &mut [f64; TILE],
) {
    assert!(i < a.count() && j < b.count(), "panels of the product");
    let width = b.width(j);
    match (&a.form, &b.form) {
        (Form::Tiles(a), Form::Tiles(b)) => a.add_products(i, (b, j, width), tile),
        (Form::Values(a), Form::Values(b)) => {
            assert!(a.rows == b.rows, "matrices of as many rows");
            let (right, left) = (a.panel(i), b.panel(j));
            dispatch(Tile { right, left, width, rows: a.rows, tile });
        }
        _ => unreachable!("all panels of a processor have one form"),
    }
}

struct Tile<'a> {
    right: &'a [f32],
    left: &'a [f32],
    width: usize,
    rows: usize,
    tile: &'a mut [f64; TILE],
}

impl Kernel for Tile<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut sums = [0.0_f32; ROWS * PANEL];
        // One block of both panels and the tile fit the first cache level.
        for start in (0..self.rows).step_by(BLOCK) {
            let depth = BLOCK.min(self.rows - start);
            let right = &self.right[start * PANEL..][..depth * PANEL];
            for column in (0..self.width).step_by(ROWS) {
                let left = &self.left[start * PANEL + column..][..(depth - 1) * PANEL + ROWS];
                // SAFETY: both slices hold `depth` rows; behind the left one is at least the slack.
                unsafe {
                    multiply::<S>(Block {
                        rows: ROWS,
                        columns: PANEL,
                        depth,
                        left: left.as_ptr(),
                        left_step: PANEL,
                        right: right.as_ptr(),
                        right_step: PANEL,
                        sums: sums.as_mut_ptr(),
                        add: false,
                    });
                }
                let to = &mut self.tile[column * PANEL..][..ROWS * PANEL];
                to.iter_mut().zip(&sums).for_each(|(to, sum)| *to += f64::from(*sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms() -> Vec<fn() -> ColumnPanels> {
        vec![ColumnPanels::default, || ColumnPanels::of(Form::Values(ValuePanels::default()))]
    }

    /// Small integers and a shift by a half: all products and sums are exact in either form.
    #[test]
    fn sums_over_any_number_of_rows() {
        for (form, rows) in
            forms().into_iter().flat_map(|f| [1, BLOCK, 3 * BLOCK + 5].map(|r| (f, r)))
        {
            let (p, n) = (PANEL + 3, 5);
            let value = |i: usize| ((i * 37 + i * i % 13) % 17) as f32 - 5.0;
            let x: Vec<f32> = (0..rows * p).map(value).collect();
            let y: Vec<f32> = (0..rows * n).map(|i| value(i + 7)).collect();
            let (shift_x, shift_y) = (vec![0.5; p], vec![-1.5; n]);
            let (mut a, mut b) = (form(), form());
            a.fill(&y, &shift_y, &mut vec![0.0; n]);
            let mut sums = vec![2.0; p];
            a.fill(&x, &shift_x, &mut sums);
            b.fill(&y, &shift_y, &mut vec![0.0; n]);
            let shifted = |r: usize, at: usize| f64::from(x[r * p + at]) - 0.5;
            for at in [0, 17, PANEL, p - 1] {
                assert_eq!(sums[at], 2.0 + (0..rows).map(|r| shifted(r, at)).sum::<f64>());
            }
            for panel in 0..a.count() {
                let mut tile = [1.0; TILE];
                add_products((&a, panel), (&b, 0), &mut tile);
                for i in 0..a.width(panel) {
                    for j in 0..n {
                        let at = panel * PANEL + i;
                        let product = |r: usize| shifted(r, at) * (f64::from(y[r * n + j]) + 1.5);
                        let sum = 1.0 + (0..rows).map(product).sum::<f64>();
                        assert_eq!(tile[j * PANEL + i], sum, "{rows} rows, [{at}, {j}]");
                    }
                }
            }
        }
    }

    /// A lower part that is nearly as large as it gets and never changes its sign: without the products
    /// of lower parts the sum would be short by more than `2^-17` of it.
    #[test]
    fn products_of_lower_parts_count() {
        let (rows, value) = (3 * BLOCK, 1.0 + 7.0 * 2.0_f32.powi(-11));
        let mut panels = ColumnPanels::default();
        panels.fill(&vec![value; rows], &[0.0], &mut [0.0]);
        let mut tile = [0.0; TILE];
        add_products((&panels, 0), (&panels, 0), &mut tile);
        let sum = rows as f64 * f64::from(value).powi(2);
        assert!((tile[0] - sum).abs() <= 2.0_f64.powi(-20) * sum, "{} for {sum}", tile[0]);
    }

    /// All bits of the significand: tiles lose those behind the seventeenth and no others.
    #[test]
    fn tiles_keep_seventeen_bits() {
        let (rows, p) = (200, PANEL + 3);
        let x: Vec<f32> = (0..rows * p).map(|i| (i as f32 * 0.37).sin()).collect();
        let shift = vec![0.0; p];
        let mut panels = ColumnPanels::default();
        panels.fill(&x, &shift, &mut vec![0.0; p]);
        for (i, j) in [(0, 0), (1, 0), (1, 1)] {
            let mut tile = [0.0; TILE];
            add_products((&panels, i), (&panels, j), &mut tile);
            for (a, b) in [(0, 0), (1, 2), (2, 1)] {
                let (at, other) = (i * PANEL + a, j * PANEL + b);
                let product = |r: usize| f64::from(x[r * p + at]) * f64::from(x[r * p + other]);
                let (sum, size) =
                    (0..rows).map(product).fold((0.0, 0.0), |(s, z), v| (s + v, z + v.abs()));
                let error = (tile[b * PANEL + a] - sum).abs();
                assert!(error <= size * 2.0_f64.powi(-17), "[{at}, {other}] is off by {error}");
            }
        }
    }
}
