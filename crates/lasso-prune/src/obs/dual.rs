//! Elimination through the kernel of the samples, for more columns than rows.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::DenseSolveCore;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use tensor_core::Result;
use tensor_core::calibrate::CentredRows;

use super::Eliminator;
use super::blocks::Blocks;
use super::primal;
use crate::linalg::{
    add_outer_lower, add_product, cholesky, divide_by_transpose, forward_substitute,
    gather_columns, gather_rows, inner, mirror_lower, singular,
};
use crate::problem::Problem;

/// Storage is compacted when this share of its columns is still in use.
const COMPACT_BELOW: f64 = 0.85;

/// Blocks are formed anew when this share of the columns that they were formed for is left, before
/// updates add up too many rounding errors.
const RESET_BELOW: f64 = 0.5;

/// With `N = ridge (X X^T + ridge)^-1`, the projection away from the remaining columns, the inverse
/// Hessian has the blocks `(ridge - X_i^T N X_i) / ridge^2` and the best weights are
/// `X_i^T N Y / ridge`. The common powers of the ridge cancel in the costs.
///
/// Once the remaining columns are no more than the rows, `ridge - X_i^T N X_i` loses its digits to
/// cancellation and the inverse Hessian is the smaller matrix: elimination goes on in
/// [`primal`](super::primal).
pub(super) struct State<'a> {
    problem: &'a Problem,
    rows: &'a CentredRows,
    objective: f64,
    ridge: f64,
    blocks: Blocks,
    /// First column of every channel in `x`.
    offsets: Vec<usize>,
    /// The columns of the channels, `S x p`.
    x: Mat<f64>,
    /// `N`, `S x S`.
    projection: Mat<f64>,
    /// `N Y`, `S x n`: the residual of the best weights.
    residual: Mat<f64>,
    /// `X^T N Y`, `p x n`: the best weights times the ridge; absent where that is no less than `x`.
    weight: Option<Mat<f64>>,
    /// Columns for which the blocks were formed.
    formed: usize,
}

impl<'a> State<'a> {
    pub(super) fn new(problem: &'a Problem, rows: &'a CentredRows, ridge: f64) -> Result<Self> {
        let samples = rows.x.nrows();
        let projection = projection(rows.x.as_ref(), ridge)?;
        let residual = &projection * &rows.y;

        let order: Vec<usize> = (0..problem.channels()).collect();
        let (columns, mut offsets) = problem.columns_in_order(&order);
        offsets.pop();
        let x = gather_columns(rows.x.as_ref(), &columns);
        let weight = (2 * residual.ncols() <= samples).then(|| {
            let mut weight = Mat::zeros(x.ncols(), residual.ncols());
            add_product(weight.as_mut(), x.transpose(), residual.as_ref(), 1.0);
            weight
        });
        let mut state = Self {
            problem,
            rows,
            objective: inner(rows.y.as_ref(), residual.as_ref()),
            ridge,
            blocks: Blocks::new(problem.blocks.iter().map(Vec::len).collect()),
            offsets,
            x,
            projection,
            residual,
            weight,
            formed: 0,
        };
        state.reset_blocks(&order);
        Ok(state)
    }

    fn reset_blocks(&mut self, channels: &[usize]) {
        let formed: Vec<(Mat<f64>, Mat<f64>)> = channels
            .par_iter()
            .map(|&i| {
                let (at, k) = (self.offsets[i], self.blocks.width(i));
                let weight = self.x.subcols(at, k).transpose() * &self.residual;
                (self.own_block(at, k), &weight * weight.transpose())
            })
            .collect();
        for (&i, (inverse, products)) in channels.iter().zip(&formed) {
            self.blocks.set(i, inverse.as_ref(), products.as_ref());
        }
        self.formed = self.live(channels);
    }

