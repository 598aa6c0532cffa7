//! Reduced rank for what a ReLU leaves of the responses.

use super::ReducedRank;
use super::channel::{matrix, principal};
use crate::Reconstruction;
use faer::{Mat, MatRef};
use tensor_core::Result;

/// Weight of the auxiliary responses, and for how many rounds.
const ROUNDS: [(f64, usize); 2] = [(0.1, 30), (1.0, 20)];

/// Improves a layer of reduced rank for responses behind a ReLU: `min |relu(Y) - relu(M Y' + b)|^2` over
/// `M` of that rank (Zhang et al. 2015, equation 8), where `Y'` (`S x n`) are the responses of the
/// solution `full` in the network as it is and `Y` those of the original.
///
/// Auxiliary responses `U` split the problem: given `M` and `b`, each `u` is the better of two closed
/// forms (`relu_aware`); given `U`, `M` and `b` are reduced-rank regression of `U` on `Y'`.
///
/// The start stays where the result would be worse.
///
/// # Errors
/// When rows are not finite.
pub fn rectified(
    full: &Reconstruction,
    start: ReducedRank,
    now: MatRef<'_, f64>,
    original: MatRef<'_, f64>,
) -> Result<ReducedRank> {
    let rank = start.mixture.ncols();
    let n = now.ncols();
    let mean_now = means(now);
    let centred = Mat::from_fn(now.nrows(), n, |s, o| now[(s, o)] - mean_now[o]);
    let gram = centred.transpose() * &centred;
    let trace: f64 = (0..n).map(|o| gram[(o, o)]).sum();
    // Responses that are sums of others make `gram` singular.
    let ridge = 1e-8 * trace / n as f64;
    let regular = Mat::from_fn(n, n, |i, j| gram[(i, j)] + if i == j { ridge } else { 0.0 });
    let Some(factor) = crate::linalg::cholesky(regular.as_ref()) else { return Ok(start) };
    let target = Mat::from_fn(now.nrows(), n, |s, o| original[(s, o)].max(0.0));
    let mut fit = Fit::of_start(full, &start, &mean_now);
    let first = fit.error(&centred, &target);
    for (weight, rounds) in ROUNDS {
        for _ in 0..rounds {
            let response = fit.responses(&centred);
            let auxiliary = Mat::from_fn(now.nrows(), n, |s, o| {
                relu_aware(target[(s, o)], response[(s, o)], weight)
            });
            let mean_u = means(auxiliary.as_ref());
            let u = Mat::from_fn(now.nrows(), n, |s, o| auxiliary[(s, o)] - mean_u[o]);
            let map = faer::prelude::Solve::solve(&factor, centred.transpose() * &u);
            let covariance = map.transpose() * (&gram * &map);
            let mixture = principal(&covariance, rank)?;
            fit = Fit { narrow: &map * &mixture, mixture, offset: mean_u };
        }
    }
    if fit.error(&centred, &target) >= first {
        return Ok(start);
    }
    // The offset is that of centred responses; their mean passes the map too.
    let narrow = matrix(full) * &fit.narrow;
    let composed = &fit.narrow * fit.mixture.transpose();
    let intercept = (0..n)
        .map(|o| {
            let of_bias =
                |i: usize| (f64::from(full.intercept[i]) - mean_now[i]) * composed[(i, o)];
            fit.offset[o] + (0..n).map(of_bias).sum::<f64>()
        })
        .collect();
    Ok(ReducedRank { narrow, mixture: fit.mixture, intercept })
}

/// The better of the minimum over `u <= 0` and that over `u >= 0` of `(z - relu(u))^2 + weight (u - r)^2`,
/// for a wanted output `z >= 0` and a response `r`.
fn relu_aware(z: f64, r: f64, weight: f64) -> f64 {
    let below = r.min(0.0);
    let above = ((weight * r + z) / (weight + 1.0)).max(0.0);
    let cost = |u: f64| (z - u.max(0.0)).powi(2) + weight * (u - r).powi(2);
    if cost(below) <= cost(above) { below } else { above }
}

/// A map of centred responses of reduced rank.
struct Fit {
    /// `n x d`.
    narrow: Mat<f64>,
    /// `n x d`.
    mixture: Mat<f64>,
    offset: Vec<f64>,
}

impl Fit {
    /// The start projects responses: `P Q = V V^T` of those of the full solution.
    fn of_start(full: &Reconstruction, start: &ReducedRank, mean_now: &[f64]) -> Self {
        let n = mean_now.len();
        let map = &start.mixture * start.mixture.transpose();
        let offset = (0..n).map(|o| {
            let of_mean = |i: usize| (mean_now[i] - f64::from(full.intercept[i])) * map[(i, o)];
            start.intercept[o] + (0..n).map(of_mean).sum::<f64>()
        });
        Self {
            offset: offset.collect(),
            narrow: start.mixture.clone(),
            mixture: start.mixture.clone(),
        }
    }

    fn responses(&self, centred: &Mat<f64>) -> Mat<f64> {
        let mut y = (centred * &self.narrow) * self.mixture.transpose();
        for o in 0..y.ncols() {
            y.col_mut(o).iter_mut().for_each(|y| *y += self.offset[o]);
        }
        y
    }

    fn error(&self, centred: &Mat<f64>, target: &Mat<f64>) -> f64 {
        let y = self.responses(centred);
        let square = |o: usize| -> f64 {
            y.col(o).iter().zip(target.col(o).iter()).map(|(y, z)| (z - y.max(0.0)).powi(2)).sum()
        };
        (0..y.ncols()).map(square).sum()
    }
}

fn means(rows: MatRef<'_, f64>) -> Vec<f64> {
    let count = rows.nrows().max(1) as f64;
    (0..rows.ncols()).map(|o| rows.col(o).iter().sum::<f64>() / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The closed form against a search on a fine grid.
    #[test]
    fn the_auxiliary_response_is_the_minimum() {
        for weight in [0.1, 1.0] {
            for z in [0.0, 0.4, 2.0] {
                for r in [-3.0, -0.2, 0.0, 0.3, 1.7] {
                    let cost = |u: f64| (z - u.max(0.0)).powi(2) + weight * (u - r).powi(2);
                    let grid = (-4000..4000).map(|i| f64::from(i) * 1e-3);
                    let least = grid.map(cost).fold(f64::INFINITY, f64::min);
                    let found = cost(relu_aware(z, r, weight));
                    assert!(found <= least + 1e-9, "{weight} {z} {r}: {found} {least}");
                }
            }
        }
    }
}
