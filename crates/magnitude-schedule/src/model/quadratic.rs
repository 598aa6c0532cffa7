//! The squared error of a layer's responses as a function of its weight.

use super::linear::{singular, solve};
use faer::linalg::matmul::matmul;
use faer::prelude::Solve;
use faer::{Accum, Mat, MatRef, Par, Side};
use tensor_core::Result;
use tensor_core::calibrate::Statistics;

/// `|Y - X W|^2 + ridge |W - W0|^2` about the means, for one group of a layer: `W` is `p x n`, a
/// column per output.
pub(super) struct Quadratic {
    form: Form,
    mean_x: Vec<f64>,
    mean_y: Vec<f64>,
    /// `|Y|^2` about the mean.
    pub(super) energy: f64,
    /// Number of rows.
    pub(super) rows: usize,
    ridge: f64,
}

enum Form {
    /// `X^T X` and `X^T Y`.
    Moments { gram: Mat<f64>, cross: Mat<f64> },
    /// `X` and `Y`, of fewer rows than columns.
    Rows { x: Mat<f64>, y: Mat<f64> },
}

/// Rows per input below which the sample says too little about the error on other data; the ridge is
/// then raised in proportion.
const ENOUGH_ROWS: f64 = 16.0;

impl Quadratic {
    /// From the statistics of even and odd blocks of samples; the ridge is relative to the mean variance.
    pub(super) fn new([mut statistics, odd]: [Statistics; 2], ridge: f64) -> Result<Self> {
        statistics.merge(&odd)?;
        let p = statistics.inputs() as f64;
        let rows = statistics.rows();
        let scarcity = (ENOUGH_ROWS * p / rows.max(1) as f64).max(1.0);
        let absolute = |trace: f64, least: f64| match trace > 0.0 {
            true => (ridge * scarcity * trace / p).max(least),
            false => 1.0,
        };
        Ok(match statistics {
            Statistics::Moments(moments) => {
                let s = moments.centred()?;
                let trace = (0..s.gram.nrows()).map(|i| s.gram[(i, i)]).sum();
                Self {
                    ridge: absolute(trace, s.rounding),
                    form: Form::Moments { gram: s.gram, cross: s.cross },
                    mean_x: s.mean_x,
                    mean_y: s.mean_y,
                    energy: s.energy,
                    rows,
                }
            }
            Statistics::Rows(all) => {
                let s = all.centred()?;
                let trace = (0..s.x.ncols()).map(|j| square(s.x.col_as_slice(j))).sum();
                Self {
                    ridge: absolute(trace, 0.0),
                    form: Form::Rows { x: s.x, y: s.y },
                    mean_x: s.mean_x,
                    mean_y: s.mean_y,
                    energy: s.energy,
                    rows,
                }
            }
        })
    }

    /// Number of columns of `X`.
    pub(super) fn inputs(&self) -> usize {
        self.mean_x.len()
    }

    /// Number of columns of `Y`.
    pub(super) fn outputs(&self) -> usize {
        self.mean_y.len()
    }

    /// `X^T X + ridge`, formed.
    pub(super) fn hessian(&self) -> Mat<f64> {
        let mut hessian = match &self.form {
            Form::Moments { gram, .. } => gram.clone(),
            Form::Rows { x, .. } => product(x.transpose(), x.as_ref()),
        };
        for i in 0..hessian.nrows() {
            hessian[(i, i)] += self.ridge;
        }
        hessian
    }

    /// `(X^T X + ridge) W`.
    pub(super) fn apply(&self, w: MatRef<'_, f64>) -> Mat<f64> {
        let mut result = match &self.form {
            Form::Moments { gram, .. } => product(gram.as_ref(), w),
            Form::Rows { x, .. } => product(x.transpose(), product(x.as_ref(), w).as_ref()),
        };
        for j in 0..w.ncols() {
            let column = result.col_as_slice_mut(j);
            column.iter_mut().zip(w.col(j).iter()).for_each(|(r, w)| *r += self.ridge * w);
        }
        result
    }

