//! Reconstruction error for every number of channels along an order, in one sweep.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use tensor_core::Result;
use tensor_core::calibrate::{Centred, CentredRows};

use crate::linalg::{
    add_outer_lower, cholesky, divide_by_transpose, forward_substitute, gather, gather_columns,
    gather_rows, inner, mirror_lower, singular,
};
use crate::problem::{CentredStatistics, Problem, Task, check_order};
use crate::reconstruct::check_ridge;

/// Relative least-squares error when only the first `k` channels of `order` are kept, for every
/// `k` from 0 to all of them; the average over the layers of the task.
///
/// One Cholesky factorization of `G` in that order gives all of it: with `L L^T = G + ridge` and
/// `Z = L^-1 R`, the first `p` columns explain `sum_{i < p} |Z_i|^2` of the energy. The values are
/// those of the objective with the ridge term `ridge |W'|^2` and never rise with `k`.
///
/// # Errors
/// When `order` is no permutation of the channels, or the system is singular for this `ridge`
/// (relative to the mean diagonal entry of the centred `G`).
pub fn error_curve(task: &Task, order: &[usize], ridge: f64) -> Result<Vec<f64>> {
    check_ridge(ridge)?;
    check_order(order, task.channels())?;
    let mut curve = vec![0.0; task.channels() + 1];
    let layers = task.weighted().count().max(1) as f64;
    for (problem, scale) in task.weighted() {
        let lambda = problem.absolute_ridge(ridge);
        let explained = match &*problem.statistics {
            CentredStatistics::Primal(s) => from_moments(problem, s, order, lambda)?,
            CentredStatistics::Dual(s) => from_rows(problem, s, order, lambda)?,
        };
        let mut left = problem.energy();
        for (value, step) in curve.iter_mut().zip(explained) {
            left -= step;
            *value += left.max(0.0) * scale / layers;
        }
    }
    Ok(curve)
}

/// Energy explained by the unowned columns, then by each further channel.
fn from_moments(
    problem: &Problem,
    moments: &Centred,
    order: &[usize],
    ridge: f64,
) -> Result<Vec<f64>> {
    let (owned, starts) = problem.columns_in_order(order);
    let fixed = problem.fixed.len();
    let columns: Vec<usize> = problem.fixed.iter().copied().chain(owned).collect();
    let mut gram = gather(moments.gram.as_ref(), &columns, &columns);
    for i in 0..columns.len() {
        gram[(i, i)] += ridge;
    }
    let factor = cholesky(gram.as_ref()).ok_or_else(singular)?;
    drop(gram);
    let mut z = gather_rows(moments.cross.as_ref(), &columns);
    forward_substitute(factor.L(), &mut z);
    let mut per_column = vec![0.0; columns.len()];
    for j in 0..z.ncols() {
        for (sum, v) in per_column.iter_mut().zip(z.col_as_slice(j)) {
            *sum += v * v;
        }
    }
    let mut explained = vec![per_column[..fixed].iter().sum()];
    explained.extend(
        starts.windows(2).map(|w| per_column[fixed + w[0]..fixed + w[1]].iter().sum::<f64>()),
    );
    Ok(explained)
}

/// The same through the samples: `N` projects away from the columns so far, `N Y` is the residual.
fn from_rows(
    problem: &Problem,
    rows: &CentredRows,
    order: &[usize],
    ridge: f64,
) -> Result<Vec<f64>> {
    let samples = rows.x.nrows();
    let mut projection = Mat::<f64>::identity(samples, samples);
    let mut residual = rows.y.clone();
    let blocks = std::iter::once(&problem.fixed).chain(order.iter().map(|&i| &problem.blocks[i]));
    let mut explained = Vec::with_capacity(order.len() + 1);
    for block in blocks {
        let x = gather_columns(rows.x.as_ref(), block);
        let mut step = &projection * &x;
        let mut inner_block = x.transpose() * &step;
        for i in 0..block.len() {
            inner_block[(i, i)] += ridge;
        }
        let factor = cholesky(inner_block.as_ref()).ok_or_else(singular)?;
        let lower = factor.L();
        divide_by_transpose(&mut step, lower);
        let mut q = x.transpose() * &residual;
        forward_substitute(lower, &mut q);
        explained.push(inner(q.as_ref(), q.as_ref()));
        add_outer_lower(projection.as_mut(), step.as_ref(), -1.0);
        mirror_lower(&mut projection);
        matmul(residual.as_mut(), Accum::Add, &step, &q, -1.0, Par::Seq);
    }
    Ok(explained)
}
