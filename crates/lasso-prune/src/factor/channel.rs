//! Reduced-rank regression: a layer of few outputs, and a mixture of these.

use super::spatial::failed;
use crate::problem::CentredStatistics;
use crate::{Problem, Reconstruction};
use faer::{Mat, Side};
use tensor_core::Result;

/// A layer `W' = P Q` of `d` outputs and a `1 x 1` layer behind it.
#[derive(Debug, Clone)]
pub struct ReducedRank {
    /// `Q^T`, `p x d`: the narrow layer.
    pub narrow: Mat<f64>,
    /// `P`, `n x d`: the mixture of its outputs.
    pub mixture: Mat<f64>,
    /// The bias of the responses, length `n`.
    pub intercept: Vec<f64>,
}

impl ReducedRank {
    /// Both layers as one.
    pub fn composed(&self) -> Mat<f64> {
        &self.narrow * self.mixture.transpose()
    }

    /// Both layers as one, as a reconstruction of all columns.
    pub fn reconstruction(&self) -> Reconstruction {
        let weight = self.composed();
        let (p, n) = (weight.nrows(), weight.ncols());
        Reconstruction {
            columns: (0..p).collect(),
            weight: (0..n * p).map(|i| weight[(i % p, i / p)] as f32).collect(),
            intercept: self.intercept.iter().map(|&b| b as f32).collect(),
            relative_error: 0.0,
        }
    }
}

/// The layer of rank `rank` with the least squared error on the responses, given the least-squares
/// solution `full` of all columns.
///
/// With centred rows, `|Y - X B|^2 = |Y - X B_full|^2 + |X (B_full - B)|^2`, and the second term is least
/// for `B = B_full V V^T`, where `V` are the first eigenvectors of `B_full^T X^T X B_full`.
///
/// # Errors
/// When the statistics are not finite.
pub fn reduced_rank(problem: &Problem, full: &Reconstruction, rank: usize) -> Result<ReducedRank> {
    let weight = matrix(full);
    let covariance = match &*problem.statistics {
        CentredStatistics::Primal(s) => weight.transpose() * (&s.gram * &weight),
        CentredStatistics::Dual(s) => {
            let y = &s.x * &weight;
            y.transpose() * &y
        }
    };
    let mixture = principal(&covariance, rank)?;
    let narrow = &weight * &mixture;
    let n = weight.ncols();
    let composed = &narrow * mixture.transpose();
    let intercept = (0..n)
        .map(|o| {
            let shift: f64 =
                (0..composed.nrows()).map(|i| composed[(i, o)] * problem.mean_x()[i]).sum();
            problem.mean_y()[o] - shift
        })
        .collect();
    Ok(ReducedRank { narrow, mixture, intercept })
}

/// The eigenvectors of a symmetric matrix with the largest eigenvalues, as columns.
pub(super) fn principal(covariance: &Mat<f64>, rank: usize) -> Result<Mat<f64>> {
    let n = covariance.nrows();
    let symmetric = Mat::from_fn(n, n, |i, j| 0.5 * (covariance[(i, j)] + covariance[(j, i)]));
    let eigen = symmetric.self_adjoint_eigen(Side::Lower).map_err(|_| failed())?;
    // Eigenvalues ascend.
    let rank = rank.min(n);
    Ok(Mat::from_fn(n, rank, |i, r| eigen.U()[(i, n - 1 - r)]))
}

/// The weight of a reconstruction of all columns, `p x n`.
pub(super) fn matrix(full: &Reconstruction) -> Mat<f64> {
    let (p, n) = (full.columns.len(), full.intercept.len());
    Mat::from_fn(p, n, |i, o| f64::from(full.weight[o * p + i]))
}
