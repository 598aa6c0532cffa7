//! The best of all allocations: a multiple-choice knapsack, solved to its optimum.
//!
//! Losses and costs add up over layers, so allocations of the first layers are compared by these two sums
//! alone: those that another one beats in both are dropped (dynamic programming over the Pareto front).
//! What remains is cut by a bound. For any price `p >= 0`, an allocation of the other layers within budget
//! loses at least `sum(min(loss + p cost)) - p (what is left)`; `p` is the price at which that is largest for the
//! whole problem, found by bisection. Partial allocations whose bound is not below the best known
//! allocation are dropped.

use super::{Allocation, Bits, Problem, Sensitivities, Solver, View};

pub(super) const SOLVER: Solver = Solver {
    name: "exact",
    summary: "The allocation that loses least of all, by dynamic programming",
    view: View::Sensitivities(|problem, sensitivities| {
        let Solution { bits, is_optimal, .. } = solve(problem, sensitivities);
        let warning = "too many allocations: the result is near the best only";
        Allocation { bits, warning: (!is_optimal).then_some(warning) }
    }),
};

/// Most partial allocations that are held; beyond it the result is only near the optimum, and says so.
const MAX_STATES: usize = 1 << 20;

/// An allocation, and how good it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// Bits per layer.
    pub bits: Vec<Bits>,
    /// What it loses.
    pub loss: f64,
    /// Is there no better one? False when partial allocations had to be dropped unseen.
    pub is_optimal: bool,
}

/// A choice of a layer.
#[derive(Debug, Clone, Copy)]
struct Item {
    bits: Bits,
    cost: f64,
    loss: f64,
}

/// A partial allocation: its sums, its last choice, and the one that it continues.
#[derive(Debug, Clone, Copy)]
struct State {
    cost: f64,
    loss: f64,
    item: u32,
    from: u32,
}

/// Solves a problem, which can always be met.
pub fn solve(problem: &Problem, sensitivities: &Sensitivities) -> Solution {
    let items: Vec<Vec<Item>> =
        (0..problem.len()).map(|layer| front(problem, sensitivities, layer)).collect();
    let budget = problem.budget() * (1.0 + 1e-12) - problem.fixed();
    let (price, mut best) = relax(&items, budget);
    fill(&items, budget, &mut best);
    let mut known = loss(&items, &best);
    let mut is_optimal = true;
    let tails = tails(&items, price);
    let mut layers: Vec<Vec<State>> = Vec::with_capacity(items.len());
    let mut current = vec![State { cost: 0.0, loss: 0.0, item: 0, from: 0 }];
    for (at, choices) in items.iter().enumerate() {
        let Tail { priced, cheapest } = tails[at + 1];
        let mut next = Vec::new();
        for (from, state) in current.iter().enumerate() {
            for (item, choice) in choices.iter().enumerate() {
                let (cost, loss) = (state.cost + choice.cost, state.loss + choice.loss);
                let bound = loss + priced - price * (budget - cost);
                // Rounding must not drop the optimum itself.
                let slack = 1e-12 * known.abs();
                if cost + cheapest <= budget && bound <= known + slack {
                    next.push(State { cost, loss, item: item as u32, from: from as u32 });
                }
            }
        }
        next = undominated(next);
        if next.len() > MAX_STATES {
            is_optimal = false;
            next.sort_by(|a, b| (a.loss + price * a.cost).total_cmp(&(b.loss + price * b.cost)));
            next.truncate(MAX_STATES);
            next = undominated(next);
        }
        layers.push(std::mem::replace(&mut current, next));
    }
    let last = current.iter().enumerate().min_by(|(_, a), (_, b)| a.loss.total_cmp(&b.loss));
    if let Some((mut index, state)) = last.filter(|(_, state)| state.loss <= known) {
        known = state.loss;
        layers.push(current.clone());
        for at in (0..items.len()).rev() {
            let state = layers[at + 1][index];
            best[at] = state.item as usize;
            index = state.from as usize;
        }
    }
    let bits = best.iter().zip(&items).map(|(&item, choices)| choices[item].bits).collect();
    Solution { bits, loss: known, is_optimal }
}

