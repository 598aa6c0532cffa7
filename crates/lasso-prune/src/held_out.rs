//! Reconstruction judged on rows that it has not seen.

use crate::linalg::{gather, gather_rows, inner};
use crate::problem::{CentredStatistics, Problem};
use crate::reconstruct::{Reconstruction, System};
use faer::Mat;
use rayon::prelude::*;
use tensor_core::Result;

/// Ridges that [`best_ridge`] tries, relative to the mean diagonal entry of the centred `G`.
const RIDGES: [f64; 8] = [1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0];

/// Does a held-out error that one ridge made of `best` (infinite for the first) promise more from the next?
///
/// Where rows are plenty, one more factorization buys nothing once an error stands still. Where they are
/// few it may stand still over several ridges that are too small to matter, and fall behind them.
pub(crate) fn promises_more(best: f64, error: f64, are_plenty: bool) -> bool {
    /// Share of the error that counts as a change.
    const CHANGE: f64 = 0.005;
    /// Relative errors below this are as good as none.
    const SMALL: f64 = 1e-4;
    let change = CHANGE * best.max(SMALL);
    let stands_still = (best - error).abs() <= change;
    best.is_infinite() || best - error > change || stands_still && !are_plenty && error > SMALL
}

/// The ridges to try, the smallest first; none below `least`.
pub(crate) fn ridges(least: f64) -> impl Iterator<Item = f64> {
    std::iter::once(least).chain(RIDGES.into_iter().filter(move |&ridge| ridge > least))
}

/// Do all halves have so many rows for each of the columns that a fit hardly depends on the ridge?
pub(crate) fn have_plenty(halves: &[[Problem; 2]], columns: usize) -> bool {
    /// Rows of one image are alike, so that fewer count than there are.
    const ROWS_PER_COLUMN: usize = 64;
    halves.iter().flatten().all(|half| half.rows() >= ROWS_PER_COLUMN * columns)
}

/// Squared error of a reconstruction on the rows of a problem, relative to their centred energy.
///
/// The rows need not be those the reconstruction was fitted on: then this is a held-out error.
pub fn error_on(problem: &Problem, fit: &Reconstruction) -> f64 {
    let (p, n) = (fit.columns.len(), fit.intercept.len());
    let weight = Mat::from_fn(p, n, |i, o| f64::from(fit.weight[o * p + i]));
    let centred = match &*problem.statistics {
        CentredStatistics::Primal(s) => {
            let gram = gather(s.gram.as_ref(), &fit.columns, &fit.columns);
            let cross = gather_rows(s.cross.as_ref(), &fit.columns);
            let product = &gram * &weight;
            s.energy + inner(weight.as_ref(), product.as_ref())
                - 2.0 * inner(weight.as_ref(), cross.as_ref())
        }
        CentredStatistics::Dual(s) => {
            let x = Mat::from_fn(s.x.nrows(), p, |r, i| s.x[(r, fit.columns[i])]);
            let residual = &s.y - &x * &weight;
            residual.squared_norm_l2()
        }
    };
    let mean = |o: usize| {
        let shift: f64 = (0..p).map(|i| weight[(i, o)] * problem.mean_x()[fit.columns[i]]).sum();
        problem.mean_y()[o] - shift - f64::from(fit.intercept[o])
    };
    let offset: f64 = (0..n).map(|o| mean(o).powi(2)).sum();
    let energy = problem.energy();
    if energy > 0.0 { (centred.max(0.0) + problem.rows() as f64 * offset) / energy } else { 0.0 }
}

/// The two directions of cross-validation: fitted on one half of the rows, judged on the other.
struct Fold<'a> {
    fit: System<'a>,
    judge: &'a Problem,
}

/// Held-out error of reconstruction with the given ridge, over all layers.
fn crossed(folds: &[Fold], ridge: f64) -> Result<f64> {
    let errors: Vec<f64> = folds
        .par_iter()
        .map(|fold| Ok(error_on(fold.judge, &fold.fit.solve(ridge)?) * fold.judge.energy()))
        .collect::<Result<_>>()?;
    let error: f64 = errors.iter().sum();
    let energy: f64 = folds.iter().map(|fold| fold.judge.energy()).sum();
    Ok(if energy > 0.0 { error / energy } else { 0.0 })
}

/// The ridge with the smallest held-out error, and that error. Ridges below `least` are not tried.
///
/// With many more rows than columns the smallest wins; with few rows a large one keeps the weights
/// near the original ones.
///
/// # Errors
/// As [`reconstruct`](crate::reconstruct()).
pub fn best_ridge(halves: &[[Problem; 2]], kept: &[usize], least: f64) -> Result<(f64, f64)> {
    let folds: Vec<Fold> = halves
        .par_iter()
        .flat_map(|[even, odd]| [(even, odd), (odd, even)])
        .map(|(fit, judge)| Ok(Fold { fit: System::new(fit, kept)?, judge }))
        .collect::<Result<_>>()?;
    let columns = halves.first().map_or(0, |[even, _]| even.kept_columns(kept).len());
    let plenty = have_plenty(halves, columns);
    let (mut best, mut least_error) = (least, f64::INFINITY);
    for ridge in ridges(least) {
        let error = crossed(&folds, ridge)?;
        let goes_on = promises_more(least_error, error, plenty);
        if error < least_error {
            (best, least_error) = (ridge, error);
        }
        if !goes_on {
            break;
        }
    }
    Ok((best, least_error))
}
