//! Exchange of single channels while the reconstruction error falls.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::DenseSolveCore;
use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use faer::{Accum, Mat, Par};
use tensor_core::Result;
use tensor_core::calibrate::Centred;

use crate::linalg::{
    add_outer_lower, cholesky, forward_substitute, gather, gather_rows, mirror_lower, singular,
};
use crate::obs::Blocks;
use crate::problem::{CentredStatistics, Problem, Task, membership};
use crate::reconstruct::check_ridge;

/// An exchange has to lower the error by this share to count, so that rounding cannot make the
/// search run in circles.
const PROGRESS: f64 = 1e-9;

/// Improves a selection: adds the channel that lowers the least-squares error most, removes the one
/// whose removal then raises it least, and goes on while the error falls, `limit` times at most.
///
/// The objective is (1) of the crate documentation, exact and with refitted weights; the result has
/// as many channels as `kept`, ascending, and no larger error. A task with a layer whose statistics
/// are rows instead of moments is returned as it is.
///
/// # Errors
/// When `kept` names a channel twice or one that does not exist, or the statistics are singular for
/// this `ridge` (relative to the mean diagonal entry of the centred `G`).
pub fn exchange(task: &Task, kept: &[usize], ridge: f64, limit: usize) -> Result<Vec<usize>> {
    check_ridge(ridge)?;
    let mut is_kept = task.membership(kept)?;
    let selection = |is_kept: &[bool]| (0..is_kept.len()).filter(|&i| is_kept[i]).collect();
    if limit == 0 || kept.is_empty() || kept.len() == task.channels() {
        return Ok(selection(&is_kept));
    }
    let mut layers = Vec::new();
    for (problem, weight) in task.weighted() {
        let CentredStatistics::Primal(moments) = &*problem.statistics else {
            return Ok(selection(&is_kept));
        };
        layers.push((Tableau::new(problem, moments, kept, ridge)?, weight));
    }
    let value = |layers: &[(Tableau, f64)], i: usize| -> f64 {
        layers.iter().map(|(tableau, weight)| weight * tableau.blocks.cost(i)).sum()
    };
    for _ in 0..limit {
        let outside = (0..is_kept.len()).filter(|&i| !is_kept[i]).map(|i| (value(&layers, i), i));
        // Without a ridge a channel can be a combination of the kept ones and has nothing to gain.
        let outside = outside.filter(|(gain, _)| gain.is_finite());
        let Some((gain, enters)) = outside.min_by(|a, b| b.0.total_cmp(&a.0)) else { break };
        for (tableau, _) in &mut layers {
            tableau.pivot(enters, true)?;
        }
        is_kept[enters] = true;
        let inside = (0..is_kept.len()).filter(|&i| is_kept[i]).map(|i| (value(&layers, i), i));
        let Some((cost, leaves)) = inside.min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
        if cost >= gain * (1.0 - PROGRESS) {
            is_kept[enters] = false;
            break;
        }
        for (tableau, _) in &mut layers {
            tableau.pivot(leaves, false)?;
        }
        is_kept[leaves] = false;
    }
    Ok(selection(&is_kept))
}

/// The symmetric sweep tableau (Goodnight 1979) of `H = G + ridge` and `R`, swept on the kept
/// columns `K`:
///
/// ```text
/// matrix   [ -H_KK^-1        H_KK^-1 H_KJ                ]    response  [ W_K              ]
///          [ symmetric       H_JJ - H_JK H_KK^-1 H_KJ    ]              [ R_J - H_JK W_K   ]
/// ```
///
/// Adding channel `i` lowers the error by `tr(C_i^-1 V_i)` with its diagonal block `C_i` and the
/// products `V_i` of its response rows; removing it raises the error by the same expression with
/// the sign of `C_i` changed.
struct Tableau {
    /// Lower triangle.
    matrix: Mat<f64>,
    response: Mat<f64>,
    /// Columns of every channel in the tableau.
    columns: Vec<Vec<usize>>,
    is_kept: Vec<bool>,
    blocks: Blocks,
}

impl Tableau {
    fn new(problem: &Problem, moments: &Centred, kept: &[usize], ridge: f64) -> Result<Self> {
        // Unowned and kept columns first, so that the first sweep is on a leading block.
        let is_kept = membership(kept, problem.channels())?;
        let others = (0..problem.channels()).filter(|&i| !is_kept[i]);
        let order: Vec<usize> = kept.iter().copied().chain(others).collect();
        let (owned, starts) = problem.columns_in_order(&order);
        let fixed = problem.fixed.len();
        let all: Vec<usize> = problem.fixed.iter().copied().chain(owned).collect();
        let mut columns = vec![Vec::new(); problem.channels()];
        for (&channel, w) in order.iter().zip(starts.windows(2)) {
            columns[channel] = (fixed + w[0]..fixed + w[1]).collect();
        }
        let mut matrix = gather(moments.gram.as_ref(), &all, &all);
        let lambda = problem.absolute_ridge(ridge);
        for i in 0..all.len() {
            matrix[(i, i)] += lambda;
        }
        let mut tableau = Self {
            matrix,
            response: gather_rows(moments.cross.as_ref(), &all),
            is_kept,
            blocks: Blocks::new(columns.iter().map(Vec::len).collect()),
            columns,
        };
        tableau.sweep_leading(fixed + starts[kept.len()])?;
        tableau.reset_blocks();
        Ok(tableau)
    }

