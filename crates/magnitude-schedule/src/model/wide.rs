//! Layers too large to remove one unit at a time: in a few rounds the units with the least
//! `w^2 / [H^-1]_jj` go, and conjugate gradients let the others make up for them.

use super::fit::{Fit, Solved};
use super::quadratic::Quadratic;
use crate::candidates::Candidates;
use faer::{Mat, MatRef};
use rayon::prelude::*;
use tensor_core::Result;

/// Rounds in which weights go, more in the first ones, as in a polynomial schedule.
const ROUNDS: usize = 4;

/// Steps of conjugate gradients after each round, from the weights of the round before.
const STEPS: usize = 24;

/// Outputs that one task solves for. It does not depend on the number of threads, so the result does
/// not either.
const PANEL: usize = 32;

/// Removes `count` weights.
pub(super) fn without(fit: &Fit, count: usize) -> Result<Solved> {
    let (p, n) = (fit.shape.columns(), fit.shape.group_outputs());
    let inverses =
        fit.problems.iter().map(Quadratic::inverse_diagonal).collect::<Result<Vec<_>>>()?;
    let mut weights = fit.dense()?.weights;
    let mut keep = fit.nonzero.clone();
    for round in 1..=ROUNDS {
        let left = 1.0 - round as f64 / ROUNDS as f64;
        let gone = (count as f64 * (1.0 - left.powi(3))).round() as usize;
        let score = |g: usize, i: usize, j: usize| weights[g][(i, j)].powi(2) / inverses[g][i];
        let most = (0..fit.grid.count())
            .map(|at| score(at / p / n, at % p, at / p % n))
            .fold(f64::MIN_POSITIVE, f64::max);
        let scores = fit.by_row(|g, i, j| (score(g, i, j) / most) as f32);
        let candidates = Candidates::new(&scores, fit.grid, fit.pattern, Some(&keep))?;
        keep = fit.and_nonzero(candidates.without(gone));
        weights = fitted(fit, &weights, &keep);
    }
    Ok(Solved { weights, keep })
}

/// The weights under a mask that conjugate gradients find from others.
pub(super) fn fitted(fit: &Fit, start: &[Mat<f64>], keep: &[bool]) -> Vec<Mat<f64>> {
    let (p, n) = (fit.shape.columns(), fit.shape.group_outputs());
    let groups = fit.problems.iter().zip(&fit.original).zip(start).enumerate();
    groups
        .map(|(g, ((problem, original), start))| {
            let kept = |i: usize, j: usize| keep[(g * n + j) * p + i];
            descend(problem, original.as_ref(), start, kept)
        })
        .collect()
}

