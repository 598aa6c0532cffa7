//! The choice between moments and rows.

use super::Moments;
use super::checks::check_dimensions;
use super::rows::{Rows, too_large};
use crate::{Error, Result};

/// When to keep rows instead of moments, and how much memory a layer's statistics may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatisticsLimits {
    /// Most input columns for which `G = X^T X` is formed.
    pub max_gram_columns: usize,
    /// Most bytes of one layer's statistics.
    pub max_bytes: usize,
}

impl Default for StatisticsLimits {
    /// 4,608 columns (a 3 x 3 convolution of 512 channels, where `G` takes 170 MB) and 1 GiB.
    fn default() -> Self {
        Self { max_gram_columns: 4608, max_bytes: 1 << 30 }
    }
}

/// Rows for each column from which on rounding is far below what sampling leaves open; with fewer the
/// moments are nearly singular.
const SPARE_ROWS: usize = 4;

/// Rows with which the moments are made fast enough without rounding.
const LEAST_ROWS: usize = 4096;

/// Statistics of one layer in whichever form is smaller.
#[derive(Debug, Clone)]
pub enum Statistics {
    /// Second moments.
    Moments(Moments),
    /// The rows themselves.
    Rows(Rows),
}

impl Statistics {
    /// Empty statistics of a layer with `inputs` input columns and `outputs` responses, of which
    /// about `expected_rows` rows will be pushed.
    ///
    /// Rows are kept when there are more input columns than expected rows, or more than
    /// `limits.max_gram_columns`; moments otherwise, [blocked](Moments::blocked) where there are
    /// several times as many rows as columns.
    ///
    /// # Errors
    /// When a dimension is zero or the statistics would take more than `limits.max_bytes`.
    pub fn new(
        inputs: usize,
        outputs: usize,
        expected_rows: usize,
        limits: StatisticsLimits,
    ) -> Result<Self> {
        check_dimensions(inputs, outputs)?;
        let keep_rows = inputs > expected_rows || inputs > limits.max_gram_columns;
        let bytes = if keep_rows {
            Rows::bytes(expected_rows, inputs, outputs)
        } else {
            Moments::bytes(inputs, outputs)
        };
        if bytes.is_none_or(|bytes| bytes > limits.max_bytes as u128) {
            return Err(too_large(expected_rows, inputs, outputs, limits.max_bytes));
        }
        Ok(if keep_rows {
            Self::Rows(Rows::new(inputs, outputs, limits.max_bytes)?)
        } else {
            let moments = Moments::new(inputs, outputs)?;
            let spare = expected_rows >= LEAST_ROWS.max(SPARE_ROWS * inputs);
            Self::Moments(if spare { moments.blocked() } else { moments })
        })
    }

    /// Adds a block of rows: `x` is `s x p` and `y` is `s x n`, both row-major.
    ///
    /// # Errors
    /// See [`Moments::push`] and [`Rows::push`].
    pub fn push(&mut self, x: &[f32], y: &[f32]) -> Result<()> {
        match self {
            Self::Moments(moments) => moments.push(x, y),
            Self::Rows(rows) => rows.push(x, y),
        }
    }

    /// Adds the statistics of other rows of the same layer.
    ///
    /// # Errors
    /// When the forms or dimensions differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        match (self, other) {
            (Self::Moments(mine), Self::Moments(other)) => mine.merge(other),
            (Self::Rows(mine), Self::Rows(other)) => mine.merge(other),
            _ => Err(Error::invalid("moments and rows cannot be merged")),
        }
    }

    /// Number of rows seen.
    pub fn rows(&self) -> usize {
        match self {
            Self::Moments(moments) => moments.rows(),
            Self::Rows(rows) => rows.rows(),
        }
    }

    /// Number of input columns `p`.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Moments(moments) => moments.inputs(),
            Self::Rows(rows) => rows.inputs(),
        }
    }

    /// Number of responses `n`.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Moments(moments) => moments.outputs(),
            Self::Rows(rows) => rows.outputs(),
        }
    }
}

impl From<Moments> for Statistics {
    fn from(moments: Moments) -> Self {
        Self::Moments(moments)
    }
}

impl From<Rows> for Statistics {
    fn from(rows: Rows) -> Self {
        Self::Rows(rows)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn form_follows_the_dimensions() {
        let limits = StatisticsLimits { max_gram_columns: 100, max_bytes: 1 << 20 };
        let is_rows =
            |p, rows| matches!(Statistics::new(p, 4, rows, limits).unwrap(), Statistics::Rows(_));
        assert!(!is_rows(50, 1000));
        assert!(is_rows(50, 49));
        assert!(is_rows(101, 1000));
        assert!(Statistics::new(101, 4, 10_000, limits).is_err());
        assert!(Statistics::new(0, 4, 10, limits).is_err());
    }
}
