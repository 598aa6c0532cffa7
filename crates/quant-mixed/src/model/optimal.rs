//! Rounding that lets later weights make up for earlier ones.

use super::nearest::Nearest;
use faer::prelude::Solve;
use faer::{Mat, MatRef, Side};
use rayon::prelude::*;

/// Added to the diagonal, relative to its mean: with less, noise in directions that the sample
/// hardly shows would be taken for structure.
const DAMPING: f64 = 0.01;

/// Rounds the rows of a weight, `rows` of `hessian.nrows()` numbers each, to what is nearest so that
/// `tr (W - Q) H (W - Q)^T` stays small (Frantar et al., "GPTQ", 2023, Eq. 2 and 3): column by
/// column, those with the largest variance first, and after each the columns that follow move by
/// what makes up best for its error.
///
/// Gives the integers, row-major; `None` when `H` is not positive definite even when damped.
pub(super) fn round(hessian: MatRef<'_, f64>, rows: &[f32], nearest: &Nearest) -> Option<Vec<i32>> {
    let p = hessian.nrows();
    let order = by_variance(hessian);
    let factor = inverse_factor(hessian, &order)?;
    let rounded: Vec<Vec<i32>> = rows
        .par_chunks(p)
        .enumerate()
        .map(|(o, row)| {
            let mut rest: Vec<f64> = order.iter().map(|&j| f64::from(row[j])).collect();
            let mut integers = vec![0; p];
            for (at, &j) in order.iter().enumerate() {
                let q = nearest.code(o * p + j, rest[at] as f32);
                integers[j] = q;
                // Column `at` of the lower factor is row `at` of the upper one.
                let column = factor.col_as_slice(at);
                let error = (rest[at] - f64::from(nearest.number(o * p + j, q))) / column[at];
                for (rest, u) in rest[at + 1..].iter_mut().zip(&column[at + 1..]) {
                    *rest -= error * u;
                }
            }
            integers
        })
        .collect();
    Some(rounded.concat())
}

/// Columns by falling variance; of equal ones the first.
fn by_variance(hessian: MatRef<'_, f64>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..hessian.nrows()).collect();
    order.sort_by(|&a, &b| hessian[(b, b)].total_cmp(&hessian[(a, a)]));
    order
}

/// The lower Cholesky factor of the inverse of the damped matrix, in the given order.
fn inverse_factor(hessian: MatRef<'_, f64>, order: &[usize]) -> Option<Mat<f64>> {
    let p = order.len();
    let mean = (0..p).map(|i| hessian[(i, i)]).sum::<f64>() / p as f64;
    let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
    let damped = Mat::from_fn(p, p, |i, j| {
        hessian[(order[i], order[j])] + if i == j { damping } else { 0.0 }
    });
    let inverse = damped.llt(Side::Lower).ok()?.solve(Mat::<f64>::identity(p, p));
    let factor = inverse.llt(Side::Lower).ok()?.L().to_owned();
    (0..p).all(|i| factor[(i, i)].is_normal()).then_some(factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::adaptive;
    use super::*;
    use crate::quantizer::Affine;

    /// One grid for a row.
    fn of(grid: Affine, p: usize) -> Nearest<'static> {
        Nearest::Grid { grid, scales: vec![grid.scale; p].into() }
    }

    /// `(W - Q) H (W - Q)^T` of one row.
    fn error(hessian: &Mat<f64>, row: &[f32], grid: &Affine, integers: &[i32]) -> f64 {
        let e: Vec<f64> =
            row.iter().zip(integers).map(|(&w, &q)| f64::from(w - grid.dequantize(q))).collect();
        let p = row.len();
        (0..p * p).map(|i| e[i / p] * hessian[(i / p, i % p)] * e[i % p]).sum()
    }

    /// Inputs that are strongly correlated.
    fn correlated(p: usize) -> Mat<f64> {
        Mat::from_fn(p, p, |i, j| 0.9_f64.powi((i as i32 - j as i32).abs()) * 100.0)
    }

    fn row(p: usize) -> Vec<f32> {
        (0..p).map(|i| ((i * i * 7 + i * 13 + 5) % 31) as f32 / 31.0 - 0.5).collect()
    }

    #[test]
    fn independent_inputs_leave_the_nearest() {
        let grid = Affine::symmetric(3, 0.5).unwrap();
        let (row, hessian) = (row(12), Mat::<f64>::identity(12, 12));
        let nearest: Vec<i32> = row.iter().map(|&w| grid.quantize(w)).collect();
        assert_eq!(round(hessian.as_ref(), &row, &of(grid, 12)).unwrap(), nearest);
    }

    #[test]
    fn correlated_inputs_make_up_for_each_other() {
        let grid = Affine::symmetric(3, 0.5).unwrap();
        let (row, hessian) = (row(24), correlated(24));
        let nearest: Vec<i32> = row.iter().map(|&w| grid.quantize(w)).collect();
        let nearest = error(&hessian, &row, &grid, &nearest);
        let found = round(hessian.as_ref(), &row, &of(grid, 24)).unwrap();
        let found = error(&hessian, &row, &grid, &found);
        assert!(found < 0.9 * nearest, "{found} of {nearest}");
        let adaptive = adaptive::round(hessian.as_ref(), &row, (grid, &[grid.scale; 24]));
        let found = error(&hessian, &row, &grid, &adaptive);
        assert!(found < 0.9 * nearest, "{found} of {nearest}");
        // Up or down, nothing else.
        for (&w, &q) in row.iter().zip(&adaptive) {
            assert!((w / grid.scale - q as f32).abs() < 1.0);
        }
    }

    #[test]
    fn a_constant_input_is_no_obstacle() {
        let grid = Affine::symmetric(4, 0.5).unwrap();
        let zero = Mat::<f64>::zeros(6, 6);
        assert_eq!(round(zero.as_ref(), &row(6), &of(grid, 6)).unwrap().len(), 6);
    }
}
