//! Products of columns, one panel of the result at a time.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatMut, MatRef, Par};

use crate::kernels::{ColumnPanels, TILE, add_products};

/// Splits a matrix into column panels with the index of their first column.
pub(super) fn panels_of(mut rest: MatMut<'_, f64>, width: usize) -> Vec<(usize, MatMut<'_, f64>)> {
    let mut out = Vec::new();
    let mut start = 0;
    while rest.ncols() > 0 {
        let width = rest.ncols().min(width);
        let (panel, tail) = rest.split_at_col_mut(width);
        out.push((start, panel));
        start += width;
        rest = tail;
    }
    out
}

/// Adds `X^T b`, from panel `first` of `X` on, to one column panel; `b` is a panel of columns.
pub(super) fn add_panel(
    mut panel: MatMut<'_, f64>,
    x: &ColumnPanels,
    b: (&ColumnPanels, usize),
    first: usize,
) {
    for i in first..x.count() {
        let mut tile = [0.0; TILE];
        add_products((x, i), b, &mut tile);
        for (sums, tile) in panel.as_mut().col_iter_mut().zip(tile.chunks(ColumnPanels::WIDTH)) {
            let sums = sums.subrows_mut(i * ColumnPanels::WIDTH, x.width(i));
            sums.iter_mut().zip(tile).for_each(|(sum, v)| *sum += v);
        }
    }
}

/// Adds `X^T X[:, start..]` to the part of a column panel that lies on or below the diagonal.
pub(super) fn add_gram_panel(panel: MatMut<'_, f64>, x: MatRef<'_, f64>, start: usize) {
    let width = panel.ncols();
    let columns = x.subcols(start, width);
    let (diagonal, below) = panel.split_at_row_mut(start).1.split_at_row_mut(width);
    triangular::matmul(
        diagonal,
        BlockStructure::TriangularLower,
        Accum::Add,
        columns.transpose(),
        BlockStructure::Rectangular,
        columns,
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
    let rest = x.subcols(start + width, below.nrows());
    matmul(below, Accum::Add, rest.transpose(), columns, 1.0, Par::Seq);
}

/// Copies the lower triangle onto the upper one, tile by tile to stay in the cache.
pub(super) fn mirror_lower(a: &mut Mat<f64>) {
    const TILE: usize = 32;
    let p = a.nrows();
    for j0 in (0..p).step_by(TILE) {
        for i0 in (j0..p).step_by(TILE) {
            for j in j0..(j0 + TILE).min(p) {
                for i in i0.max(j + 1)..(i0 + TILE).min(p) {
                    a[(j, i)] = a[(i, j)];
                }
            }
        }
    }
}