    /// The block of the inverse Hessian of the `k` columns from `at`, times the ridge squared.
    fn own_block(&self, at: usize, k: usize) -> Mat<f64> {
        let own = self.x.subcols(at, k);
        let projected = &self.projection * own;
        let mut block = Mat::zeros(k, k);
        matmul(block.as_mut(), Accum::Replace, own.transpose(), &projected, -1.0, Par::Seq);
        for t in 0..k {
            block[(t, t)] += self.ridge;
        }
        block
    }

    /// Columns of the given channels.
    fn live(&self, channels: &[usize]) -> usize {
        channels.iter().map(|&i| self.blocks.width(i)).sum()
    }

    fn compact(&mut self, kept: &[usize]) {
        let mut columns = Vec::new();
        for &i in kept {
            let at = self.offsets[i];
            self.offsets[i] = columns.len();
            columns.extend(at..at + self.blocks.width(i));
        }
        self.x = gather_columns(self.x.as_ref(), &columns);
        if let Some(weight) = &mut self.weight {
            *weight = gather_rows(weight.as_ref(), &columns);
        }
    }
}

/// `ridge (X X^T + ridge)^-1`.
fn projection(x: MatRef<'_, f64>, ridge: f64) -> Result<Mat<f64>> {
    let mut kernel = Mat::zeros(x.nrows(), x.nrows());
    add_outer_lower(kernel.as_mut(), x, 1.0);
    for i in 0..x.nrows() {
        kernel[(i, i)] += ridge;
    }
    let mut projection = cholesky(kernel.as_ref()).ok_or_else(singular)?.inverse();
    projection *= faer::Scale(ridge);
    Ok(projection)
}

impl Eliminator for State<'_> {
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
        let factor = cholesky(self.own_block(at, k).as_ref()).ok_or_else(singular)?;
        let own = self.x.subcols(at, k);
        let mut step = &self.projection * own;
        let lower = factor.L();
        divide_by_transpose(&mut step, lower);
        let mut q = own.transpose() * &self.residual;
        forward_substitute(lower, &mut q);

        // The blocks shrink by U U^T with U = -X^T step.
        let mut u = Mat::zeros(self.x.ncols(), k);
        add_product(u.as_mut(), self.x.transpose(), step.as_ref(), -1.0);
        let mut e = Mat::zeros(self.x.ncols(), k);
        add_product(e.as_mut(), u.as_ref(), (&q * q.transpose()).as_ref(), 0.5);
        match &mut self.weight {
            Some(weight) => {
                add_product(e.as_mut(), weight.as_ref(), q.transpose(), -1.0);
                add_product(weight.as_mut(), u.as_ref(), q.as_ref(), -1.0);
            }
            None => {
                let pull = &self.residual * q.transpose();
                add_product(e.as_mut(), self.x.transpose(), pull.as_ref(), -1.0);
            }
        }
        self.blocks.update(kept, &self.offsets, u.as_ref(), e.as_ref());
        add_outer_lower(self.projection.as_mut(), step.as_ref(), 1.0);
        mirror_lower(&mut self.projection);
        matmul(self.residual.as_mut(), Accum::Add, &step, &q, 1.0, Par::Seq);

        let live = self.live(kept) as f64;
        if live < COMPACT_BELOW * self.x.ncols() as f64 {
            self.compact(kept);
        }
        if live < RESET_BELOW * self.formed as f64 {
            self.reset_blocks(kept);
        }
        Ok(())
    }

    fn successor(&mut self, kept: &[usize]) -> Result<Option<Box<dyn Eliminator>>> {
        let live = self.live(kept);
        if live + self.problem.fixed.len() > self.rows.x.nrows() {
            return Ok(None);
        }
        self.compact(kept);
        let offsets = std::mem::take(&mut self.offsets);
        let (problem, x) = (self.problem, self.x.as_ref());
        let next = primal::State::from_rows(problem, x, offsets, kept, self.rows, self.ridge)?;
        Ok(Some(Box::new(next)))
    }
}
