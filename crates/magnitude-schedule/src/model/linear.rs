//! Small dense helpers on top of faer.

use faer::prelude::Solve;
use faer::{Mat, MatRef, Side};
use tensor_core::{Error, Result};

/// `a^-1` of a positive definite matrix, both triangles.
pub(super) fn inverse(a: MatRef<'_, f64>) -> Result<Mat<f64>> {
    let factor = a.llt(Side::Lower).map_err(|_| singular())?;
    Ok(factor.solve(Mat::<f64>::identity(a.nrows(), a.nrows())))
}

/// Solves `a x = b` for a positive definite matrix.
pub(super) fn solve(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Result<Mat<f64>> {
    Ok(a.llt(Side::Lower).map_err(|_| singular())?.solve(b))
}

/// A matrix that should be positive definite is not, even with its ridge.
pub(super) fn singular() -> Error {
    Error::invalid("the statistics of the layer are singular")
        .code_is("E0435")
        .hint("collect more calibration samples, or such that differ more")
}
