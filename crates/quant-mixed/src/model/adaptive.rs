//! Rounding up or down by gradient descent.

use crate::quantizer::Affine;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

/// Steps of the descent.
const STEPS: usize = 1000;

/// Learning rate and decay rates of Adam.
const RATE: f64 = 1e-2;
const DECAY: [f64; 2] = [0.9, 0.999];

/// Weight of the term that draws every weight up or down, from `WARMUP` of the steps on.
const PULL: f64 = 0.01;
const WARMUP: f64 = 0.2;

/// Cost per weight of the response's error under rounding to the nearest.
const RESPONSE: f64 = 0.01;

/// Ends of its exponent: from nearly flat to decided.
const EXPONENTS: [f64; 2] = [20.0, 2.0];

/// Ends of the stretched sigmoid, which reaches 0 and 1.
const STRETCH: [f64; 2] = [-0.1, 1.1];

/// Rows of a weight that one task descends with.
const ROWS: usize = 16;

/// Rounds the rows of a weight up or down (Nagel et al. 2020, Eq. 21 to 25): with
/// `W~ = s (floor(W / s) + h(V))`, minimizes the squared error of the response, which is
/// `tr (W - W~) H (W - W~)^T` with `H = X^T X / samples`, and a term that draws `h` to 0 or 1. The
/// data enter through `H` alone.
///
/// All weights have the integers of one grid, each at a scale of its own. Gives the integers, row-major.
pub(super) fn round(
    hessian: MatRef<'_, f64>,
    rows: &[f32],
    (grid, scales): (Affine, &[f32]),
) -> Vec<i32> {
    let p = hessian.nrows();
    let tasks: Vec<Vec<i32>> = rows
        .par_chunks(p * ROWS)
        .zip(scales.par_chunks(p * ROWS))
        .map(|(rows, scales)| descend(hessian, rows, (grid, scales)))
        .collect();
    tasks.concat()
}

fn descend(hessian: MatRef<'_, f64>, rows: &[f32], (grid, scales): (Affine, &[f32])) -> Vec<i32> {
    let p = hessian.nrows();
    let n = rows.len() / p;
    // One bit has two integers, which are two apart: places on the grid, counted from the first.
    let (unit, origin) = if grid.is_sign() { (2.0, f64::from(grid.low)) } else { (1.0, 0.0) };
    let place = |integer: i32| (f64::from(integer) - origin) / unit;
    let (low, high) = (place(grid.low), place(grid.high));
    let steps = |i: usize| (f64::from(rows[i]) / f64::from(scales[i]) - origin) / unit;
    let width = |i: usize| f64::from(scales[i]) * unit;
    let floors: Vec<f64> = (0..rows.len()).map(|i| steps(i).floor()).collect();
    // The inverse of the stretched sigmoid: the weights begin where they are.
    let mut v: Vec<f64> = (0..rows.len())
        .map(|i| {
            let share = (steps(i) - floors[i] - STRETCH[0]) / (STRETCH[1] - STRETCH[0]);
            (share / (1.0 - share)).ln()
        })
        .collect();
    let (mut first, mut second) = (vec![0.0; v.len()], vec![0.0; v.len()]);
    let mut error = Mat::<f64>::zeros(p, n);
    let mut gradient = Mat::<f64>::zeros(p, n);
    let weight = weight_of_response(hessian, rows, (grid, scales));
    for step in 0..STEPS {
        for o in 0..n {
            for (j, to) in error.col_as_slice_mut(o).iter_mut().enumerate() {
                let i = o * p + j;
                let q = (floors[i] + stretched(v[i]).0).clamp(low, high);
                *to = (q - steps(i)) * width(i);
            }
        }
        matmul(gradient.as_mut(), Accum::Replace, hessian, error.as_ref(), 1.0, Par::Seq);
        let share = step as f64 / STEPS as f64;
        let pull = (share >= WARMUP).then(|| {
            let along = (share - WARMUP) / (1.0 - WARMUP);
            let falling = 0.5 * (1.0 + (along * std::f64::consts::PI).cos());
            EXPONENTS[1] + (EXPONENTS[0] - EXPONENTS[1]) * falling
        });
        let corrections = DECAY.map(|decay| 1.0 - decay.powi(step as i32 + 1));
        for i in 0..v.len() {
            let (h, slope) = stretched(v[i]);
            let q = floors[i] + h;
            let inside = q >= low && q <= high;
            let mut g = 0.0;
            if inside {
                g += 2.0 * weight * gradient[(i % p, i / p)] * width(i) * slope;
            }
            if let Some(exponent) = pull {
                let x = 2.0 * h - 1.0;
                g -= PULL * exponent * x.abs().powf(exponent - 1.0) * x.signum() * 2.0 * slope;
            }
            first[i] = DECAY[0] * first[i] + (1.0 - DECAY[0]) * g;
            second[i] = DECAY[1] * second[i] + (1.0 - DECAY[1]) * g * g;
            let size = (second[i] / corrections[1]).sqrt() + 1e-8;
            v[i] -= RATE * first[i] / corrections[0] / size;
        }
    }
    (0..v.len())
        .map(|i| {
            let up = f64::from(u8::from(stretched(v[i]).0 >= 0.5));
            ((floors[i] + up).clamp(low, high) * unit + origin) as i32
        })
        .collect()
}

/// What the error of the response is multiplied by: with rounding to the nearest it then costs
/// [`RESPONSE`] per weight, whatever the size of weights and inputs. Were it much more than the term
/// that decides, every weight would stay where it is, between the two numbers.
fn weight_of_response(
    hessian: MatRef<'_, f64>,
    rows: &[f32],
    (grid, scales): (Affine, &[f32]),
) -> f64 {
    let p = hessian.nrows();
    let n = rows.len() / p;
    let error = Mat::from_fn(p, n, |j, o| {
        let (w, scale) = (rows[o * p + j], scales[o * p + j]);
        f64::from(grid.rescaled(scale).nearest(w)) - f64::from(w)
    });
    let mut product = Mat::<f64>::zeros(p, n);
    matmul(product.as_mut(), Accum::Replace, hessian, error.as_ref(), 1.0, Par::Seq);
    let energy: f64 = (0..n)
        .map(|o| error.col(o).iter().zip(product.col(o).iter()).map(|(e, h)| e * h).sum::<f64>())
        .sum();
    if energy > 0.0 { RESPONSE * rows.len() as f64 / energy } else { 1.0 }
}

/// The stretched sigmoid, cut off at 0 and 1, and its slope.
fn stretched(v: f64) -> (f64, f64) {
    let sigmoid = 1.0 / (1.0 + (-v).exp());
    let width = STRETCH[1] - STRETCH[0];
    let h = sigmoid * width + STRETCH[0];
    match (0.0..=1.0).contains(&h) {
        true => (h, width * sigmoid * (1.0 - sigmoid)),
        false => (h.clamp(0.0, 1.0), 0.0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn one_bit_has_two_integers() {
        let hessian = Mat::from_fn(4, 4, |i, j| if i == j { 1.0 } else { 0.3 });
        let grid = Affine::symmetric(1, 0.4).unwrap();
        let rows = [0.3, -0.1, 0.05, -0.7, 0.01, 0.2, -0.02, 0.5];
        let found = round(hessian.as_ref(), &rows, (grid, &[grid.scale; 8]));
        assert!(found.iter().all(|q| q.abs() == 1), "{found:?}");
        assert_eq!((found[0], found[3]), (1, -1));
    }
}
