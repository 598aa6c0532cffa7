//! Sampled rows kept as they are, for layers with more inputs than samples.

use faer::{Mat, MatRef};

use super::checks::{check_block, check_dimensions, check_same, no_rows};
use crate::{Error, Result};

/// The sampled rows `X` (`S x p`) and `Y` (`S x n`) themselves.
#[derive(Debug, Clone)]
pub struct Rows {
    inputs: usize,
    outputs: usize,
    max_bytes: usize,
    pub(super) x: Vec<f32>,
    pub(super) y: Vec<f32>,
}

/// Rows about their mean: the dual counterpart of [`Centred`](super::Centred).
#[derive(Debug, Clone)]
pub struct CentredRows {
    /// Mean input, length `p`.
    pub mean_x: Vec<f64>,
    /// Mean response, length `n`.
    pub mean_y: Vec<f64>,
    /// `X` minus its mean row, `S x p`.
    pub x: Mat<f64>,
    /// `Y` minus its mean row, `S x n`.
    pub y: Mat<f64>,
    /// `sum |y - mean y|^2`.
    pub energy: f64,
}

impl Rows {
    /// No rows yet, of `inputs` and `outputs` columns; they may grow to `max_bytes` in total.
    ///
    /// # Errors
    /// When either dimension is zero.
    pub fn new(inputs: usize, outputs: usize, max_bytes: usize) -> Result<Self> {
        check_dimensions(inputs, outputs)?;
        Ok(Self { inputs, outputs, max_bytes, x: Vec::new(), y: Vec::new() })
    }

    /// Bytes that `rows` rows of these dimensions take once centred, in `f64`.
    pub(super) fn bytes(rows: usize, inputs: usize, outputs: usize) -> Option<u128> {
        (inputs as u128).checked_add(outputs as u128)?.checked_mul(rows as u128)?.checked_mul(8)
    }

    /// Number of rows seen.
    pub fn rows(&self) -> usize {
        self.y.len() / self.outputs
    }

    /// Number of input columns `p`.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of responses `n`.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Adds a block of rows: `x` is `s x p` and `y` is `s x n`, both row-major.
    ///
    /// # Errors
    /// When the lengths do not describe the same number of rows, a number is NaN or infinite, or
    /// the rows would outgrow their memory limit; nothing is added then.
    pub fn push(&mut self, x: &[f32], y: &[f32]) -> Result<()> {
        check_block(x, y, self.inputs, self.outputs)?;
        self.check_room(y.len() / self.outputs)?;
        self.x.extend_from_slice(x);
        self.y.extend_from_slice(y);
        Ok(())
    }

    /// Appends the rows that `other` has seen.
    ///
    /// # Errors
    /// When the dimensions differ or the rows would outgrow their memory limit.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        check_same((self.inputs, self.outputs), (other.inputs, other.outputs))?;
        self.check_room(other.rows())?;
        self.x.extend_from_slice(&other.x);
        self.y.extend_from_slice(&other.y);
        Ok(())
    }

    fn check_room(&self, extra: usize) -> Result<()> {
        let rows = self.rows() + extra;
        match Self::bytes(rows, self.inputs, self.outputs) {
            Some(bytes) if bytes <= self.max_bytes as u128 => Ok(()),
            _ => Err(too_large(rows, self.inputs, self.outputs, self.max_bytes)),
        }
    }

    /// The rows about their mean.
    ///
    /// # Errors
    /// When no row was pushed.
    pub fn centred(self) -> Result<CentredRows> {
        let rows = self.rows();
        if rows == 0 {
            return Err(no_rows());
        }
        let (mean_x, x) = centre(&self.x, rows, self.inputs);
        let (mean_y, y) = centre(&self.y, rows, self.outputs);
        let energy = (0..y.ncols()).map(|j| y.col_as_slice(j).iter().map(|v| v * v).sum::<f64>());
        let energy = energy.sum();
        Ok(CentredRows { mean_x, mean_y, x, y, energy })
    }
}

/// Column means of a row-major matrix, and the matrix without them.
fn centre(values: &[f32], rows: usize, columns: usize) -> (Vec<f64>, Mat<f64>) {
    let mut mean = vec![0.0; columns];
    for row in values.chunks_exact(columns) {
        for (m, &v) in mean.iter_mut().zip(row) {
            *m += f64::from(v);
        }
    }
    for m in &mut mean {
        *m /= rows as f64;
    }
    let values = MatRef::from_row_major_slice(values, rows, columns);
    let centred = Mat::from_fn(rows, columns, |i, j| f64::from(values[(i, j)]) - mean[j]);
    (mean, centred)
}

pub(super) fn too_large(rows: usize, inputs: usize, outputs: usize, max_bytes: usize) -> Error {
    Error::invalid(format!(
        "{rows} calibration rows of {inputs} inputs and {outputs} outputs need more than {} MiB",
        max_bytes >> 20
    ))
    .hint("sample fewer rows per layer, or allow more memory")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn centres_and_limits_memory() {
        let mut rows = Rows::new(3, 1, 8 * 4 * 2).unwrap();
        rows.push(&[1.0, 2.0, 3.0, 3.0, 2.0, 1.0], &[4.0, 8.0]).unwrap();
        let error = rows.push(&[0.0, 0.0, 0.0], &[0.0]).unwrap_err();
        assert!(error.hint_text().is_some());
        assert!(rows.clone().merge(&rows).is_err());
        let centred = rows.centred().unwrap();
        assert_eq!(centred.mean_x, [2.0, 2.0, 2.0]);
        assert_eq!(centred.x[(1, 0)], 1.0);
        assert_eq!(centred.energy, 8.0);
    }

    #[test]
    fn needs_rows() {
        assert!(Rows::new(1, 0, 100).is_err());
        assert!(Rows::new(1, 1, 100).unwrap().centred().is_err());
    }
}
