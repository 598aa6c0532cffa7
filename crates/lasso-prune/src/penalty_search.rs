//! The exact channel count for solvers that take one penalty at a time.

use tensor_core::Result;

use crate::baseline::descending;
use crate::lasso_system::LassoSystem;

/// Bisection stops when the bracket is this small relative to its upper end.
const BRACKET: f64 = 1e-7;

/// Minimises `1/2 beta^T A beta - b^T beta + lambda |beta|_1` for one `lambda` after another.
pub(crate) trait LassoSolver {
    /// The minimiser; may start from the previous one.
    fn solve(&mut self, lambda: f64) -> Result<Vec<f64>>;
}

/// Finds `keep` channels by bisection of the penalty.
///
/// At `lambda = max |b_i|` nothing is active, so no bracket has to be searched for. Where the count
/// jumps past `keep`, the solution just below the jump is cut to the channels with the largest
/// `|beta_i| |Z_i|`, so that the count is never exceeded. Fewer than `keep` channels come back when
/// no penalty activates more.
pub(crate) fn search(
    solver: &mut dyn LassoSolver,
    system: &LassoSystem,
    keep: usize,
) -> Result<Vec<usize>> {
    let mut high = system.linear.iter().fold(0.0, |max: f64, b| max.max(b.abs()));
    let mut low = 0.0;
    let mut enough: Option<Vec<f64>> = None;
    let mut fewer = vec![0.0; system.channels()];
    while high - low > BRACKET * high {
        // Geometric once a positive lower end is known to be out of reach: counts change on a
        // logarithmic scale.
        let middle = if low > 0.0 { (low * high).sqrt() } else { high * 0.25 };
        if low == 0.0
            && middle < BRACKET * system.linear.iter().fold(0.0, |m: f64, b| m.max(b.abs()))
        {
            break;
        }
        let beta = solver.solve(middle)?;
        let count = beta.iter().filter(|b| **b != 0.0).count();
        if count >= keep {
            low = middle;
            enough = Some(beta);
            if count == keep {
                break;
            }
        } else {
            high = middle;
            fewer = beta;
        }
    }
    let beta = enough.unwrap_or(fewer);
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
