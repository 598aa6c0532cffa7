//! Products of the columns of two matrices, summed over rows: what second moments are made of.

use super::block::{Block, LEFT_SLACK, PANEL, ROWS, multiply};
use super::parallel::LINE;
use super::simd::{Kernel, Simd, dispatch};

/// Rows whose products are summed in `f32` before the sum goes on in `f64`.
///
/// The rounding of a sum of `S` rows is then about `0.2 * 2^-24 * BLOCK / sqrt(S)` of it, as the
/// blocks' errors are independent: some 1e-8 for a thousand rows, of either sign. Summed in `f32`
/// throughout it would be a thousand times that, which is where the ridges of least squares lie.
const BLOCK: usize = 64;

/// Elements of a tile of products.
pub const TILE: usize = PANEL * PANEL;

/// A row-major matrix cut into panels of [`ColumnPanels::WIDTH`] columns, the last one filled up with
/// zeros.
#[derive(Debug, Default)]
pub struct ColumnPanels {
    values: Vec<f32>,
    /// Where panels start in `values`, at a cache line.
    start: usize,
    rows: usize,
    columns: usize,
}

impl ColumnPanels {
    /// Columns of a panel.
    pub const WIDTH: usize = PANEL;

    /// Takes other values, `rows x columns` row-major; memory is reused.
    ///
    /// # Panics
    /// When `values` is no whole number of rows.
    pub fn fill(&mut self, values: &[f32], columns: usize) {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "elements of the matrix");
        self.rows = values.len() / columns;
        self.columns = columns;
        self.values.clear();
        self.values.resize(self.count() * self.rows * PANEL + LEFT_SLACK + LINE, 0.0);
        self.start = self.values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        let panels = self.values[self.start..].chunks_exact_mut((self.rows * PANEL).max(1));
        for (first, panel) in (0..columns).step_by(PANEL).zip(panels) {
            let count = PANEL.min(columns - first);
            for (row, to) in values.chunks_exact(columns).zip(panel.chunks_exact_mut(PANEL)) {
                to[..count].copy_from_slice(&row[first..first + count]);
            }
        }
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// A panel, row by row, and slack behind it.
    fn panel(&self, panel: usize) -> &[f32] {
        let size = self.rows * PANEL;
        &self.values[self.start + panel * size..][..size + LEFT_SLACK]
    }

    /// Columns of one panel that are not filling.
    pub fn width(&self, panel: usize) -> usize {
        PANEL.min(self.columns - panel * PANEL)
    }
}

/// Adds `sum_k a[k, i] b[k, j]` to `tile[j * WIDTH + i]` for the columns `i` of one panel of `a` and
/// `j` of one of `b`.
///
/// Products are in `f32` and are summed in `f32` over blocks of 64 rows, above that in `f64`.
/// Each sum depends on its two columns alone, not on their places.
///
/// # Panics
/// When the matrices have different numbers of rows, or a panel does not exist.
pub fn add_products(
    (a, i): (&ColumnPanels, usize),
    (b, j): (&ColumnPanels, usize),
    tile: &mut [f64; TILE],
) {
    assert!(a.rows == b.rows && i < a.count() && j < b.count(), "panels of the product");
    let rows = a.rows;
    dispatch(Tile { right: a.panel(i), left: b.panel(j), width: b.width(j), rows, tile });
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

    #[test]
    fn sums_over_any_number_of_rows() {
        for rows in [1, BLOCK, 3 * BLOCK + 5] {
            let (p, n) = (PANEL + 3, 5);
            let value = |i: usize| ((i * 37 + i * i % 13) % 17) as f32 - 5.0;
            let x: Vec<f32> = (0..rows * p).map(value).collect();
            let y: Vec<f32> = (0..rows * n).map(|i| value(i + 7)).collect();
            let (mut a, mut b) = (ColumnPanels::default(), ColumnPanels::default());
            a.fill(&y, n);
            a.fill(&x, p);
            b.fill(&y, n);
            for panel in 0..a.count() {
                let mut tile = [1.0; TILE];
                add_products((&a, panel), (&b, 0), &mut tile);
                for i in 0..a.width(panel) {
                    for j in 0..n {
                        let at = panel * PANEL + i;
                        let product = |r: usize| f64::from(x[r * p + at] * y[r * n + j]);
                        let sum = 1.0 + (0..rows).map(product).sum::<f64>();
                        assert_eq!(tile[j * PANEL + i], sum, "{rows} rows, [{at}, {j}]");
                    }
                }
            }
        }
    }
}