    /// Sweeps on the first `k` columns of a matrix of which both triangles are filled.
    fn sweep_leading(&mut self, k: usize) -> Result<()> {
        let factor = cholesky(self.matrix.submatrix(0, 0, k, k)).ok_or_else(singular)?;
        let lower = factor.L();
        let (mut own, others) = self.response.split_at_row_mut(k);
        let mut solved = own.to_owned();
        let rest = self.matrix.ncols() - k;
        let mut right = self.matrix.submatrix(0, k, k, rest).to_owned();
        forward_substitute(lower, &mut right);
        forward_substitute(lower, &mut solved);
        let schur = self.matrix.submatrix_mut(k, k, rest, rest);
        let eliminate = || {
            add_outer_lower(schur, right.transpose(), -1.0);
            matmul(others, Accum::Add, right.transpose(), &solved, -1.0, Par::Seq);
            for side in [&mut right, &mut solved] {
                solve_upper_triangular_in_place(lower.transpose(), side.as_mut(), Par::Seq);
            }
        };
        let (inverse, ()) = rayon::join(|| factor.inverse() * faer::Scale(-1.0), eliminate);
        own.copy_from(&solved);
        self.matrix.submatrix_mut(k, 0, rest, k).copy_from(right.transpose());
        self.matrix.submatrix_mut(0, 0, k, k).copy_from(&inverse);
        Ok(())
    }

    /// Moves a channel into (`enters`) or out of the kept ones.
    fn pivot(&mut self, channel: usize, enters: bool) -> Result<()> {
        let columns = std::mem::take(&mut self.columns[channel]);
        self.sweep(&columns, if enters { 1.0 } else { -1.0 })?;
        self.columns[channel] = columns;
        self.is_kept[channel] = enters;
        self.reset_blocks();
        Ok(())
    }

    fn reset_blocks(&mut self) {
        for (i, columns) in self.columns.iter().enumerate() {
            let Some(&at) = columns.first() else { continue };
            let k = columns.len();
            let sign = if self.is_kept[i] { -1.0 } else { 1.0 };
            let block = self.matrix.submatrix(at, at, k, k) * faer::Scale(sign);
            let response = self.response.subrows(at, k);
            let mut products = Mat::zeros(k, k);
            let (lhs, rhs) = (response, response.transpose());
            matmul(products.as_mut(), Accum::Replace, lhs, rhs, 1.0, Par::Seq);
            self.blocks.set(i, block.as_ref(), products.as_ref());
        }
    }

    /// Sweeps on some columns (`sign` 1), or undoes it (`sign` -1).
    fn sweep(&mut self, pivots: &[usize], sign: f64) -> Result<()> {
        if pivots.is_empty() {
            return Ok(());
        }
        let (p, k) = (self.matrix.nrows(), pivots.len());
        let at = |i: usize, j: usize| self.matrix[(i.max(j), i.min(j))];
        let mut rows = Mat::from_fn(k, p, |t, j| at(pivots[t], j));
        let block = Mat::from_fn(k, k, |s, t| sign * at(pivots[s], pivots[t]));
        let factor = cholesky(block.as_ref()).ok_or_else(singular)?;
        let lower = factor.L();
        forward_substitute(lower, &mut rows);
        let mut own = gather_rows(self.response.as_ref(), pivots);
        forward_substitute(lower, &mut own);
        add_outer_lower(self.matrix.as_mut(), rows.transpose(), -sign);
        matmul(self.response.as_mut(), Accum::Add, rows.transpose(), &own, -sign, Par::Seq);

        let mut inverse = Mat::identity(k, k);
        forward_substitute(lower, &mut inverse);
        for right in [&mut rows, &mut own, &mut inverse] {
            solve_upper_triangular_in_place(lower.transpose(), right.as_mut(), Par::Seq);
        }
        for (t, &pivot) in pivots.iter().enumerate() {
            for j in 0..p {
                self.matrix[(pivot.max(j), pivot.min(j))] = rows[(t, j)];
            }
            for o in 0..own.ncols() {
                self.response[(pivot, o)] = own[(t, o)];
            }
        }
        mirror_lower(&mut inverse);
        for (s, &a) in pivots.iter().enumerate() {
            for (t, &b) in pivots.iter().enumerate() {
                self.matrix[(a.max(b), a.min(b))] = -sign * inverse[(s, t)];
            }
        }
        Ok(())
    }
}
