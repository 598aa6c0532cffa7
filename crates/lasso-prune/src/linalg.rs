//! Small dense helpers on top of faer.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::solvers::Llt;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::prelude::Solve;
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use rayon::prelude::*;
use tensor_core::Error;

/// `a[rows, columns]` as a new matrix.
pub(crate) fn gather(a: MatRef<'_, f64>, rows: &[usize], columns: &[usize]) -> Mat<f64> {
    filled(rows.len(), columns.len(), |j, column| {
        let source = a.col(columns[j]);
        column.iter_mut().zip(rows).for_each(|(to, &row)| *to = source[row]);
    })
}

/// `a[rows, :]` as a new matrix.
pub(crate) fn gather_rows(a: MatRef<'_, f64>, rows: &[usize]) -> Mat<f64> {
    filled(rows.len(), a.ncols(), |j, column| {
        let source = a.col(j);
        column.iter_mut().zip(rows).for_each(|(to, &row)| *to = source[row]);
    })
}

/// A matrix of which `fill` writes each column, given its index; columns of large matrices in
/// parallel.
fn filled(rows: usize, columns: usize, fill: impl Fn(usize, &mut [f64]) + Sync) -> Mat<f64> {
    let mut out = Mat::zeros(rows, columns);
    fill_from(out.as_mut(), 0, &fill);
    out
}

fn fill_from(mut out: MatMut<'_, f64>, first: usize, fill: &(impl Fn(usize, &mut [f64]) + Sync)) {
    /// Elements that are not worth another task.
    const FEW: usize = 1 << 16;
    let columns = out.ncols();
    if columns > 1 && out.nrows() * columns > FEW {
        let half = columns / 2;
        let (left, right) = out.split_at_col_mut(half);
        rayon::join(|| fill_from(left, first, fill), || fill_from(right, first + half, fill));
        return;
    }
    for j in 0..columns {
        if let Some(column) = out.as_mut().col_mut(j).try_as_col_major_mut() {
            fill(first + j, column.as_slice_mut());
        }
    }
}

/// `a[:, columns]` as a new matrix.
pub(crate) fn gather_columns(a: MatRef<'_, f64>, columns: &[usize]) -> Mat<f64> {
    Mat::from_fn(a.nrows(), columns.len(), |i, j| a[(i, columns[j])])
}

/// `sum_ij a_ij b_ij`.
pub(crate) fn inner(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    (0..a.ncols())
        .map(|j| a.col(j).iter().zip(b.col(j).iter()).map(|(x, y)| x * y).sum::<f64>())
        .sum()
}

/// `sum_ij a_ij^2`.
pub(crate) fn energy(a: MatRef<'_, f64>) -> f64 {
    inner(a, a)
}

/// Adds `alpha a a^T` to the lower triangle of `dst`.
pub(crate) fn add_outer_lower(dst: MatMut<'_, f64>, a: MatRef<'_, f64>, alpha: f64) {
    triangular::matmul(
        dst,
        BlockStructure::TriangularLower,
        Accum::Add,
        a,
        BlockStructure::Rectangular,
        a.transpose(),
        BlockStructure::Rectangular,
        alpha,
        Par::Seq,
    );
}

/// Copies the lower triangle onto the upper one.
pub(crate) fn mirror_lower(a: &mut Mat<f64>) {
    for j in 0..a.ncols() {
        for i in j + 1..a.nrows() {
            a[(j, i)] = a[(i, j)];
        }
    }
}

/// Solves `L x = b` in place for lower-triangular `L`.
pub(crate) fn forward_substitute(lower: MatRef<'_, f64>, b: &mut Mat<f64>) {
    solve_lower_triangular_in_place(lower, b.as_mut(), Par::Seq);
}

/// The Cholesky factorization of `a` (its lower triangle is read), or `None` when `a` is not
/// numerically positive definite.
///
/// A pivot that has lost all its digits to cancellation counts as not positive: the factor would
/// consist of rounding errors from there on.
pub(crate) fn cholesky(a: MatRef<'_, f64>) -> Option<Llt<f64>> {
    let factor = a.llt(Side::Lower).ok()?;
    let tolerance = f64::EPSILON * a.nrows() as f64;
    let healthy = (0..a.nrows()).all(|i| {
        let root = factor.L()[(i, i)];
        root.is_finite() && root * root > tolerance * a[(i, i)]
    });
    healthy.then_some(factor)
}

/// `tr(a^-1 b)` for symmetric `a` and `b`; `None` when `a` is not positive definite.
pub(crate) fn trace_of_quotient(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Option<f64> {
    let factor = a.llt(Side::Lower).ok()?;
    let quotient = factor.solve(b);
    let trace: f64 = (0..quotient.nrows()).map(|i| quotient[(i, i)]).sum();
    trace.is_finite().then_some(trace)
}

/// Rows of a product that one task takes; it does not depend on the number of threads, so the sums do
/// not either.
const PANEL: usize = 256;

/// `dst += alpha a b`, by all threads.
pub(crate) fn add_product(
    dst: MatMut<'_, f64>,
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    alpha: f64,
) {
    let mut parts = Vec::with_capacity(a.nrows().div_ceil(PANEL));
    let mut rest = dst;
    for start in (0..a.nrows()).step_by(PANEL) {
        let height = PANEL.min(a.nrows() - start);
        let (part, tail) = rest.split_at_row_mut(height);
        parts.push((part, a.subrows(start, height)));
        rest = tail;
    }
    parts.into_par_iter().for_each(|(part, a)| matmul(part, Accum::Add, a, b, alpha, Par::Seq));
}

/// Solves `a x = b` for a symmetric positive semi-definite `a`.
///
/// By Cholesky, and where `a` is singular by the pseudo-inverse from its eigenvalues, with
/// eigenvalues below `p eps` times the largest taken as zero. Returns `None` only when the
/// eigenvalue iteration fails, which needs non-finite input.
pub(crate) fn solve_semidefinite(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Option<Mat<f64>> {
    if let Some(factor) = cholesky(a) {
        return Some(factor.solve(b));
    }
    let eigen = a.self_adjoint_eigen(Side::Lower).ok()?;
    let values: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let largest = values.last().copied().unwrap_or(0.0);
    let cutoff = largest * f64::EPSILON * a.nrows() as f64;
    let mut projected = eigen.U().transpose() * b;
    for (i, &value) in values.iter().enumerate() {
        let scale = if value > cutoff { 1.0 / value } else { 0.0 };
        for j in 0..projected.ncols() {
            projected[(i, j)] *= scale;
        }
    }
    Some(eigen.U() * projected)
}

/// A matrix that should be positive definite is not, even with its ridge.
pub(crate) fn singular() -> Error {
    Error::invalid("the statistics of the layer are singular")
        .hint("collect more calibration rows, or such that differ more; in the library a larger ridge helps too")
}

/// Replaces `a` by `a L^-T` for lower-triangular `L`; a few columns at a time are meant.
pub(crate) fn divide_by_transpose(a: &mut Mat<f64>, lower: MatRef<'_, f64>) {
    for t in 0..lower.nrows() {
        for s in 0..t {
            let factor = lower[(t, s)];
            let (done, rest) = a.as_mut().split_at_col_mut(t);
            for (x, y) in rest.col_mut(0).iter_mut().zip(done.col(s).iter()) {
                *x -= factor * y;
            }
        }
        let scale = 1.0 / lower[(t, t)];
        for x in a.col_as_slice_mut(t) {
            *x *= scale;
        }
    }
}
