//! Allocations that were judged, for the report: what was found beside the same bits everywhere.

use quant_mixed::search::{Bits, Judgement, Problem, Score, Simulator, ddpg};
use serde::Serialize;
use tensor_core::Result;

/// Bits everywhere that everything is to be compared with.
const UNIFORM: [u32; 2] = [8, 4];

/// An allocation.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    name: String,
    bits: Vec<Bits>,
    cost: f64,
    /// Is it within the budget?
    fits: bool,
    /// Right answers, where there are labels.
    score: Option<Score>,
    /// Divergence of the outputs from the float model's, where there are none.
    divergence: Option<f64>,
    baseline: bool,
    chosen: bool,
}

impl Judged {
    fn new(name: String, bits: &[Bits], problem: &Problem) -> Self {
        let cost = problem.cost(bits);
        Self {
            name,
            bits: bits.to_vec(),
            cost,
            fits: problem.is_within(cost),
            score: None,
            divergence: None,
            baseline: false,
            chosen: false,
        }
    }
}

/// What was tried, the same bits everywhere, and what was found.
pub(super) fn all(
    problem: &Problem,
    simulator: &Simulator,
    episodes: &[ddpg::Episode],
    (method, bits): (&str, &[Bits]),
    (score, divergence): (Option<Score>, f64),
) -> Result<Vec<Judged>> {
    let mut judged = Vec::new();
    for episode in episodes.iter().filter(|episode| episode.bits != bits) {
        let name = format!("episode {}, on the selecting half", episode.episode);
        let Judgement { score, divergence } = episode.judgement;
        let divergence = score.is_none().then_some(divergence);
        let one = Judged::new(name, &episode.bits, problem);
        judged.push(Judged { score, divergence, ..one });
    }
    for own in UNIFORM {
        let activations = problem.params().activations.unwrap_or(own);
        let everywhere = problem.with_pins(Bits { weights: own, activations });
        let one = Judged::new(format!("{own} bits everywhere"), &everywhere, problem);
        // Bits that a layer may not have cost more than anything.
        if !one.cost.is_finite() {
            continue;
        }
        let (score, divergence) = match score {
            Some(_) => (Some(simulator.score(&everywhere)?), None),
            None => (None, Some(simulator.divergence(&everywhere)?)),
        };
        judged.push(Judged { score, divergence, baseline: true, ..one });
    }
    let found = Judged::new(format!("{method}, chosen"), bits, problem);
    judged.push(Judged { score, divergence: Some(divergence), chosen: true, ..found });
    Ok(judged)
}