    /// `X^T Y + ridge W0`, what [`apply`](Self::apply) gives at the minimum.
    pub(super) fn target(&self, original: MatRef<'_, f64>) -> Mat<f64> {
        let mut target = match &self.form {
            Form::Moments { cross, .. } => cross.clone(),
            Form::Rows { x, y } => product(x.transpose(), y.as_ref()),
        };
        for j in 0..target.ncols() {
            let column = target.col_as_slice_mut(j);
            column.iter_mut().zip(original.col(j).iter()).for_each(|(t, w)| *t += self.ridge * w);
        }
        target
    }

    /// The diagonal of `X^T X + ridge`.
    pub(super) fn diagonal(&self) -> Vec<f64> {
        (0..self.inputs())
            .map(|i| {
                self.ridge
                    + match &self.form {
                        Form::Moments { gram, .. } => gram[(i, i)],
                        Form::Rows { x, .. } => square(x.col_as_slice(i)),
                    }
            })
            .collect()
    }

    /// The diagonal of the inverse of `X^T X + ridge`; of fewer rows than columns by the identity of
    /// Woodbury, `1/ridge (1 - x_i^T (ridge + X X^T)^-1 x_i)`.
    pub(super) fn inverse_diagonal(&self) -> Result<Vec<f64>> {
        match &self.form {
            Form::Moments { .. } => {
                let inverse = super::linear::inverse(self.hessian().as_ref())?;
                Ok((0..inverse.nrows()).map(|i| inverse[(i, i)]).collect())
            }
            Form::Rows { x, .. } => {
                let mut kernel = product(x.as_ref(), x.transpose());
                for i in 0..kernel.nrows() {
                    kernel[(i, i)] += self.ridge;
                }
                let solved = kernel.llt(Side::Lower).map_err(|_| singular())?.solve(x);
                let share = |i: usize| {
                    let pairs = x.col_as_slice(i).iter().zip(solved.col_as_slice(i));
                    pairs.map(|(a, b)| a * b).sum::<f64>()
                };
                Ok((0..x.ncols()).map(|i| (1.0 - share(i)).max(1e-12) / self.ridge).collect())
            }
        }
    }

    /// The weight without any constraint.
    pub(super) fn minimum(&self, original: MatRef<'_, f64>) -> Result<Mat<f64>> {
        if let Form::Rows { x, y } = &self.form
            && x.nrows() < x.ncols()
        {
            let mut residual = y.clone();
            matmul(residual.as_mut(), Accum::Add, x, original, -1.0, Par::Seq);
            let mut kernel = product(x.as_ref(), x.transpose());
            for i in 0..kernel.nrows() {
                kernel[(i, i)] += self.ridge;
            }
            return Ok(original + x.transpose() * solve(kernel.as_ref(), residual.as_ref())?);
        }
        solve(self.hessian().as_ref(), self.target(original).as_ref())
    }

    /// `sum |y - x w - b|^2` over the rows, `b` the given bias or the best one, which takes the
    /// difference of the means.
    pub(super) fn error(&self, w: MatRef<'_, f64>, bias: Option<&[f64]>) -> f64 {
        let centred = match &self.form {
            Form::Moments { gram, cross } => {
                let predicted = product(gram.as_ref(), w);
                self.energy - 2.0 * inner(w, cross.as_ref()) + inner(w, predicted.as_ref())
            }
            Form::Rows { x, y } => {
                let left = y - x * w;
                inner(left.as_ref(), left.as_ref())
            }
        };
        let shift: f64 = bias.map_or(0.0, |bias| {
            let best = self.intercept(w);
            best.iter().zip(bias).map(|(best, bias)| (best - bias).powi(2)).sum()
        });
        centred.max(0.0) + shift * self.rows as f64
    }

    /// The bias that fits a weight: `mean y - mean x W`.
    pub(super) fn intercept(&self, w: MatRef<'_, f64>) -> Vec<f64> {
        let of = |j: usize| {
            let shift: f64 = w.col(j).iter().zip(&self.mean_x).map(|(w, m)| w * m).sum();
            self.mean_y[j] - shift
        };
        (0..self.outputs()).map(of).collect()
    }
}

fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut result = Mat::zeros(a.nrows(), b.ncols());
    matmul(result.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    result
}

fn square(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum()
}

fn inner(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    (0..a.ncols())
        .map(|j| a.col(j).iter().zip(b.col(j).iter()).map(|(x, y)| x * y).sum::<f64>())
        .sum()
}
