//! How sparse, when and where.

use crate::{Distribution, Interval, Pattern, Schedule, ShapeChoice};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use tensor_core::train::Outline;
use tensor_core::{Error, Result};

/// A point of a run: as text `500` (optimizer steps), `1.5ep` (epochs) or `60%` (of the run).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// Optimizer steps.
    Step(u64),
    /// Passes over the data.
    Epoch(f64),
    /// A share of the run, in `[0, 1]`.
    Share(f64),
}

impl When {
    /// The step of a run; fractions round.
    pub fn step(self, steps: u64, steps_per_epoch: u64) -> u64 {
        match self {
            Self::Step(step) => step,
            Self::Epoch(epochs) => (epochs * steps_per_epoch as f64).round() as u64,
            Self::Share(share) => (share * steps as f64).round() as u64,
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => write!(f, "{step}"),
            Self::Epoch(epochs) => write!(f, "{epochs}ep"),
            Self::Share(share) => write!(f, "{}%", share * 100.0),
        }
    }
}

impl FromStr for When {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str, most: f64| {
            text.trim().parse::<f64>().ok().filter(|value| (0.0..=most).contains(value))
        };
        let parsed = if let Some(percent) = text.strip_suffix('%') {
            number(percent, 100.0).map(|percent| Self::Share(percent / 100.0))
        } else if let Some(epochs) = text.strip_suffix("epochs").or(text.strip_suffix("ep")) {
            number(epochs, 1e9).map(Self::Epoch)
        } else {
            text.parse().ok().map(Self::Step)
        };
        parsed.ok_or_else(|| {
            Error::invalid(format!("`{text}` is no point of a run"))
                .code_is("E0430")
                .hint("steps such as `500`, epochs such as `1.5ep`, or a share such as `60%`")
        })
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Parameters of gradual pruning.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `sparsity` | none | final share of zeros in the pruned layers together | `[0, 1)` |
/// | `pattern` | unstructured | which weights are zero together | see [`Pattern`] |
/// | `shape` | cubic polynomial | how sparsity rises | a name in [`SHAPES`](crate::SHAPES) |
/// | `begin`, `end` | 0 %, 50 % | the first and the last update | within the run |
/// | `every` | a hundredth of the interval | between updates | at least a step |
/// | `distribution` | uniform | how zeros are spread over the layers | |
/// | `dense` | none | layers or weights that stay dense | `*` matches any text |
/// | `all` | no | prune also what stays dense by default, see [`prunable`](crate::prunable) | |
/// | `regrow` | none | share of the weights that an update moves at first; falls to 0 by a cosine | `(0, 1)` |
/// | `keep_zeros` | no | what is zero in the model at the begin stays so | |
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SparseParams {
    /// Final share of zeros in the pruned layers together; `None` keeps what there is.
    pub sparsity: Option<f64>,
    /// Which weights are zero together.
    pub pattern: Pattern,
    /// How sparsity rises.
    pub shape: ShapeChoice,
    /// The first update.
    pub begin: When,
    /// The last update.
    pub end: When,
    /// Between updates.
    pub every: Option<When>,
    /// How zeros are spread over the layers.
    pub distribution: Distribution,
    /// Layers or weights that stay dense.
    pub dense: Vec<String>,
    /// Prune also what stays dense by default, see [`prunable`](crate::prunable).
    pub all: bool,
    /// Share of the weights that an update moves at first.
    pub regrow: Option<f64>,
    /// What is zero in the model at the begin stays so.
    pub keep_zeros: bool,
}

impl Default for SparseParams {
    fn default() -> Self {
        Self {
            sparsity: None,
            pattern: Pattern::Unstructured,
            shape: ShapeChoice::default(),
            begin: When::Share(0.0),
            end: When::Share(0.5),
            every: None,
            distribution: Distribution::Uniform,
            dense: Vec::new(),
            all: false,
            regrow: None,
            keep_zeros: false,
        }
    }
}

/// Updates of a run when nothing else is asked for.
const UPDATES: u64 = 100;

impl SparseParams {
    /// Checks what needs no run.
    ///
    /// # Errors
    /// `E0430`, `E0431` and `E0436` name the parameter and its range.
    pub fn check(&self) -> Result<()> {
        self.pattern.check()?.check_sparsity(self.sparsity.unwrap_or(0.0))?;
        let Some(regrow) = self.regrow else { return Ok(()) };
        if !(regrow > 0.0 && regrow < 1.0) {
            let message = format!("the share that comes back should be in (0, 1), but is {regrow}");
            return Err(Error::invalid(message).code_is("E0430"));
        }
        match self.pattern {
            Pattern::Unstructured | Pattern::NM(..) => Ok(()),
            pattern => Err(Error::unsupported(format!("`{pattern}` weights cannot come back"))
                .code_is("E0436")),
        }
    }

