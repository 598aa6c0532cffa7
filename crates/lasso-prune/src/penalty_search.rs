//! The exact channel count for solvers that take one penalty at a time.

use tensor_core::Result;

use crate::baseline::descending;
use crate::lasso_system::LassoSystem;
use crate::model::PathStep;

/// The penalty falls by this factor until enough channels are active.
const DESCENT: f64 = 0.5;

/// Penalties below this share of the largest count as zero.
const SMALLEST: f64 = 1e-6;

/// Bisection stops when the ends of the bracket are this close.
const BRACKET: f64 = 1e-6;

/// Minimises `1/2 beta^T A beta - b^T beta + lambda |beta|_1` for one `lambda` after another.
pub(crate) trait LassoSolver {
    /// The minimiser; may start from the previous one.
    fn solve(&mut self, lambda: f64) -> Result<Vec<f64>>;
}

/// Finds `keep` channels by bisection of the penalty.
///
/// At `lambda = max |b_i|` nothing is active, so the penalty falls from there until at least `keep`
/// channels are, and the bracket is then halved on a logarithmic scale. Where the count jumps past
/// `keep`, the solution just below the jump is cut to the channels with the largest
/// `|beta_i| |Z_i|`, so that the count is never exceeded. Fewer than `keep` channels come back when
/// no penalty activates more. Every penalty that was tried is added to `steps`.
pub(crate) fn search(
    solver: &mut dyn LassoSolver,
    system: &LassoSystem,
    keep: usize,
    steps: &mut Vec<PathStep>,
) -> Result<Vec<usize>> {
    let largest = system.linear.iter().fold(0.0, |max: f64, b| max.max(b.abs()));
    let mut beta = vec![0.0; system.channels()];
    let mut high = largest;
    let mut low = largest;
    while count(&beta) < keep && low > SMALLEST * largest {
        high = low;
        low *= DESCENT;
        beta = solver.solve(low)?;
        steps.push(PathStep { penalty: low, kept: count(&beta) });
    }
    while count(&beta) > keep && high > low * (1.0 + BRACKET) {
        let middle = (low * high).sqrt();
        let trial = solver.solve(middle)?;
        steps.push(PathStep { penalty: middle, kept: count(&trial) });
        if count(&trial) >= keep {
            low = middle;
            beta = trial;
        } else {
            high = middle;
        }
    }
    let strength: Vec<f64> = beta
        .iter()
        .enumerate()
        .map(|(i, b)| b.abs() * system.gram[(i, i)].max(0.0).sqrt())
        .collect();
    let mut chosen = descending(&strength);
    chosen.retain(|&i| beta[i] != 0.0);
    chosen.truncate(keep);
    Ok(chosen)
}

fn count(beta: &[f64]) -> usize {
    beta.iter().filter(|b| **b != 0.0).count()
}
