//! One layer: which weights go, and what the others become.

use super::exact::Exact;
use super::linear::solve;
use super::quadratic::Quadratic;
use super::wide;
use crate::Pattern;
use crate::candidates::Candidates;
use crate::layout::{Grid, Layout};
use faer::Mat;
use rayon::prelude::*;
use tensor_core::calibrate::LinearShape;
use tensor_core::{Error, Result};

/// The error of a layer, group by group, and the weight that it has now.
pub(super) struct Fit {
    pub(super) problems: Vec<Quadratic>,
    /// The weight of each group, `p x n`.
    pub(super) original: Vec<Mat<f64>>,
    /// What is not zero and may stay, `outputs x p`, all groups.
    pub(super) nonzero: Vec<bool>,
    pub(super) grid: Grid,
    pub(super) shape: LinearShape,
    pub(super) pattern: Pattern,
}

/// What stays and what it becomes.
pub(super) struct Solved {
    /// The weight of each group, `p x n`, zero where it is masked.
    pub(super) weights: Vec<Mat<f64>>,
    /// `outputs x p`, all groups.
    pub(super) keep: Vec<bool>,
}

/// Multiply-adds of exact elimination that one layer may take: some seconds.
const EXACT_WORK: f64 = 3e10;

impl Fit {
    /// From statistics by group and the weight as rows, `outputs x p`.
    pub(super) fn new(
        problems: Vec<Quadratic>,
        rows: &[f32],
        shape: LinearShape,
        pattern: Pattern,
    ) -> Result<Self> {
        let (p, n) = (shape.columns(), shape.group_outputs());
        if rows.len() != shape.outputs * p || problems.len() != shape.groups {
            return Err(Error::internal("a weight of another shape than its layer"));
        }
        let group = |g: usize| Mat::from_fn(p, n, |i, j| f64::from(rows[(g * n + j) * p + i]));
        let taps = shape.taps;
        let layout = Layout::GroupedOutputsFirst { groups: shape.groups };
        let grid = layout.grid(&[shape.outputs, p / taps.max(1), taps])?;
        let original = (0..shape.groups).map(group).collect();
        let nonzero = rows.iter().map(|&value| value != 0.0).collect();
        Ok(Self { problems, original, nonzero, grid, shape, pattern })
    }

    /// Is elimination of one unit at a time affordable?
    fn is_exact(&self) -> bool {
        let p = self.shape.columns() as f64;
        self.shape.outputs as f64 * p * p * p / 6.0 <= EXACT_WORK
    }

    /// Keeps everything but what is zero already, and fits it.
    pub(super) fn dense(&self) -> Result<Solved> {
        let problems = self.problems.iter().zip(&self.original);
        let weights = if self.nonzero.iter().all(|&keep| keep) {
            problems.map(|(problem, w)| problem.minimum(w.as_ref())).collect::<Result<_>>()?
        } else if self.is_exact() {
            self.fitted(&self.nonzero)?
        } else {
            wide::fitted(self, &self.original, &self.nonzero)
        };
        Ok(Solved { weights, keep: self.nonzero.clone() })
    }

    /// The best weights under a mask: `H_KK w_K` is the target there, for the places `K` that each
    /// output keeps.
    pub(super) fn fitted(&self, keep: &[bool]) -> Result<Vec<Mat<f64>>> {
        let (p, n) = (self.shape.columns(), self.shape.group_outputs());
        let mut fitted = Vec::new();
        for (g, (problem, original)) in self.problems.iter().zip(&self.original).enumerate() {
            let (hessian, target) = (problem.hessian(), problem.target(original.as_ref()));
            let solved = (0..n).into_par_iter().map(|j| {
                let row = &keep[(g * n + j) * p..][..p];
                let kept: Vec<usize> = (0..p).filter(|&i| row[i]).collect();
                let mut column = vec![0.0; p];
                if kept.is_empty() {
                    return Ok(column);
                }
                let part = Mat::from_fn(kept.len(), kept.len(), |a, b| hessian[(kept[a], kept[b])]);
                let right = Mat::from_fn(kept.len(), 1, |a, _| target[(kept[a], j)]);
                let values = solve(part.as_ref(), right.as_ref())?;
                kept.iter().enumerate().for_each(|(a, &i)| column[i] = values[(a, 0)]);
                Ok(column)
            });
            let columns = solved.collect::<Result<Vec<Vec<f64>>>>()?;
            fitted.push(Mat::from_fn(p, n, |i, j| columns[j][i]));
        }
        Ok(fitted)
    }

