//! Held-out errors along an order where a layer has more columns than sampled rows.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::prelude::*;
use tensor_core::calibrate::CentredRows;
use tensor_core::{Error, Result};

use crate::held_out::{promises_more, ridges};
use crate::linalg::{
    add_outer_lower, energy, gather_columns, gather_rows, singular, solve_semidefinite,
};
use crate::problem::{CentredStatistics, Problem};

/// [`held_out_errors`](crate::held_out_errors) from rows.
pub(crate) fn kernel_errors(
    halves: &[[Problem; 2]],
    order: &[usize],
    widths: &[usize],
    least: f64,
) -> Result<Vec<f64>> {
    let mut folds = Vec::with_capacity(2 * halves.len());
    for [even, odd] in halves {
        let (CentredStatistics::Dual(first), CentredStatistics::Dual(second)) =
            (&*even.statistics, &*odd.statistics)
        else {
            return Err(Error::invalid("one half has moments, the other rows"));
        };
        folds.push(Fold::new((even, first), second));
        folds.push(Fold::new((odd, second), first));
    }
    let energy: f64 = halves.iter().flatten().map(Problem::energy).sum();
    let relative = |error: f64| if energy > 0.0 { error / energy } else { 0.0 };
    let mut ascending: Vec<usize> = (0..widths.len()).collect();
    ascending.sort_by_key(|&at| widths[at]);
    let mut errors = vec![0.0; widths.len()];
    let mut grown = 0;
    for at in ascending {
        folds.par_iter_mut().for_each(|fold| fold.grow(&order[grown..widths[at]]));
        grown = widths[at];
        let mut best = f64::INFINITY;
        for ridge in ridges(least) {
            let all: Vec<f64> =
                folds.par_iter().map(|fold| fold.error(ridge)).collect::<Result<_>>()?;
            let error = relative(all.iter().sum());
            // There are fewer rows than columns.
            let goes_on = promises_more(best, error, false);
            best = best.min(error);
            if !goes_on {
                break;
            }
        }
        errors[at] = best;
    }
    Ok(errors)
}

/// One direction of cross-validation with the channels so far.
///
/// With the rows `X`, `Y` that are fitted and `Z`, `V` that are judged (both about the means of the
/// former), the weights change by `X^T A`, where `(X X^T + ridge) A = Y - X W`, and the error is
/// `V - Z W - (Z X^T) A`.
struct Fold<'a> {
    problem: &'a Problem,
    x: &'a Mat<f64>,
    z: Mat<f64>,
    /// `X X^T`, its lower triangle.
    kernel: Mat<f64>,
    /// `Z X^T`.
    cross: Mat<f64>,
    /// `Y - X W`.
    fitted: Mat<f64>,
    /// `V - Z W`.
    judged: Mat<f64>,
}

impl<'a> Fold<'a> {
    fn new((problem, fit): (&'a Problem, &'a CentredRows), judge: &CentredRows) -> Self {
        let about = |rows: &Mat<f64>, own: &[f64], other: &[f64]| {
            Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)] + own[j] - other[j])
        };
        let (rows, others) = (fit.x.nrows(), judge.x.nrows());
        let mut fold = Self {
            problem,
            x: &fit.x,
            z: about(&judge.x, &judge.mean_x, &fit.mean_x),
            kernel: Mat::zeros(rows, rows),
            cross: Mat::zeros(others, rows),
            fitted: fit.y.clone(),
            judged: about(&judge.y, &judge.mean_y, &fit.mean_y),
        };
        fold.take(&problem.fixed);
        fold
    }

    /// Adds channels.
    fn grow(&mut self, channels: &[usize]) {
        let blocks = channels.iter().map(|&channel| self.problem.block(channel));
        let columns: Vec<usize> = blocks.flatten().copied().collect();
        self.take(&columns);
    }

    fn take(&mut self, columns: &[usize]) {
        let x = gather_columns(self.x.as_ref(), columns);
        let z = gather_columns(self.z.as_ref(), columns);
        let weight = gather_rows((*self.problem.weight).as_ref(), columns);
        let add = Accum::Add;
        add_outer_lower(self.kernel.as_mut(), x.as_ref(), 1.0);
        matmul(self.cross.as_mut(), add, &z, x.transpose(), 1.0, Par::Seq);
        matmul(self.fitted.as_mut(), add, &x, &weight, -1.0, Par::Seq);
        matmul(self.judged.as_mut(), add, &z, &weight, -1.0, Par::Seq);
    }

    /// Squared error on the judged rows.
    fn error(&self, ridge: f64) -> Result<f64> {
        let ridge = self.problem.absolute_ridge(ridge);
        let mut kernel = self.kernel.clone();
        for i in 0..kernel.nrows() {
            kernel[(i, i)] += ridge;
        }
        let dual = solve_semidefinite(kernel.as_ref(), self.fitted.as_ref());
        let left = &self.judged - &self.cross * dual.ok_or_else(singular)?;
        Ok(energy(left.as_ref()))
    }
}