    /// The schedule of a run; `None` without a sparsity.
    ///
    /// # Errors
    /// `E0430` when the end is before the begin.
    pub fn schedule(&self, run: &Outline) -> Result<Option<Schedule>> {
        let Some(target) = self.sparsity else { return Ok(None) };
        let step = |when: When| when.step(run.steps, run.steps_per_epoch);
        let (begin, end) = (step(self.begin), step(self.end));
        let every = self.every.map_or(end.saturating_sub(begin) / UPDATES, step);
        let interval = Interval::new(0.0, target, begin, end, every.max(1))?;
        Ok(Some(Schedule::new(self.shape, interval)))
    }

    /// What the user should know about a schedule in a run: that it ends after the run, or when the
    /// learning rate is spent.
    pub fn warnings(schedule: &Schedule, run: &Outline) -> Vec<String> {
        /// Rates below this share of the peak hardly let weights recover.
        const SPENT: f64 = 0.1;
        let end = schedule.interval().end();
        let mut warnings = Vec::new();
        if end > run.steps {
            warnings.push(format!(
                "pruning ends at step {end}, but training after {}: sparsity reaches {:.1}%, not \
                 {:.1}%",
                run.steps,
                schedule.sparsity(run.steps) * 100.0,
                schedule.interval().target() * 100.0
            ));
        }
        let last = end.min(run.steps).max(1) - 1;
        // The latest step with a rate worth the name; before it the rate may have been rising.
        let spent = (0..=last).rev().find(|&step| run.rate(step) >= SPENT);
        match spent {
            Some(step) if step < last => warnings.push(format!(
                "the learning rate is below a tenth of its peak from step {} on, before pruning ends \
                 at step {end}: what is pruned then is not made up for; let it end earlier",
                step + 1
            )),
            _ => {}
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn points_of_a_run() {
        for (text, when, step) in [
            ("500", When::Step(500), 500),
            ("1.5ep", When::Epoch(1.5), 150),
            ("2epochs", When::Epoch(2.0), 200),
            ("60%", When::Share(0.6), 180),
        ] {
            assert_eq!(text.parse::<When>().unwrap(), when);
            assert_eq!(when.step(300, 100), step);
        }
        for wrong in ["", "-1", "1.5", "101%", "xep", "1e"] {
            assert_eq!(wrong.parse::<When>().unwrap_err().code(), "E0430", "{wrong}");
        }
    }

    #[test]
    fn late_ends_and_spent_rates_are_told() {
        let falling = |step: u64| (100 - step) as f64 / 100.0;
        let run = Outline::new(100, 50, &falling);
        let warnings = |begin: u64, end: u64| {
            let (begin, end) = (When::Step(begin), When::Step(end));
            let params = SparseParams { sparsity: Some(0.8), begin, end, ..Default::default() };
            SparseParams::warnings(&params.schedule(&run).unwrap().unwrap(), &run)
        };
        assert_eq!(warnings(0, 80), Vec::<String>::new());
        let late = warnings(50, 150);
        assert_eq!(late.len(), 2, "{late:?}");
        assert!(late[0].contains("sparsity reaches 70.0%, not 80.0%"), "{late:?}");
        assert!(late[1].contains("from step 91 on"), "{late:?}");
        assert!(warnings(0, 100).len() == 1);
    }
}
