//! `linfa-elasticnet` as an independent LASSO solver.

use faer::Side;
use linfa::Dataset;
use linfa::prelude::Fit;
use linfa_elasticnet::ElasticNet;
use ndarray::{Array1, Array2, ShapeBuilder};
use tensor_core::{Error, Result};

use crate::lasso_system::LassoSystem;
use crate::penalty_search::LassoSolver;

/// Eigenvalues below this share of the largest are rounding errors of a singular system.
const RANK: f64 = 1e-13;

/// Duality gap, relative to the energy, at which linfa stops.
const TOLERANCE: f64 = 1e-8;

/// Sweeps that linfa may make for one penalty.
const MAX_ITERATIONS: u32 = 20_000;

/// The system as a regression that linfa understands: `A = F^T F` and `b = F^T y` with
/// `F = S^1/2 V^T`, `y = S^-1/2 V^T b` from the eigenvalues `S` and eigenvectors `V` of `A`.
pub(crate) struct ElasticNetSolver {
    data: Dataset<f64, f64, ndarray::Ix1>,
    /// linfa takes small numbers as zero absolutely, so the system is divided by this.
    scale: f64,
}

impl ElasticNetSolver {
    pub(crate) fn new(system: &LassoSystem) -> Result<Self> {
        let c = system.channels();
        let eigen = system
            .gram
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| Error::invalid("the LASSO system has no eigenvalues"))?;
        let values = eigen.S().column_vector();
        let vectors = eigen.U();
        let largest = (0..c).map(|i| values[i]).fold(0.0, f64::max);
        let rank: Vec<usize> = (0..c).filter(|&i| values[i] > RANK * largest).collect();
        let scale = if largest > 0.0 { largest } else { 1.0 };
        // Column-major, because linfa sweeps over columns; one row of zeros if nothing contributes.
        let mut features = Array2::zeros((rank.len().max(1), c).f());
        let mut targets = Array1::zeros(rank.len().max(1));
        for (row, &e) in rank.iter().enumerate() {
            let root = (values[e] / scale).sqrt();
            let mut projected = 0.0;
            for i in 0..c {
                features[(row, i)] = root * vectors[(i, e)];
                projected += vectors[(i, e)] * system.linear[i];
            }
            targets[row] = projected / (scale * root);
        }
        Ok(Self { data: Dataset::new(features, targets), scale })
    }
}

impl LassoSolver for ElasticNetSolver {
    fn solve(&mut self, lambda: f64) -> Result<Vec<f64>> {
        // linfa divides the squared error by the number of rows.
        let penalty = lambda / self.scale / self.data.records().nrows() as f64;
        let model = ElasticNet::params()
            .penalty(penalty)
            .l1_ratio(1.0)
            .with_intercept(false)
            .tolerance(TOLERANCE)
            .max_iterations(MAX_ITERATIONS)
            .fit(&self.data)
            .map_err(|error| Error::invalid(format!("linfa-elasticnet: {error}")))?;
        Ok(model.hyperplane().to_vec())
    }
}
