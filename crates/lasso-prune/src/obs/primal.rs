//! Elimination on the inverse Hessian itself.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::DenseSolveCore;
use faer::prelude::Solve;
use faer::{Accum, Mat, MatRef, Par};
use tensor_core::Result;
use tensor_core::calibrate::{Centred, CentredRows};

use super::Eliminator;
use super::blocks::Blocks;
use crate::linalg::{
    add_outer_lower, cholesky, divide_by_transpose, forward_substitute, gather, gather_columns,
    gather_rows, inner, singular,
};
use crate::problem::Problem;

/// Columns of the update that are gathered before they are applied to the inverse: the whole
/// matrix passes through memory once per this many removed columns.
const PENDING: usize = 128;

/// Storage is compacted when this share of its rows is still in use.
const COMPACT_BELOW: f64 = 0.85;

/// `B = base - U U^T` is the inverse Hessian of the remaining columns and `W = weight - U Q` their
/// best weights (as columns times outputs).
pub(super) struct State {
    objective: f64,
    blocks: Blocks,
    /// First row of every channel in the matrices below.
    offsets: Vec<usize>,
    /// The inverse at the last flush, lower triangle.
    base: Mat<f64>,
    /// The weights at the last flush.
    weight: Mat<f64>,
    /// `U`; the first `pending` columns are in use.
    factor: Mat<f64>,
    /// `Q^T`, `n x` columns of `U`.
    coefficients: Mat<f64>,
    pending: usize,
}

impl State {
    /// The state with all channels of a problem.
    pub(super) fn new(problem: &Problem, moments: &Centred, ridge: f64) -> Result<Self> {
        let channels: Vec<usize> = (0..problem.channels()).collect();
        let (mut columns, mut offsets) = problem.columns_in_order(&channels);
        offsets.pop();
        let owned = columns.len();
        columns.extend_from_slice(&problem.fixed);
        let gram = gather(moments.gram.as_ref(), &columns, &columns);
        let cross = gather_rows(moments.cross.as_ref(), &columns);
        let widths = problem.blocks.iter().map(Vec::len).collect();
        let mut state = Self::from_parts(gram, &cross, widths, offsets, owned, ridge)?;
        state.objective += moments.energy;
        state.reset_blocks(&channels);
        Ok(state)
    }

    /// The state of columns of which the first `owned` belong to channels, at `offsets`. The blocks
    /// are not set, and the objective lacks the energy of the responses.
    fn from_parts(
        mut gram: Mat<f64>,
        cross: &Mat<f64>,
        widths: Vec<usize>,
        offsets: Vec<usize>,
        owned: usize,
        ridge: f64,
    ) -> Result<Self> {
        for i in 0..gram.nrows() {
            gram[(i, i)] += ridge;
        }
        let (base, weight) = invert(gram.as_ref(), cross)?;
        let widest = widths.iter().copied().max().unwrap_or(0);
        Ok(Self {
            objective: -inner(cross.as_ref(), weight.as_ref()),
            blocks: Blocks::new(widths),
            offsets,
            base: base.submatrix(0, 0, owned, owned).to_owned(),
            weight: weight.subrows(0, owned).to_owned(),
            factor: Mat::zeros(owned, PENDING + widest),
            coefficients: Mat::zeros(cross.ncols(), PENDING + widest),
            pending: 0,
        })
    }

    /// The state of the `kept` channels, from the rows of their columns (`x`, at `offsets`) and of
    /// the columns nobody owns.
    pub(super) fn from_rows(
        problem: &Problem,
        x: MatRef<'_, f64>,
        offsets: Vec<usize>,
        kept: &[usize],
        rows: &CentredRows,
        ridge: f64,
    ) -> Result<Self> {
        let fixed = gather_columns(rows.x.as_ref(), &problem.fixed);
        let owned = x.ncols();
        let all = Mat::from_fn(x.nrows(), owned + fixed.ncols(), |i, j| {
            if j < owned { x[(i, j)] } else { fixed[(i, j - owned)] }
        });
        let mut gram = Mat::zeros(all.ncols(), all.ncols());
        add_outer_lower(gram.as_mut(), all.transpose(), 1.0);
        let cross = all.transpose() * &rows.y;
        let widths = problem.blocks.iter().map(Vec::len).collect();
        let mut state = Self::from_parts(gram, &cross, widths, offsets, owned, ridge)?;
        state.objective += rows.energy;
        state.reset_blocks(kept);
        Ok(state)
    }

    /// Computes the blocks of the given channels afresh; nothing may be pending.
    fn reset_blocks(&mut self, channels: &[usize]) {
        for &i in channels {
            let (at, k) = (self.offsets[i], self.blocks.width(i));
            let weight = self.weight.subrows(at, k);
            let mut products = Mat::zeros(k, k);
            matmul(products.as_mut(), Accum::Replace, weight, weight.transpose(), 1.0, Par::Seq);
            self.blocks.set(i, self.base.submatrix(at, at, k, k), products.as_ref());
        }
    }

