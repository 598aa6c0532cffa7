//! When sparsity changes, and between which values.

use serde::Serialize;
use tensor_core::{Error, Result};

/// Two sparsities and the steps at which one becomes the other.
///
/// Updates are at `begin`, `begin + frequency`, ... and always at `end`, also where the distance is
/// no multiple of the frequency. A step's value is that of the last update at or before it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    initial: f64,
    target: f64,
    begin: u64,
    end: u64,
    frequency: u64,
}

impl Interval {
    /// From the sparsity `initial` before step `begin` to `target` from step `end` on.
    ///
    /// # Errors
    /// `E0430` when a sparsity is not in `[0, 1)`, the target is below the initial one, `end` is
    /// before `begin`, or the frequency is 0.
    pub fn new(initial: f64, target: f64, begin: u64, end: u64, frequency: u64) -> Result<Self> {
        let wrong = |what: String| Err(Error::invalid(what).code_is("E0430"));
        for (name, value) in [("initial", initial), ("final", target)] {
            if !(0.0..1.0).contains(&value) {
                return wrong(format!("the {name} sparsity should be in [0, 1), but is {value}"));
            }
        }
        if target < initial {
            return wrong(format!(
                "sparsity should not fall, but the final one is {target} after {initial}"
            ));
        }
        if end < begin {
            return wrong(format!("pruning begins at step {begin} and ends before, at {end}"));
        }
        if frequency == 0 {
            return wrong("the steps between two updates should be at least 1".to_owned());
        }
        Ok(Self { initial, target, begin, end, frequency })
    }

    /// The same in epochs, for runs of `steps_per_epoch` steps each; fractions round to a step.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when a number of epochs is negative or not finite.
    pub fn epochs(
        (initial, target): (f64, f64),
        (begin, end, frequency): (f64, f64, f64),
        steps_per_epoch: u64,
    ) -> Result<Self> {
        let steps = |epochs: f64| match epochs.is_finite() && epochs >= 0.0 {
            true => Ok((epochs * steps_per_epoch as f64).round() as u64),
            false => {
                Err(Error::invalid(format!("{epochs} is no number of epochs")).code_is("E0430"))
            }
        };
        Self::new(initial, target, steps(begin)?, steps(end)?, steps(frequency)?.max(1))
    }

    /// The sparsity before the first update.
    pub fn initial(&self) -> f64 {
        self.initial
    }

    /// The sparsity from the last update on.
    pub fn target(&self) -> f64 {
        self.target
    }

    /// The step of the first update.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// The step of the last update.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Steps from one update to the next.
    pub fn frequency(&self) -> u64 {
        self.frequency
    }

    /// The last update at or before a step; `None` before the first.
    pub fn last_update(&self, step: u64) -> Option<u64> {
        if step >= self.end {
            return Some(self.end);
        }
        let passed = step.checked_sub(self.begin)?;
        Some(self.begin + passed / self.frequency * self.frequency)
    }

    /// All updates, ascending.
    pub fn updates(&self) -> impl Iterator<Item = u64> {
        let (begin, end, frequency) = (self.begin, self.end, self.frequency);
        let regular = std::iter::successors(Some(begin), move |step| step.checked_add(frequency));
        regular.take_while(move |&step| step < end).chain([end])
    }

    /// The share of the interval that has passed at a step, in `[0, 1]`; 1 where it has no length.
    pub fn share(&self, step: u64) -> f64 {
        if step >= self.end {
            return 1.0;
        }
        step.saturating_sub(self.begin) as f64 / (self.end - self.begin) as f64
    }

    /// The part of the interval that belongs to the `index`-th of `count` layers that are pruned
    /// one after the other.
    pub(crate) fn part(&self, index: usize, count: usize) -> Self {
        let place = |i: usize| {
            let span = u128::from(self.end - self.begin) * i as u128 / count.max(1) as u128;
            self.begin + u64::try_from(span).unwrap_or(u64::MAX)
        };
        Self { begin: place(index), end: place(index + 1), ..*self }
    }

    /// The same with its first update alone, which is then also the last.
    pub(crate) fn at_once(&self) -> Self {
        Self { end: self.begin, ..*self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn updates_end_at_the_end() {
        let steps = |begin, end, frequency| {
            let interval = Interval::new(0.0, 0.5, begin, end, frequency).unwrap();
            interval.updates().collect::<Vec<_>>()
        };
        assert_eq!(steps(10, 30, 10), [10, 20, 30]);
        assert_eq!(steps(10, 35, 10), [10, 20, 30, 35]);
        assert_eq!(steps(4, 4, 3), [4]);
        assert_eq!(steps(u64::MAX - 1, u64::MAX, 2), [u64::MAX - 1, u64::MAX]);
    }

    #[test]
    fn epochs_are_steps() {
        let epochs = Interval::epochs((0.1, 0.5), (0.5, 2.0, 0.25), 100).unwrap();
        assert_eq!(epochs, Interval::new(0.1, 0.5, 50, 200, 25).unwrap());
        assert!(Interval::epochs((0.0, 0.5), (-1.0, 2.0, 1.0), 100).is_err());
        assert!(Interval::epochs((0.0, 0.5), (0.0, f64::NAN, 1.0), 100).is_err());
    }

    #[test]
    fn parts_follow_each_other() {
        let whole = Interval::new(0.0, 0.5, 10, 40, 1).unwrap();
        let parts: Vec<_> = (0..3).map(|i| whole.part(i, 3)).collect();
        assert_eq!(
            parts.iter().map(|p| (p.begin, p.end)).collect::<Vec<_>>(),
            [(10, 20), (20, 30), (30, 40)]
        );
    }
}
