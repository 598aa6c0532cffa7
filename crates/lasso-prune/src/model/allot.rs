//! The widths of a model under its goal, and the multiple that they are rounded to.

use super::curves::Curve;
use super::params::{ValidPruneParams, Widths};
use super::prepare::Prepared;
use super::report::{Predicted, PredictedTime, RoundingReport, RoundingTrial};
use super::trial::{TrialCost, trial_cost};
use super::widths::{Goal, choose_widths, predicted_error, unrounded_error};
use std::collections::BTreeMap;
use tensor_core::{Error, Result, cost};

/// Times that a missed budget is tightened and tried again: many, as where channels of one set cost different
/// amounts a little less may change nothing.
const ATTEMPTS: usize = 24;

/// Smallest multiple that is tried for accuracy alone: ONNX Runtime's blocked kernels refuse inputs
/// of at least one block whose channels are no multiple of four.
const FINEST: usize = 4;

/// Part of the saved operations that must be saved on whole blocks too; what is filled up again
/// takes time, and a model that is hardly faster is not what was asked for.
const REALIZED: f64 = 0.5;

/// Predicted errors below this share of the outputs' energy (30 dB) are as good as none: no time is
/// spent on lowering them.
const NEGLIGIBLE: f64 = 1e-3;

/// A smaller multiple has to lower the product of error and operations to this: gains below are
/// within what predictions err by, and runtimes are faster on whole blocks than their count says.
const WORTHWHILE: f64 = 0.95;

/// Chosen widths, and what they let expect.
pub(crate) struct Allotted {
    /// One per set.
    pub(crate) widths: Vec<usize>,
    /// They are multiples of this.
    pub(crate) round_to: usize,
    pub(crate) rounding: Option<RoundingReport>,
    pub(crate) predicted: Predicted,
    pub(crate) time: Option<PredictedTime>,
}

/// Chooses the width of every set.
///
/// Where rounding may be less than asked for, each of the multiples is tried (below [`FINEST`] only
/// until one meets the goal), and the one with the
/// least product of predicted error and operations on whole blocks is taken: half of the multiple
/// is worth it where the error falls by a larger factor than the time rises ([`WORTHWHILE`]). That
/// compares ratios only, so it does not depend on the scale of either. Smaller multiples have to save operations on
/// whole blocks too ([`REALIZED`]).
///
/// # Errors
/// As [`choose_widths`].
pub(crate) fn allot(
    prepared: &Prepared,
    params: &ValidPruneParams,
    shapes: &BTreeMap<String, Vec<usize>>,
    goal: &Goal,
    curves: &[Curve],
) -> Result<Allotted> {
    let sets = &prepared.parts.sets;
    let largest = prepared.parts.round_to;
    let is_auto = params.params.widths.need_curves();
    let is_given = matches!(params.params.widths, Widths::Given(_));
    let finest = if params.params.may_round_less && !is_given { 1 } else { largest };
    let block = params.params.round_to;
    let full = cost::blocked_macs(&prepared.graph, &prepared.counted, block)?;
    let full_macs = cost::cost(&prepared.graph, &prepared.counted)?.macs as f64;
    let mut best: Option<(Rank, usize, Fit)> = None;
    let mut tried = Vec::new();
    let halves = std::iter::successors(Some(largest), |step| Some(step / 2));
    for step in halves.take_while(|&step| step >= finest.max(1)) {
        let is_met = best.as_ref().is_some_and(|(rank, ..)| rank.misses == 0);
        if is_met && (!is_auto || step < FINEST) {
            break;
        }
        let fit = within(prepared, params, shapes, goal, curves, step)?;
        let error = predicted_error(curves, &fit.widths);
        let blocked = fit.trial.blocked_macs / full;
        let macs = fit.trial.cost.macs as f64 / full_macs;
        let is_faster = step == largest || 1.0 - blocked >= REALIZED * (1.0 - macs);
        let rank = Rank {
            misses: u8::from(!fit.is_met),
            is_slow: u8::from(!is_faster),
            score: error.max(NEGLIGIBLE) * blocked,
        };
        tried.push(RoundingTrial { to: step, error, blocked_macs: blocked });
        if best.as_ref().is_none_or(|(least, ..)| rank.is_before(least)) {
            best = Some((rank, step, fit));
        }
    }
    let Some((_, round_to, Fit { widths, trial, .. })) = best else {
        return Err(Error::internal("no multiple to round to"));
    };
    let rounding = match is_auto && round_to > 1 {
        true => Some(RoundingReport {
            to: round_to,
            error: predicted_error(curves, &widths),
            unrounded_error: unrounded_error(sets, curves, goal)?,
            tried,
        }),
        false => None,
    };
    let time = goal.time(sets, &widths);
    Ok(Allotted { widths, round_to, rounding, predicted: Predicted::of(&trial.cost), time })
}

/// What counts when multiples are compared, the most important first.
struct Rank {
    misses: u8,
    is_slow: u8,
    /// Predicted error times operations on whole blocks.
    score: f64,
}

impl Rank {
    /// Is this, of the smaller multiple, better by enough?
    fn is_before(&self, other: &Self) -> bool {
        let first = (self.misses, self.is_slow).cmp(&(other.misses, other.is_slow));
        first.then(self.score.total_cmp(&(WORTHWHILE * other.score))).is_lt()
    }
}

/// Widths, what the model costs with them, and whether that meets the goal.
struct Fit {
    widths: Vec<usize>,
    trial: TrialCost,
    is_met: bool,
}

/// Widths with which the cut model meets the goal, as far as rounding lets it.
///
/// The goal's cost is a function of widths alone. It does not know of the biases that refitting
/// adds, so the result is counted on a cut model, and the goal tightened where that misses it.
fn within(
    prepared: &Prepared,
    params: &ValidPruneParams,
    shapes: &BTreeMap<String, Vec<usize>>,
    goal: &Goal,
    curves: &[Curve],
    step: usize,
) -> Result<Fit> {
    let sets = &prepared.parts.sets;
    let mut current = goal.clone();
    let mut attempts = 0;
    loop {
        let widths = choose_widths(sets, &prepared.names, curves, &current, params, step)?;
        let trial = trial_cost(prepared, shapes, curves, &widths, params.params.round_to)?;
        attempts += 1;
        let actual = goal.actual(&trial.cost, &widths);
        let is_met = actual <= goal.limit() || matches!(params.params.widths, Widths::Given(_));
        // A little more than the ratio, or rounding to whole channels may stand still.
        let tighter = current.tightened(0.998 * goal.limit() / actual);
        if is_met || attempts == ATTEMPTS || !tighter.is_feasible(sets, step) {
            return Ok(Fit { widths, trial, is_met });
        }
        current = tighter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_multiple_has_to_be_worth_it() {
        let rank = |misses, is_slow, score| Rank { misses, is_slow, score };
        let larger = rank(0, 0, 1.0);
        assert!(rank(0, 0, 0.9).is_before(&larger));
        assert!(!rank(0, 0, 0.97).is_before(&larger));
        assert!(!rank(0, 1, 0.5).is_before(&larger));
        assert!(rank(0, 1, 2.0).is_before(&rank(1, 0, 1.0)));
    }
}
