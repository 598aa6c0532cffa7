//! The step that loses least per saved cost, again and again.

use super::{Allocation, Bits, Problem, Sensitivities, Solver, View};

pub(super) const SOLVER: Solver = Solver {
    name: "greedy",
    summary: "The least loss per saved cost, step by step",
    view: View::Sensitivities(|problem, sensitivities| Allocation {
        bits: solve(problem, sensitivities),
        warning: None,
    }),
};

/// Begins with the most bits. Each step moves one layer to any cheaper choice, so that one that saves
/// nothing alone does not stop it; savings beyond the budget count for nothing.
pub fn solve(problem: &Problem, sensitivities: &Sensitivities) -> Vec<Bits> {
    let mut bits = problem.most();
    loop {
        let excess = problem.cost(&bits) - problem.budget();
        if problem.is_within(problem.cost(&bits)) {
            return bits;
        }
        let mut best: Option<(f64, usize, Bits)> = None;
        for (layer, &own) in bits.iter().enumerate() {
            let cost = problem.layer_cost(layer, own);
            let loss = sensitivities.loss(layer, own);
            for choice in problem.choices(layer).iter().filter(|choice| choice.cost < cost) {
                let lost = (sensitivities.loss(layer, choice.bits) - loss).max(0.0);
                let rate = lost / (cost - choice.cost).min(excess);
                if best.is_none_or(|(least, ..)| rate < least) {
                    best = Some((rate, layer, choice.bits));
                }
            }
        }
        // Without a cheaper choice every layer has its cheapest, which meets the budget.
        let Some((_, layer, choice)) = best else { return bits };
        bits[layer] = choice;
    }
}
