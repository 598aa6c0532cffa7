//! Least-squares reconstruction of the responses from the kept channels.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use tensor_core::{Error, Result};

use crate::linalg::{
    add_outer_lower, energy, gather, gather_columns, gather_rows, inner, mirror_lower, singular,
    solve_semidefinite,
};
use crate::problem::{CentredStatistics, Problem, membership};

/// New weights of a layer that reads only the kept channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconstruction {
    /// The kept columns of `X`, ascending: those of the kept channels and those nobody owns.
    pub columns: Vec<usize>,
    /// `W'`, `n x columns.len()` row-major.
    pub weight: Vec<f32>,
    /// The intercept, length `n`. Since `Y` is taken before the bias, the new bias is the old bias
    /// plus this.
    pub intercept: Vec<f32>,
    /// Squared error on the sample over the energy of the centred responses; zero when the
    /// responses do not vary.
    pub relative_error: f64,
}

/// Solves `min |Y - X_K W'^T - 1 b^T|^2 + ridge |W' - W_K|^2` over `W'` and `b` (the `W` step of He
/// et al. 2017, with an intercept).
///
/// `kept` are channels in any order; `ridge` is relative to the mean diagonal entry of the centred
/// `G`. The ridge pulls towards the original weights, so a direction that the sample does not
/// excite keeps them, and with all channels kept and `Y = X W^T` the original weights come back.
/// A singular system (with `ridge` zero) is solved by its pseudo-inverse.
///
/// # Errors
/// When a channel is out of range or named twice, the ridge is not a finite number >= 0, or the
/// statistics are not finite.
pub fn reconstruct(problem: &Problem, kept: &[usize], ridge: f64) -> Result<Reconstruction> {
    System::new(problem, kept)?.solve(ridge)
}

pub(crate) fn check_ridge(ridge: f64) -> Result<()> {
    if !(ridge >= 0.0 && ridge.is_finite()) {
        return Err(Error::invalid(format!("the ridge is {ridge}"))
            .hint("give a small number such as 1e-6"));
    }
    Ok(())
}

/// The least-squares system of the kept channels, to be solved for any number of ridges.
pub(crate) struct System<'a> {
    problem: &'a Problem,
    columns: Vec<usize>,
    /// `W_K^T`, the original weights.
    weight: Mat<f64>,
    form: Form,
}

/// The unknown is the change `D` of the weights, towards the residual of the original weights.
enum Form {
    /// `(G_K + ridge) D = R_K - G_K W_K^T`.
    Normal {
        gram: Mat<f64>,
        gradient: Mat<f64>,
        /// Squared error of the original weights.
        before: f64,
    },
    /// `D = X_K^T (X_K X_K^T + ridge)^-1 (Y - X_K W_K^T)`, for fewer rows than columns.
    Kernel { x: Mat<f64>, kernel: Mat<f64>, residual: Mat<f64> },
}

impl<'a> System<'a> {
    pub(crate) fn new(problem: &'a Problem, kept: &[usize]) -> Result<Self> {
        membership(kept, problem.channels())?;
        let columns = problem.kept_columns(kept);
        let weight = gather_rows((*problem.weight).as_ref(), &columns);
        let form = match &*problem.statistics {
            CentredStatistics::Primal(s) => {
                let gram = gather(s.gram.as_ref(), &columns, &columns);
                let cross = gather_rows(s.cross.as_ref(), &columns);
                Form::normal(gram, cross, &weight, s.energy)
            }
            CentredStatistics::Dual(s) => {
                let x = gather_columns(s.x.as_ref(), &columns);
                if columns.len() <= x.nrows() {
                    Form::normal(outer(x.transpose()), x.transpose() * &s.y, &weight, s.energy)
                } else {
                    let mut residual = s.y.clone();
                    matmul(residual.as_mut(), Accum::Add, &x, &weight, -1.0, Par::Seq);
                    Form::Kernel { kernel: outer(x.as_ref()), x, residual }
                }
            }
        };
        Ok(Self { problem, columns, weight, form })
    }

    /// The solution for a ridge relative to the mean diagonal entry of the centred `G`.
    pub(crate) fn solve(&self, ridge: f64) -> Result<Reconstruction> {
        check_ridge(ridge)?;
        let lambda = self.problem.absolute_ridge(ridge);
        let (change, error) = self.form.change(lambda)?;
        let weight = &self.weight + change;
        let mean_x: Vec<f64> = self.columns.iter().map(|&c| self.problem.mean_x()[c]).collect();
        let (p, n) = (self.columns.len(), self.problem.outputs());
        let mut flat = Vec::with_capacity(p * n);
        let mut intercept = Vec::with_capacity(n);
        for o in 0..n {
            let row = weight.col_as_slice(o);
            flat.extend(row.iter().map(|&w| w as f32));
            let shift: f64 = row.iter().zip(&mean_x).map(|(w, m)| w * m).sum();
            intercept.push((self.problem.mean_y()[o] - shift) as f32);
        }
        if flat.iter().chain(&intercept).any(|v| !v.is_finite()) {
            return Err(singular());
        }
        let relative_error = self.relative(error);
        Ok(Reconstruction {
            columns: self.columns.clone(),
            weight: flat,
            intercept,
            relative_error,
        })
    }

    /// Squared error of the original weights with the best intercept, relative as
    /// [`Reconstruction::relative_error`].
    pub(crate) fn unfitted_error(&self) -> f64 {
        let error = match &self.form {
            Form::Normal { before, .. } => *before,
            Form::Kernel { residual, .. } => energy(residual.as_ref()),
        };
        self.relative(error)
    }

    fn relative(&self, error: f64) -> f64 {
        let total = self.problem.energy();
        if total > 0.0 { error.max(0.0) / total } else { 0.0 }
    }
}

impl Form {
    fn normal(gram: Mat<f64>, cross: Mat<f64>, weight: &Mat<f64>, energy: f64) -> Self {
        let predicted = &gram * weight;
        let before = energy - 2.0 * inner(weight.as_ref(), cross.as_ref())
            + inner(weight.as_ref(), predicted.as_ref());
        Self::Normal { gram, gradient: cross - predicted, before }
    }

    /// The change of the weights, and the squared error on the sample after it.
    fn change(&self, ridge: f64) -> Result<(Mat<f64>, f64)> {
        let solve = |matrix: &Mat<f64>, right: &Mat<f64>| {
            let mut matrix = matrix.clone();
            for i in 0..matrix.nrows() {
                matrix[(i, i)] += ridge;
            }
            solve_semidefinite(matrix.as_ref(), right.as_ref()).ok_or_else(singular)
        };
        match self {
            Self::Normal { gram, gradient, before } => {
                let change = solve(gram, gradient)?;
                // With (G + ridge) D = gradient the error falls by <D, gradient> + ridge |D|^2.
                let gain =
                    inner(change.as_ref(), gradient.as_ref()) + ridge * energy(change.as_ref());
                Ok((change, before - gain))
            }
            Self::Kernel { x, kernel, residual } => {
                let change = x.transpose() * solve(kernel, residual)?;
                let left = residual - x * &change;
                Ok((change, energy(left.as_ref())))
            }
        }
    }
}

/// `a a^T`.
fn outer(a: MatRef<'_, f64>) -> Mat<f64> {
    let mut product = Mat::zeros(a.nrows(), a.nrows());
    add_outer_lower(product.as_mut(), a, 1.0);
    mirror_lower(&mut product);
    product
}