    /// A mask without what is zero already.
    pub(super) fn and_nonzero(&self, mut keep: Vec<bool>) -> Vec<bool> {
        keep.iter_mut().zip(&self.nonzero).for_each(|(keep, nonzero)| *keep &= nonzero);
        keep
    }

    /// Masks the smallest magnitudes and leaves the others as they are.
    pub(super) fn magnitude(&self, count: usize) -> Result<Solved> {
        let scores = self.by_row(|g, i, j| self.original[g][(i, j)].abs() as f32);
        let candidates = Candidates::new(&scores, self.grid, self.pattern, Some(&self.nonzero))?;
        let keep = self.and_nonzero(candidates.without(count));
        Ok(Solved { weights: self.masked(&keep), keep })
    }

    /// The original weights under a mask, without compensation.
    pub(super) fn masked(&self, keep: &[bool]) -> Vec<Mat<f64>> {
        let (p, n) = (self.shape.columns(), self.shape.group_outputs());
        let group = |(g, original): (usize, &Mat<f64>)| {
            Mat::from_fn(
                p,
                n,
                |i, j| if keep[(g * n + j) * p + i] { original[(i, j)] } else { 0.0 },
            )
        };
        self.original.iter().enumerate().map(group).collect()
    }

    /// Prepares the removal of weights by what it costs.
    pub(super) fn compensated(&self) -> Result<Compensated<'_>> {
        Ok(match self.is_exact() {
            true => Compensated::Exact(Exact::new(self)?),
            false => Compensated::Wide(self),
        })
    }

    /// A number per weight in the order of the rows, from group, column and output of the group.
    pub(super) fn by_row(&self, value: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
        let (p, n) = (self.shape.columns(), self.shape.group_outputs());
        (0..self.grid.count()).map(|at| value(at / p / n, at % p, at / p % n)).collect()
    }

    /// The error of weights relative to the energy of the responses, with the given bias or the best
    /// one; 0 where the responses do not vary.
    pub(super) fn error(&self, weights: &[Mat<f64>], bias: Option<&[f64]>) -> f64 {
        let n = self.shape.group_outputs();
        let (mut error, mut energy) = (0.0, 0.0);
        for (g, (problem, w)) in self.problems.iter().zip(weights).enumerate() {
            error += problem.error(w.as_ref(), bias.map(|bias| &bias[g * n..(g + 1) * n]));
            energy += problem.energy;
        }
        if energy > 0.0 { error / energy } else { 0.0 }
    }

    /// The biases that fit weights, all groups.
    pub(super) fn intercept(&self, weights: &[Mat<f64>]) -> Vec<f64> {
        let problems = self.problems.iter().zip(weights);
        problems.flat_map(|(problem, w)| problem.intercept(w.as_ref())).collect()
    }
}

/// A layer whose weights can be removed.
pub(super) enum Compensated<'a> {
    /// One unit at a time.
    Exact(Exact<'a>),
    /// Many at a time.
    Wide(&'a Fit),
}

impl Compensated<'_> {
    /// Removes `count` weights, and lets the others make up for them.
    pub(super) fn without(&self, count: usize) -> Result<Solved> {
        match self {
            Self::Exact(exact) => exact.without(count),
            Self::Wide(fit) => wide::without(fit, count),
        }
    }
}
