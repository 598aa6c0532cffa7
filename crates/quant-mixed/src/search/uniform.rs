//! The most bits that all layers can have alike.

use super::{Bits, Problem, Solver, View};
use tensor_core::{Error, ErrorKind, Result};

pub(super) const SOLVER: Solver = Solver {
    name: "uniform",
    summary: "The most bits that all layers can have alike",
    view: View::Costs(solve),
};

/// The same bits for weights and activations of all layers that are not pinned; activations that are
/// not searched keep theirs.
///
/// # Errors
/// `E0552` when the fewest bits cost more than the budget, which a mixture of them may not.
pub fn solve(problem: &Problem) -> Result<Vec<Bits>> {
    let params = problem.params();
    let alike = |bits: u32| {
        let activations = params.activations.unwrap_or(bits);
        problem.with_pins(Bits { weights: bits, activations })
    };
    let fits = |bits: &u32| problem.is_within(problem.cost(&alike(*bits)));
    match (params.min_bits..=params.max_bits).rev().find(fits) {
        Some(bits) => Ok(alike(bits)),
        None => Err(Error::new(
            ErrorKind::Infeasible,
            "E0552",
            format!("{} cannot be met with the same bits for all layers", problem.limits()),
        )
        .hint("`exact` mixes bits; or raise the budget")),
    }
}
