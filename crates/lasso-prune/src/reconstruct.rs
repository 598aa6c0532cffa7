//! Least-squares reconstruction of the responses from the kept channels.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use tensor_core::calibrate::{Centred, CentredRows};
use tensor_core::{Error, Result};

use crate::linalg::{
    add_outer_lower, energy, gather, gather_columns, gather_rows, inner, mirror_lower, singular,
    solve_semidefinite,
};
use crate::problem::{CentredStatistics, Problem, membership};

/// New weights of a layer that reads only the kept channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconstruction {
    /// The kept columns of `X`, ascending: those of the kept channels and those nobody owns.
    pub columns: Vec<usize>,
    /// `W'`, `n x columns.len()` row-major.
    pub weight: Vec<f32>,
    /// The intercept, length `n`. Since `Y` is taken before the bias, the new bias is the old bias
    /// plus this.
    pub intercept: Vec<f32>,
    /// Squared error on the sample over the energy of the centred responses; zero when the
    /// responses do not vary.
    pub relative_error: f64,
}

/// Solves `min |Y - X_K W'^T - 1 b^T|^2 + ridge |W' - W_K|^2` over `W'` and `b` (the `W` step of He
/// et al. 2017, with an intercept).
///
/// `kept` are channels in any order; `ridge` is relative to the mean diagonal entry of the centred
/// `G`. The ridge pulls towards the original weights, so a direction that the sample does not
/// excite keeps them, and with all channels kept and `Y = X W^T` the original weights come back.
/// A singular system (with `ridge` zero) is solved by its pseudo-inverse.
///
/// # Errors
/// When a channel is out of range or named twice, the ridge is not a finite number >= 0, or the
/// statistics are not finite.
pub fn reconstruct(problem: &Problem, kept: &[usize], ridge: f64) -> Result<Reconstruction> {
    check_ridge(ridge)?;
    membership(kept, problem.channels())?;
    let columns = problem.kept_columns(kept);
    let (weight, error) = solve(problem, &columns, ridge)?;
    let mean_x: Vec<f64> = columns.iter().map(|&c| problem.mean_x()[c]).collect();
    let (p, n) = (columns.len(), problem.outputs());
    let mut flat = Vec::with_capacity(p * n);
    let mut intercept = Vec::with_capacity(n);
    for o in 0..n {
        let row = weight.col_as_slice(o);
        flat.extend(row.iter().map(|&w| w as f32));
        let shift: f64 = row.iter().zip(&mean_x).map(|(w, m)| w * m).sum();
        intercept.push((problem.mean_y()[o] - shift) as f32);
    }
    if flat.iter().chain(&intercept).any(|v| !v.is_finite()) {
        return Err(singular());
    }
    let total = problem.energy();
    let relative_error = if total > 0.0 { error.max(0.0) / total } else { 0.0 };
    Ok(Reconstruction { columns, weight: flat, intercept, relative_error })
}

pub(crate) fn check_ridge(ridge: f64) -> Result<()> {
    if !(ridge >= 0.0 && ridge.is_finite()) {
        return Err(Error::invalid(format!("the ridge is {ridge}"))
            .hint("give a small number such as 1e-6"));
    }
    Ok(())
}

/// The new weights of the given columns as `columns x n`, and the squared error on the sample.
pub(crate) fn solve(problem: &Problem, columns: &[usize], ridge: f64) -> Result<(Mat<f64>, f64)> {
    let lambda = problem.absolute_ridge(ridge);
    match &problem.statistics {
        CentredStatistics::Primal(s) => from_moments(problem, s, columns, lambda),
        CentredStatistics::Dual(s) => from_rows(problem, s, columns, lambda),
    }
}

fn from_moments(
    problem: &Problem,
    moments: &Centred,
    columns: &[usize],
    ridge: f64,
) -> Result<(Mat<f64>, f64)> {
    let gram = gather(moments.gram.as_ref(), columns, columns);
    let cross = gather_rows(moments.cross.as_ref(), columns);
    let weight = gather_rows(problem.weight.as_ref(), columns);
    solve_primal(gram, &cross, weight, moments.energy, ridge)
}

fn solve_primal(
    mut gram: Mat<f64>,
    cross: &Mat<f64>,
    mut weight: Mat<f64>,
    total: f64,
    ridge: f64,
) -> Result<(Mat<f64>, f64)> {
    let predicted = &gram * &weight;
    let before = total - 2.0 * inner(weight.as_ref(), cross.as_ref())
        + inner(weight.as_ref(), predicted.as_ref());
    let gradient = cross - predicted;
    for i in 0..gram.nrows() {
        gram[(i, i)] += ridge;
    }
    let change = solve_semidefinite(gram.as_ref(), gradient.as_ref()).ok_or_else(singular)?;
    // With (G + ridge) D = gradient the error falls by <D, gradient> + ridge |D|^2.
    let error =
        before - inner(change.as_ref(), gradient.as_ref()) - ridge * energy(change.as_ref());
    weight += change;
    Ok((weight, error))
}

fn from_rows(
    problem: &Problem,
    rows: &CentredRows,
    columns: &[usize],
    ridge: f64,
) -> Result<(Mat<f64>, f64)> {
    let x = gather_columns(rows.x.as_ref(), columns);
    let mut weight = gather_rows(problem.weight.as_ref(), columns);
    if columns.len() <= x.nrows() {
        let gram = outer(x.transpose());
        let cross = x.transpose() * &rows.y;
        return solve_primal(gram, &cross, weight, rows.energy, ridge);
    }
    let mut residual = rows.y.clone();
    matmul(residual.as_mut(), Accum::Add, &x, &weight, -1.0, Par::Seq);
    let mut kernel = outer(x.as_ref());
    for i in 0..kernel.nrows() {
        kernel[(i, i)] += ridge;
    }
    let dual = solve_semidefinite(kernel.as_ref(), residual.as_ref()).ok_or_else(singular)?;
    let change = x.transpose() * dual;
    matmul(residual.as_mut(), Accum::Add, &x, &change, -1.0, Par::Seq);
    weight += change;
    Ok((weight, energy(residual.as_ref())))
}

/// `a a^T`.
fn outer(a: MatRef<'_, f64>) -> Mat<f64> {
    let mut product = Mat::zeros(a.nrows(), a.nrows());
    add_outer_lower(product.as_mut(), a, 1.0);
    mirror_lower(&mut product);
    product
}
