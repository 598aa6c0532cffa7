//! The least-squares fit of a convolution in a given form.

use super::forms::Form;
use crate::factor::{ReducedRank, rectified, reduced_rank};
use crate::held_out::error_on;
use crate::model::problems::LayerProblems;
use crate::problem::Problem;
use crate::reconstruct::reconstruct;
use crate::{Reconstruction, Spatial, best_ridge};
use faer::Mat;
use tensor_core::calibrate::CentredRows;
use tensor_core::{Error, Result};

/// The weights of a form, and the convolution that they are together.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    /// The composed weight and the bias.
    pub(super) whole: Reconstruction,
    /// Weights of the convolutions in order, each `outputs x inputs` row-major.
    pub(super) factors: Vec<Vec<f32>>,
}

/// A convolution that is to be fitted, with what all its forms share.
pub(super) struct Fit<'a> {
    all: &'a Problem,
    halves: &'a [Problem; 2],
    /// The ridge that does best on held-out rows of the whole layer.
    ridge: f64,
    /// The whole layer on each half.
    full: [Reconstruction; 2],
    /// Factors of every rank, of the weight as it is; none where there is nothing to factorize.
    spatial: Option<Spatial>,
}

impl<'a> Fit<'a> {
    /// Takes the problems and the weight `(n, c, kh, kw)` of a convolution without groups; `least` is
    /// the least ridge.
    ///
    /// # Errors
    /// When the statistics are not finite.
    pub(super) fn new(
        problems: &'a LayerProblems,
        weight: &[f32],
        sizes: [usize; 4],
        least: f64,
    ) -> Result<Self> {
        let parts = problems.all.first().zip(problems.halves.first());
        let (all, halves) = parts.ok_or_else(|| Error::internal("a layer has no problem"))?;
        let (ridge, _) = best_ridge(std::slice::from_ref(halves), &[], least)?;
        let [even, odd] = halves;
        let full = [reconstruct(even, &[], ridge)?, reconstruct(odd, &[], ridge)?];
        let [_, _, kh, kw] = sizes;
        let spatial = (kh > 1 && kw > 1).then(|| Spatial::new(weight, sizes)).transpose()?;
        Ok(Self { all, halves, ridge, full, spatial })
    }

    /// Held-out error of a form, by fitting each half and judging on the other.
    pub(super) fn held_out(&self, form: Form) -> Result<f64> {
        let (mut error, mut energy) = (0.0, 0.0);
        for (fit, judge) in [(0, 1), (1, 0)] {
            let judge = &self.halves[judge];
            let fitted = self.on(&self.halves[fit], &self.full[fit], form, None)?;
            error += error_on(judge, &fitted.whole) * judge.energy();
            energy += judge.energy();
        }
        Ok(if energy > 0.0 { error / energy } else { 0.0 })
    }

    /// The fit on all rows; `rows` are those of the layer's input and original response where a ReLU
    /// follows.
    pub(super) fn solve(&self, form: Form, rows: Option<&CentredRows>) -> Result<Fitted> {
        self.on(self.all, &reconstruct(self.all, &[], self.ridge)?, form, rows)
    }

    /// The fit on even blocks of samples alone.
    pub(super) fn even(&self, form: Form) -> Result<Fitted> {
        self.on(&self.halves[0], &self.full[0], form, None)
    }

    /// The error of a fit on all rows.
    pub(super) fn error(&self, fitted: &Fitted) -> f64 {
        error_on(self.all, &fitted.whole)
    }

