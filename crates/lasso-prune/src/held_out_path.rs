//! Held-out errors of many widths along one order.

use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use faer::{Mat, MatRef, Par};
use rayon::prelude::*;
use tensor_core::calibrate::Centred;
use tensor_core::{Error, Result};

use crate::held_out::{have_plenty, promises_more, ridges};
use crate::held_out_kernel::kernel_errors;
use crate::linalg::{cholesky, forward_substitute, gather, gather_rows, inner, singular};
use crate::problem::{CentredStatistics, Problem, check_order};
use crate::reconstruct::check_ridge;

/// Held-out error when the first `k` channels of `order` are kept, for each `k` in `widths`, each
/// with its best ridge: what [`best_ridge`](crate::best_ridge) says for each width, in one sweep.
///
/// The ridged system of a width is a leading block of that of all columns,
///
/// ```text
/// (G_k + ridge) W' = R_k + ridge W_k
/// ```
///
/// so that one Cholesky factorization per half and ridge serves all widths. Where the statistics are
/// rows, the kernel `X_k X_k^T` grows from width to width instead.
///
/// # Errors
/// When `order` is no permutation of the channels, a width is larger than their number, or as
/// [`best_ridge`](crate::best_ridge).
pub fn held_out_errors(
    halves: &[[Problem; 2]],
    order: &[usize],
    widths: &[usize],
    least: f64,
) -> Result<Vec<f64>> {
    check_ridge(least)?;
    if let Some([half, _]) = halves.first() {
        check_order(order, half.channels())?;
    }
    if let Some(&width) = widths.iter().find(|&&width| width > order.len()) {
        return Err(Error::invalid(format!("a width of {width} for {} channels", order.len())));
    }
    let mut folds = Vec::with_capacity(2 * halves.len());
    for [even, odd] in halves {
        let (CentredStatistics::Primal(first), CentredStatistics::Primal(second)) =
            (&*even.statistics, &*odd.statistics)
        else {
            return kernel_errors(halves, order, widths, least);
        };
        folds.push(Fold::new((even, first), (odd, second), order, widths));
        folds.push(Fold::new((odd, second), (even, first), order, widths));
    }
    let energy: f64 = folds.iter().map(|fold| fold.judge.energy).sum();
    let relative = |error: f64| if energy > 0.0 { error / energy } else { 0.0 };
    let columns = folds.first().map_or(&[][..], |fold| fold.prefixes.as_slice());
    let plenty: Vec<bool> = columns.iter().map(|&columns| have_plenty(halves, columns)).collect();
    let mut best = vec![f64::INFINITY; widths.len()];
    for ridge in ridges(least) {
        let errors: Vec<Option<Vec<f64>>> =
            folds.par_iter().map(|fold| fold.errors(ridge)).collect();
        let Some(errors) = errors.into_iter().collect::<Option<Vec<_>>>() else { continue };
        let mut goes_on = false;
        for (i, best) in best.iter_mut().enumerate() {
            let error = relative(errors.iter().map(|fold| fold[i]).sum());
            goes_on |= promises_more(*best, error, plenty[i]);
            *best = best.min(error);
        }
        if !goes_on {
            break;
        }
    }
    if best.iter().any(|error| error.is_infinite()) {
        return Err(singular());
    }
    Ok(best)
}

/// One direction of cross-validation, columns in the order of the channels.
struct Fold<'a> {
    problem: &'a Problem,
    gram: Mat<f64>,
    cross: Mat<f64>,
    /// The original weights.
    weight: Mat<f64>,
    judge: Judge,
    /// Columns of each width.
    prefixes: Vec<usize>,
}

impl<'a> Fold<'a> {
    fn new(
        (problem, fit): (&'a Problem, &Centred),
        (_, judge): (&Problem, &Centred),
        order: &[usize],
        widths: &[usize],
    ) -> Self {
        let (owned, starts) = problem.columns_in_order(order);
        let fixed = problem.fixed.len();
        let columns: Vec<usize> = problem.fixed.iter().copied().chain(owned).collect();
        Self {
            problem,
            gram: gather(fit.gram.as_ref(), &columns, &columns),
            cross: gather_rows(fit.cross.as_ref(), &columns),
            weight: gather_rows((*problem.weight).as_ref(), &columns),
            judge: Judge::new(fit, judge, &columns),
            prefixes: widths.iter().map(|&k| fixed + starts[k]).collect(),
        }
    }

    /// Squared errors on the other half, by width; none when the system is singular.
    fn errors(&self, ridge: f64) -> Option<Vec<f64>> {
        let ridge = self.problem.absolute_ridge(ridge);
        let mut gram = self.gram.clone();
        for i in 0..gram.nrows() {
            gram[(i, i)] += ridge;
        }
        let factor = cholesky(gram.as_ref())?;
        let mut z = &self.cross + &self.weight * faer::Scale(ridge);
        forward_substitute(factor.L(), &mut z);
        let error = |&p: &usize| {
            let mut weight = z.subrows(0, p).to_owned();
            let upper = factor.L().submatrix(0, 0, p, p).transpose();
            solve_upper_triangular_in_place(upper, weight.as_mut(), Par::Seq);
            self.judge.error(weight.as_ref())
        };
        Some(self.prefixes.iter().map(error).collect())
    }
}

/// The rows that a fit is judged on.
struct Judge {
    gram: Mat<f64>,
    cross: Mat<f64>,
    energy: f64,
    rows: f64,
    /// Means of these rows less those of the rows that were fitted.
    shift_x: Vec<f64>,
    shift_y: Vec<f64>,
}

impl Judge {
    fn new(fit: &Centred, judge: &Centred, columns: &[usize]) -> Self {
        let less = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
        let shift = less(&judge.mean_x, &fit.mean_x);
        Self {
            gram: gather(judge.gram.as_ref(), columns, columns),
            cross: gather_rows(judge.cross.as_ref(), columns),
            energy: judge.energy,
            rows: judge.rows as f64,
            shift_x: columns.iter().map(|&c| shift[c]).collect(),
            shift_y: less(&judge.mean_y, &fit.mean_y),
        }
    }

    /// Squared error of the weights of the leading columns, with the intercept that fits the other
    /// half's means.
    fn error(&self, weight: MatRef<'_, f64>) -> f64 {
        let p = weight.nrows();
        let product = self.gram.submatrix(0, 0, p, p) * weight;
        let centred = self.energy - 2.0 * inner(weight, self.cross.subrows(0, p))
            + inner(weight, product.as_ref());
        let offset = |(o, y): (usize, &f64)| {
            let explained: f64 = weight.col(o).iter().zip(&self.shift_x).map(|(w, x)| w * x).sum();
            (y - explained).powi(2)
        };
        let offset: f64 = self.shift_y.iter().enumerate().map(offset).sum();
        centred.max(0.0) + self.rows * offset
    }
}
