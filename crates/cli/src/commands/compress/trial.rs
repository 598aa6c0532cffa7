//! What a trial reached, against what is asked for.

use super::super::run::Measured;
use super::variant::Variant;
use crate::args::{GoalArgs, Limit};
use serde::{Deserialize, Serialize};

/// A trial that has ended, as its line in the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) variant: Variant,
    /// Why it was tried.
    pub(super) why: String,
    /// Absent where it could not be made.
    pub(super) measured: Option<Measured>,
    /// Why it could not be made.
    pub(super) error: Option<String>,
    pub(super) seconds: f64,
    pub(super) sha256: Option<String>,
}

impl Trial {
    /// What it takes of each resource that there is a goal for; `None` where it could not be made.
    pub(super) fn limits(&self, goal: &GoalArgs) -> Option<Vec<Limit>> {
        self.measured.as_ref().map(|measured| goal.limits(&measured.weighed))
    }

    /// The limit that it is worst at; `None` where there is none.
    pub(super) fn worst(&self, goal: &GoalArgs) -> Option<Limit> {
        let limits = self.limits(goal)?.into_iter();
        limits.max_by(|a, b| a.excess().total_cmp(&b.excess()))
    }

    /// The share of what is allowed, of the resource that it is worst at; 0 where nothing is asked,
    /// infinite where it could not be made.
    pub(super) fn excess(&self, goal: &GoalArgs) -> f64 {
        match &self.measured {
            Some(_) => self.worst(goal).map_or(0.0, |limit| limit.excess()),
            None => f64::INFINITY,
        }
    }

    /// Was every goal met?
    pub(super) fn meets(&self) -> bool {
        self.measured.as_ref().is_some_and(|measured| measured.failures.is_empty())
    }

    /// Share of samples that are lost: of right answers where there are labels, else of those for
    /// which both models name the same class. 1 where neither could be measured.
    pub(super) fn lost(&self) -> f64 {
        let Some(measured) = &self.measured else { return 1.0 };
        let drop = measured.accuracy.map(|(before, after)| before - after);
        drop.or(measured.agreement.map(|same| 1.0 - same)).unwrap_or(1.0)
    }

    /// Size times latency against the original's: what is wanted where only accuracy is asked for.
    fn weight(&self) -> f64 {
        let Some(measured) = &self.measured else { return f64::INFINITY };
        let ratio = |(before, after): (f64, f64)| after / before.max(f64::MIN_POSITIVE);
        let (before, after) = measured.weighed.file_bytes;
        ratio((before as f64, after as f64)) * measured.weighed.latency_us.map_or(1.0, ratio)
    }

    /// Is it a better result than another one?
    pub(super) fn beats(&self, other: &Self, goal: &GoalArgs) -> bool {
        let rank = |trial: &Self| -> [f64; 3] {
            let met = if trial.meets() { 0.0 } else { 1.0 };
            match goal.is_resource() {
                true => [met, trial.excess(goal).max(1.0), trial.lost()],
                false if trial.meets() => [met, trial.weight(), trial.lost()],
                false => [met, trial.lost(), trial.weight()],
            }
        };
        let pairs = rank(self).into_iter().zip(rank(other));
        pairs.map(|(a, b)| a.total_cmp(&b)).find(|o| o.is_ne()).is_some_and(|o| o.is_lt())
    }
}