/// Conjugate gradients over the weights that stay, preconditioned by the diagonal, each output for
/// itself.
fn descend(
    problem: &Quadratic,
    original: MatRef<'_, f64>,
    start: &Mat<f64>,
    kept: impl Fn(usize, usize) -> bool + Sync,
) -> Mat<f64> {
    let (p, n) = (start.nrows(), start.ncols());
    let target = problem.target(original);
    let diagonal = problem.diagonal();
    let panels: Vec<Mat<f64>> = (0..n.div_ceil(PANEL))
        .into_par_iter()
        .map(|panel| {
            let first = panel * PANEL;
            let width = PANEL.min(n - first);
            let mask = |i: usize, j: usize, v: f64| if kept(i, first + j) { v } else { 0.0 };
            let mut w = Mat::from_fn(p, width, |i, j| mask(i, j, start[(i, first + j)]));
            let applied = problem.apply(w.as_ref());
            let mut residual =
                Mat::from_fn(p, width, |i, j| mask(i, j, target[(i, first + j)] - applied[(i, j)]));
            let mut direction = Mat::from_fn(p, width, |i, j| residual[(i, j)] / diagonal[i]);
            let weighed = |r: &Mat<f64>, j: usize| -> f64 {
                r.col_as_slice(j).iter().zip(&diagonal).map(|(r, d)| r * r / d).sum()
            };
            let mut sizes: Vec<f64> = (0..width).map(|j| weighed(&residual, j)).collect();
            for _ in 0..STEPS {
                let applied = problem.apply(direction.as_ref());
                for j in 0..width {
                    let along = direction.col_as_slice(j).iter().zip(applied.col_as_slice(j));
                    let curvature: f64 = along.map(|(d, a)| d * a).sum();
                    if curvature <= 0.0 || sizes[j] <= 0.0 {
                        continue;
                    }
                    let step = sizes[j] / curvature;
                    for i in 0..p {
                        w[(i, j)] += step * direction[(i, j)];
                        residual[(i, j)] -= mask(i, j, step * applied[(i, j)]);
                    }
                    let size = weighed(&residual, j);
                    let turn = size / sizes[j];
                    sizes[j] = size;
                    for i in 0..p {
                        direction[(i, j)] =
                            residual[(i, j)] / diagonal[i] + turn * direction[(i, j)];
                    }
                }
            }
            w
        })
        .collect();
    Mat::from_fn(p, n, |i, j| panels[j / PANEL][(i, j % PANEL)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::exact::Exact;
    use super::*;
    use crate::Pattern;
    use rand_chacha::rand_core::RngCore;
    use tensor_core::calibrate::{LinearShape, Statistics, StatisticsLimits};

    const P: usize = 24;
    const N: usize = 6;

    /// A layer of correlated inputs; few rows are kept as they are, many as moments.
    fn fit(rows: usize, pattern: Pattern) -> Fit {
        let mut rng = tensor_core::random::stream(0, "wide");
        let mut draw = move || rng.next_u32() as f32 / u32::MAX as f32 - 0.5;
        let weight: Vec<f32> = (0..N * P).map(|_| draw()).collect();
        let halves = [0, 1].map(|_| {
            let limits = StatisticsLimits::default();
            let mut statistics = Statistics::new(P, N, rows, limits).unwrap();
            for _ in 0..rows / 2 {
                let common = draw();
                let x: Vec<f32> = (0..P).map(|_| common + draw()).collect();
                let dot = |w: &[f32]| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f32>();
                let y: Vec<f32> = weight.chunks(P).map(dot).collect();
                statistics.push(&x, &y).unwrap();
            }
            statistics
        });
        let shape = LinearShape { groups: 1, channels: P, taps: 1, outputs: N, positions: 1 };
        let problem = Quadratic::new(halves, 1e-4).unwrap();
        Fit::new(vec![problem], &weight, shape, pattern).unwrap()
    }

    #[test]
    fn rounds_come_near_to_exact_removal() {
        for (rows, pattern) in
            [(400, Pattern::Unstructured), (16, Pattern::Unstructured), (400, Pattern::Block(2, 2))]
        {
            let fit = fit(rows, pattern);
            let count = N * P / 2;
            let wide = without(&fit, count).unwrap();
            let exact = Exact::new(&fit).unwrap().without(count).unwrap();
            let plain = fit.magnitude(count).unwrap();
            assert_eq!(wide.keep.iter().filter(|&&keep| !keep).count(), count);
            assert_eq!(exact.keep.iter().filter(|&&keep| !keep).count(), count);
            let [wide, exact, plain] = [wide, exact, plain].map(|s| fit.error(&s.weights, None));
            // Of 72 weights that go some are others, which costs little; plain magnitudes cost more.
            // Fewer rows than columns leave many ways to fit them.
            assert!(rows < P || wide < 2.0 * exact, "{rows} {pattern}: {wide} {exact}");
            assert!(wide < 0.8 * plain, "{rows} {pattern}: {wide} {plain}");
        }
    }

    /// Zeros of the weight stay zeros, whether they are fitted exactly or step by step.
    #[test]
    fn zeros_stay() {
        let mut fit = fit(400, Pattern::Unstructured);
        for at in (0..N * P).step_by(3) {
            fit.nonzero[at] = false;
        }
        fit.original = fit.masked(&fit.nonzero);
        let count = N * P / 2;
        for solved in
            [without(&fit, count).unwrap(), Exact::new(&fit).unwrap().without(count).unwrap()]
        {
            assert_eq!(solved.keep.iter().filter(|&&keep| !keep).count(), count);
            assert!(solved.keep.iter().zip(&fit.nonzero).all(|(keep, nonzero)| !keep || *nonzero));
        }
        let exact = fit.dense().unwrap();
        assert_eq!(exact.keep, fit.nonzero);
        let steps = fitted(&fit, &fit.original, &fit.nonzero);
        // Fewer columns than steps are left: both are at the minimum.
        let difference = (&exact.weights[0] - &steps[0]).norm_l2();
        assert!(difference < 1e-6 * steps[0].norm_l2(), "{difference}");
        for (at, nonzero) in fit.nonzero.iter().enumerate() {
            assert!(*nonzero || exact.weights[0][(at % P, at / P)] == 0.0);
        }
    }

    /// Conjugate gradients with all weights kept end at the minimum.
    #[test]
    fn descent_finds_the_minimum() {
        let fit = fit(400, Pattern::Unstructured);
        let problem = &fit.problems[0];
        let original = fit.original[0].as_ref();
        let start = Mat::zeros(P, N);
        let found = descend(problem, original, &start, |_, _| true);
        let minimum = problem.minimum(original).unwrap();
        // As many steps as columns would be exact.
        let difference = (found - &minimum).norm_l2();
        assert!(difference < 1e-6 * minimum.norm_l2(), "{difference}");
    }

    /// Both forms of the statistics describe the same error.
    #[test]
    fn rows_and_moments_agree() {
        let few = &fit(16, Pattern::Unstructured);
        let problem = &few.problems[0];
        let original = few.original[0].as_ref();
        let hessian = problem.hessian();
        let expected = super::super::linear::inverse(hessian.as_ref()).unwrap();
        let inverse = problem.inverse_diagonal().unwrap();
        for (i, found) in inverse.iter().enumerate() {
            assert!((found - expected[(i, i)]).abs() < 1e-6 * found, "{found}");
        }
        let applied = problem.apply(original) - &hessian * original;
        assert!(applied.norm_l2() < 1e-10 * hessian.norm_l2());
        let minimum = problem.minimum(original).unwrap();
        let gradient = &hessian * minimum - problem.target(original);
        assert!(gradient.norm_l2() < 1e-8 * hessian.norm_l2());
    }
}
