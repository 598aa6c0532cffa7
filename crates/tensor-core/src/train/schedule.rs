//! Learning rates over a run, as pure functions of the step.

use serde::Serialize;
use std::f64::consts::PI;

/// How the learning rate goes over a run, relative to its peak.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Half a cosine down to zero (Loshchilov and Hutter, "SGDR", 2017, without restarts).
    Cosine,
    /// Multiplied by `factor` at each milestone.
    Step {
        /// Shares of the run, ascending in 0..1.
        milestones: Vec<f64>,
        /// In 0..1.
        factor: f64,
    },
    /// Up by half a cosine from 1/25 during the warm-up, then down by another to 1/250,000 (Smith
    /// and Topin, "Super-convergence", 2018, with the numbers of PyTorch's `OneCycleLR`; momentum
    /// stays).
    OneCycle,
}

/// Where the one-cycle schedule starts, and what divides that again at its end.
const START: f64 = 1.0 / 25.0;
const END: f64 = START / 1e4;

impl Schedule {
    /// The share of the run that a warm-up takes when none is asked for.
    pub fn usual_warmup(&self) -> f64 {
        match self {
            Self::OneCycle => 0.3,
            _ => 0.0,
        }
    }

    /// The factor of the peak rate at a step in `0..steps`.
    ///
    /// In the first `warmup * steps` steps (`warmup` in `0..1`) the rate rises: linearly, or for
    /// [`Schedule::OneCycle`] by its cosine. The schedule itself covers the steps that remain.
    pub fn factor(&self, step: u64, steps: u64, warmup: f64) -> f64 {
        let (step, steps) = (step as f64, steps as f64);
        if *self == Self::OneCycle {
            return one_cycle(step, steps, warmup);
        }
        let rising = (warmup * steps).round();
        if step < rising {
            return (step + 1.0) / (rising + 1.0);
        }
        let share = (step - rising) / (steps - rising).max(1.0);
        match self {
            Self::Cosine => f64::midpoint(1.0, (PI * share).cos()),
            Self::Step { milestones, factor } => {
                let passed = milestones.iter().filter(|&&milestone| share >= milestone).count();
                (0..passed).fold(1.0, |product, _| product * factor)
            }
            Self::Constant | Self::OneCycle => 1.0,
        }
    }
}

/// As PyTorch counts: the peak is at step `warmup * steps - 1`, the end at step `steps - 1`.
fn one_cycle(step: f64, steps: f64, warmup: f64) -> f64 {
    let peak = (warmup * steps - 1.0).max(0.0);
    let (from, to, share) = if step <= peak && peak > 0.0 {
        (START, 1.0, step / peak)
    } else {
        (1.0, END, (step - peak) / (steps - 1.0 - peak).max(1.0))
    };
    to + (from - to) * f64::midpoint(1.0, (PI * share.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
    }

    #[test]
    fn constant_and_linear_warmup() {
        for step in 0..10 {
            close(Schedule::Constant.factor(step, 10, 0.0), 1.0);
        }
        let factors: Vec<f64> = (0..5).map(|s| Schedule::Constant.factor(s, 10, 0.3)).collect();
        for (found, expected) in factors.into_iter().zip([0.25, 0.5, 0.75, 1.0, 1.0]) {
            close(found, expected);
        }
    }

    #[test]
    fn cosine_covers_what_follows_the_warmup() {
        close(Schedule::Cosine.factor(0, 8, 0.0), 1.0);
        close(Schedule::Cosine.factor(4, 8, 0.0), 0.5);
        close(Schedule::Cosine.factor(2, 10, 0.2), 1.0);
        close(Schedule::Cosine.factor(6, 10, 0.2), 0.5);
        close(Schedule::Cosine.factor(8, 10, 0.2), 0.5 - 0.5_f64.sqrt() / 2.0);
    }

    #[test]
    fn steps_multiply() {
        let schedule = Schedule::Step { milestones: vec![0.5, 0.75], factor: 0.1 };
        for (step, expected) in [(0, 1.0), (49, 1.0), (50, 0.1), (74, 0.1), (75, 0.01), (99, 0.01)]
        {
            close(schedule.factor(step, 100, 0.0), expected);
        }
    }

    #[test]
    fn one_cycle_starts_peaks_and_ends() {
        close(Schedule::OneCycle.factor(0, 100, 0.3), 0.04);
        close(Schedule::OneCycle.factor(29, 100, 0.3), 1.0);
        close(Schedule::OneCycle.factor(99, 100, 0.3), 4e-6);
        // Half way down: the cosine is zero.
        close(Schedule::OneCycle.factor(64, 100, 0.3), f64::midpoint(1.0, 4e-6));
        close(Schedule::OneCycle.factor(0, 1, 0.3), 1.0);
    }

    #[test]
    fn no_schedule_leaves_its_range() {
        let step = Schedule::Step { milestones: vec![0.2], factor: 0.5 };
        for schedule in [Schedule::Constant, Schedule::Cosine, step, Schedule::OneCycle] {
            for steps in [1, 2, 3, 7, 100] {
                for warmup in [0.0, 0.1, 0.5, 0.99] {
                    for at in 0..steps {
                        let factor = schedule.factor(at, steps, warmup);
                        assert!((0.0..=1.0 + 1e-12).contains(&factor), "{schedule:?} {factor}");
                    }
                }
            }
        }
    }
}