    /// Columns `at..at + k` of `B`.
    fn inverse_columns(&self, at: usize, k: usize) -> Mat<f64> {
        let rows = self.base.nrows();
        let mut columns = Mat::zeros(rows, k);
        for t in 0..k {
            for i in 0..at + t {
                columns[(i, t)] = self.base[(at + t, i)];
            }
            columns.col_as_slice_mut(t)[at + t..]
                .copy_from_slice(&self.base.col_as_slice(at + t)[at + t..]);
        }
        let factor = self.factor.subcols(0, self.pending);
        let own = factor.subrows(at, k).transpose();
        matmul(columns.as_mut(), Accum::Add, factor, own, -1.0, Par::Seq);
        columns
    }

    /// Applies what is pending, and drops the rows of removed channels once they are many.
    fn flush(&mut self, kept: &[usize]) {
        let factor = self.factor.subcols(0, self.pending);
        let coefficients = self.coefficients.subcols(0, self.pending).transpose();
        add_outer_lower(self.base.as_mut(), factor, -1.0);
        matmul(self.weight.as_mut(), Accum::Add, factor, coefficients, -1.0, Par::Seq);
        self.pending = 0;
        let live: usize = kept.iter().map(|&i| self.blocks.width(i)).sum();
        if (live as f64) < COMPACT_BELOW * self.base.nrows() as f64 {
            self.compact(kept, live);
        }
        self.reset_blocks(kept);
    }

    fn compact(&mut self, kept: &[usize], live: usize) {
        let mut rows = Vec::with_capacity(live);
        for &i in kept {
            let at = self.offsets[i];
            self.offsets[i] = rows.len();
            rows.extend(at..at + self.blocks.width(i));
        }
        let mut base = Mat::zeros(live, live);
        for (j, &from) in rows.iter().enumerate() {
            let column = self.base.col_as_slice(from);
            for (to, &row) in base.col_as_slice_mut(j)[j..].iter_mut().zip(&rows[j..]) {
                *to = column[row];
            }
        }
        self.base = base;
        self.weight = gather_rows(self.weight.as_ref(), &rows);
        self.factor = Mat::zeros(live, self.factor.ncols());
    }
}

impl Eliminator for State {
    fn objective(&self) -> f64 {
        self.objective
    }

    fn costs(&self, kept: &[usize]) -> Vec<f64> {
        self.blocks.costs(kept)
    }

    fn remove(&mut self, channel: usize, kept: &[usize]) -> Result<()> {
        let (at, k) = (self.offsets[channel], self.blocks.width(channel));
        if k == 0 {
            return Ok(());
        }
        let mut columns = self.inverse_columns(at, k);
        let factor = cholesky(columns.subrows(at, k)).ok_or_else(singular)?;
        let lower = factor.L();
        divide_by_transpose(&mut columns, lower);

        let pending = self.factor.subcols(0, self.pending);
        let coefficients = self.coefficients.subcols(0, self.pending);
        let mut q = self.weight.subrows(at, k).to_owned();
        let own = pending.subrows(at, k);
        matmul(q.as_mut(), Accum::Add, own, coefficients.transpose(), -1.0, Par::Seq);
        forward_substitute(lower, &mut q);

        // e = 1/2 U Q Q^T - W Q^T with W = weight - pending U Q.
        let mut e = Mat::zeros(self.weight.nrows(), k);
        matmul(e.as_mut(), Accum::Replace, &self.weight, q.transpose(), -1.0, Par::Seq);
        let overlap = coefficients.transpose() * q.transpose();
        matmul(e.as_mut(), Accum::Add, pending, &overlap, 1.0, Par::Seq);
        matmul(e.as_mut(), Accum::Add, &columns, &q * q.transpose(), 0.5, Par::Seq);
        self.blocks.update(kept, &self.offsets, columns.as_ref(), e.as_ref());
        for t in 0..k {
            self.factor.col_mut(self.pending + t).copy_from(columns.col(t));
            self.coefficients.col_mut(self.pending + t).copy_from(q.row(t).transpose());
        }
        self.pending += k;
        if self.pending >= PENDING {
            self.flush(kept);
        }
        Ok(())
    }
}

/// `H^-1` and `H^-1 R`.
fn invert(hessian: MatRef<'_, f64>, cross: &Mat<f64>) -> Result<(Mat<f64>, Mat<f64>)> {
    let factor = cholesky(hessian).ok_or_else(singular)?;
    Ok((factor.inverse(), factor.solve(cross)))
}