/// The choices of a layer that no other beats in cost and loss, the cheapest first.
fn front(problem: &Problem, sensitivities: &Sensitivities, layer: usize) -> Vec<Item> {
    let choices = problem.choices(layer).iter();
    let mut items: Vec<Item> = choices
        .map(|choice| {
            let loss = sensitivities.loss(layer, choice.bits);
            // One that has no finite loss may be the only one that is allowed.
            Item { bits: choice.bits, cost: choice.cost, loss: loss.min(f64::MAX / 1e6) }
        })
        .collect();
    items.sort_by(|a, b| {
        let more_bits =
            (b.bits.weights + b.bits.activations).cmp(&(a.bits.weights + a.bits.activations));
        a.cost.total_cmp(&b.cost).then(a.loss.total_cmp(&b.loss)).then(more_bits)
    });
    let mut least = f64::INFINITY;
    items.retain(|item| {
        let keeps = item.loss < least;
        least = least.min(item.loss);
        keeps
    });
    items
}

fn cost(items: &[Vec<Item>], picks: &[usize]) -> f64 {
    items.iter().zip(picks).map(|(choices, &pick)| choices[pick].cost).sum()
}

fn loss(items: &[Vec<Item>], picks: &[usize]) -> f64 {
    items.iter().zip(picks).map(|(choices, &pick)| choices[pick].loss).sum()
}

/// The choices that lose least at a price.
fn priced(items: &[Vec<Item>], price: f64) -> Vec<usize> {
    let best = |choices: &Vec<Item>| {
        let value = |item: &Item| item.loss + price * item.cost;
        let indices = 0..choices.len();
        indices.min_by(|&a, &b| value(&choices[a]).total_cmp(&value(&choices[b]))).unwrap_or(0)
    };
    items.iter().map(best).collect()
}

/// The lowest price at which the priced choices meet the budget, and these choices.
fn relax(items: &[Vec<Item>], budget: f64) -> (f64, Vec<usize>) {
    let free = priced(items, 0.0);
    if cost(items, &free) <= budget {
        return (0.0, free);
    }
    let (mut low, mut high) = (0.0, 1e-9);
    let cheapest: Vec<usize> = vec![0; items.len()];
    let mut met = cheapest.clone();
    while high < 1e300 {
        met = priced(items, high);
        if cost(items, &met) <= budget {
            break;
        }
        high *= 4.0;
        met.clone_from(&cheapest);
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        let picks = priced(items, middle);
        if cost(items, &picks) <= budget {
            (high, met) = (middle, picks);
        } else {
            low = middle;
        }
    }
    (high, met)
}

/// Spends what is left, where it gains most per cost.
fn fill(items: &[Vec<Item>], budget: f64, picks: &mut [usize]) {
    loop {
        let left = budget - cost(items, picks);
        let mut best: Option<(f64, usize, usize)> = None;
        for (layer, choices) in items.iter().enumerate() {
            let own = choices[picks[layer]];
            for (at, choice) in choices.iter().enumerate().skip(picks[layer] + 1) {
                let rate =
                    (own.loss - choice.loss) / (choice.cost - own.cost).max(f64::MIN_POSITIVE);
                if choice.cost - own.cost <= left && best.is_none_or(|(most, ..)| rate > most) {
                    best = Some((rate, layer, at));
                }
            }
        }
        let Some((_, layer, at)) = best else { return };
        picks[layer] = at;
        if cost(items, picks) > budget {
            // Rounding of the sum.
            picks[layer] = at - 1;
            return;
        }
    }
}

/// What the layers from one on lose and cost at least.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// Sum of `min(loss + price cost)`.
    priced: f64,
    /// Sum of the least costs.
    cheapest: f64,
}

fn tails(items: &[Vec<Item>], price: f64) -> Vec<Tail> {
    let mut tails = vec![Tail { priced: 0.0, cheapest: 0.0 }];
    let mut sum = tails[0];
    for choices in items.iter().rev() {
        let least = |f: &dyn Fn(&Item) -> f64| choices.iter().map(f).fold(f64::INFINITY, f64::min);
        sum.priced += least(&|item| item.loss + price * item.cost);
        sum.cheapest += least(&|item| item.cost);
        tails.push(sum);
    }
    tails.reverse();
    tails
}

/// Those that no other beats in both sums, in the order of cost.
fn undominated(mut states: Vec<State>) -> Vec<State> {
    states.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
    let mut least = f64::INFINITY;
    states.retain(|state| {
        let keeps = state.loss < least;
        least = least.min(state.loss);
        keeps
    });
    states
}