    fn on(
        &self,
        problem: &Problem,
        full: &Reconstruction,
        form: Form,
        rows: Option<&CentredRows>,
    ) -> Result<Fitted> {
        match form {
            Form::Whole => Ok(Fitted { whole: full.clone(), factors: vec![full.weight.clone()] }),
            Form::Channel { rank } => {
                let found = self.narrowed(problem, full, rank, rows, None)?;
                Ok(Fitted { whole: found.reconstruction(), factors: factors_of(&found) })
            }
            Form::Spatial { rank } => {
                let (vertical, transform, _, solved) = self.split(problem, rank)?;
                let whole = composed(&transform, &solved);
                Ok(Fitted { whole, factors: vec![vertical, solved.weight] })
            }
            Form::Both { spatial, channel } => {
                let (vertical, transform, thin, solved) = self.split(problem, spatial)?;
                let found = self.narrowed(&thin, &solved, channel, rows, Some(&transform))?;
                let mut factors = vec![vertical];
                factors.extend(factors_of(&found));
                Ok(Fitted { whole: composed(&transform, &found.reconstruction()), factors })
            }
        }
    }

    /// The vertical convolution from the decomposition of the weight as it is, and the horizontal one
    /// refitted on what the former gives.
    fn split(
        &self,
        problem: &Problem,
        rank: usize,
    ) -> Result<(Vec<f32>, Mat<f64>, Problem, Reconstruction)> {
        let spatial = self.spatial.as_ref();
        let spatial = spatial.ok_or_else(|| Error::internal("a kernel with one axis"))?;
        let factors = spatial.truncated(rank);
        let transform = factors.transform();
        let thin = problem.transformed(&transform, &factors.horizontal_weight())?;
        let solved = reconstruct(&thin, &[], self.ridge)?;
        Ok((factors.vertical_weight(), transform, thin, solved))
    }

    /// A layer of reduced rank, improved for the ReLU behind it where rows are given.
    fn narrowed(
        &self,
        problem: &Problem,
        full: &Reconstruction,
        rank: usize,
        rows: Option<&CentredRows>,
        transform: Option<&Mat<f64>>,
    ) -> Result<ReducedRank> {
        let start = reduced_rank(problem, full, rank)?;
        let Some(rows) = rows else { return Ok(start) };
        let x = transform.map_or_else(|| rows.x.clone(), |transform| &rows.x * transform);
        let mean: Vec<f64> = match transform {
            None => rows.mean_x.clone(),
            Some(t) => (0..t.ncols())
                .map(|j| (0..t.nrows()).map(|i| rows.mean_x[i] * t[(i, j)]).sum())
                .collect(),
        };
        let n = full.intercept.len();
        let p = full.columns.len();
        let weight = Mat::from_fn(p, n, |i, o| f64::from(full.weight[o * p + i]));
        let shift: Vec<f64> = (0..n)
            .map(|o| {
                let of_mean: f64 = (0..p).map(|i| mean[i] * weight[(i, o)]).sum();
                of_mean + f64::from(full.intercept[o])
            })
            .collect();
        let mut now = x * &weight;
        for (o, shift) in shift.iter().enumerate() {
            now.col_mut(o).iter_mut().for_each(|y| *y += shift);
        }
        let original = Mat::from_fn(rows.y.nrows(), n, |s, o| rows.y[(s, o)] + rows.mean_y[o]);
        rectified(full, start, now.as_ref(), original.as_ref())
    }
}

/// The narrow weight and the mixture, each `outputs x inputs` row-major.
fn factors_of(found: &ReducedRank) -> Vec<Vec<f32>> {
    let (p, d) = (found.narrow.nrows(), found.narrow.ncols());
    let n = found.mixture.nrows();
    vec![
        (0..d * p).map(|i| found.narrow[(i % p, i / p)] as f32).collect(),
        (0..n * d).map(|i| found.mixture[(i / d, i % d)] as f32).collect(),
    ]
}

/// A fit on transformed columns as one on the original columns.
fn composed(transform: &Mat<f64>, thin: &Reconstruction) -> Reconstruction {
    let (p, q) = (transform.nrows(), transform.ncols());
    let n = thin.intercept.len();
    let weight = Mat::from_fn(q, n, |i, o| f64::from(thin.weight[o * q + i]));
    let whole = transform * &weight;
    Reconstruction {
        columns: (0..p).collect(),
        weight: (0..n * p).map(|i| whole[(i % p, i / p)] as f32).collect(),
        ..thin.clone()
    }
}
