//! What a trial reached, against what is asked for.

use super::super::run::Measured;
use super::variant::Variant;
use crate::args::GoalArgs;
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

/// Shares of what is allowed: 1 is just enough, more is too much. Absent where nothing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Excess {
    pub(super) size: Option<f64>,
    pub(super) latency: Option<f64>,
    pub(super) macs: Option<f64>,
}

impl Excess {
    /// Of what was measured. A latency that could not be measured is not met.
    pub(super) fn of(goal: &GoalArgs, measured: &Measured) -> Self {
        let share = |(before, after): (f64, f64), kept: Option<f64>, most: Option<f64>| {
            let allowed = [kept.map(|kept| kept * before), most].into_iter().flatten();
            allowed.map(|allowed| after / allowed).reduce(f64::max)
        };
        let float = |(before, after): (u64, u64)| (before as f64, after as f64);
        let most = goal.max_size.map(|bytes| bytes as f64);
        let latency = match measured.latency_us {
            Some(times) => share(times, goal.latency, goal.max_latency),
            None => goal.is_timed().then_some(f64::INFINITY),
        };
        Self {
            size: share(float(measured.file_bytes), goal.size, most),
            latency,
            macs: share(float(measured.macs), goal.macs, None),
        }
    }

    /// The largest; 0 where nothing is asked.
    pub(super) fn worst(&self) -> f64 {
        [self.size, self.latency, self.macs].into_iter().flatten().fold(0.0, f64::max)
    }
}

impl Trial {
    /// How much of what is allowed it takes.
    pub(super) fn excess(&self, goal: &GoalArgs) -> Option<Excess> {
        self.measured.as_ref().map(|measured| Excess::of(goal, measured))
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
        let (before, after) = measured.file_bytes;
        ratio((before as f64, after as f64)) * measured.latency_us.map_or(1.0, ratio)
    }

    /// Is it a better result than another one?
    pub(super) fn beats(&self, other: &Self, goal: &GoalArgs) -> bool {
        let rank = |trial: &Self| -> [f64; 3] {
            let met = if trial.meets() { 0.0 } else { 1.0 };
            let excess = trial.excess(goal).map_or(f64::INFINITY, |excess| excess.worst());
            match goal.is_resource() {
                true => [met, excess.max(1.0), trial.lost()],
                false if trial.meets() => [met, trial.weight(), trial.lost()],
                false => [met, trial.lost(), trial.weight()],
            }
        };
        let pairs = rank(self).into_iter().zip(rank(other));
        pairs.map(|(a, b)| a.total_cmp(&b)).find(|o| o.is_ne()).is_some_and(|o| o.is_lt())
    }
}
