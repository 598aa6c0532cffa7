//! Zhu and Gupta's polynomial.

use super::{Interval, Parameter, Schedule, Shape, ShapeChoice};
use tensor_core::Result;

/// The exponent of the paper.
pub(super) const CUBIC: f64 = 3.0;

const EXPONENT: Parameter = Parameter { name: "exponent", default: CUBIC, range: (0.1, 20.0) };

pub(super) const SHAPE: Shape = Shape {
    name: "polynomial",
    summary: "fast while much is redundant, slow towards the end (Zhu and Gupta 2017)",
    parameter: Some(EXPONENT),
    at,
    is_once: false,
};

fn at(interval: &Interval, share: f64, exponent: f64) -> f64 {
    let (initial, target) = (interval.initial(), interval.target());
    target + (initial - target) * (1.0 - share).powf(exponent)
}

/// The schedule of Zhu and Gupta, "To prune, or not to prune" (2017), equation 1:
///
/// ```text
/// s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3   for t in {t0, t0 + dt, ..., t0 + n dt}
/// ```
///
/// Before `t0` sparsity is `s_i`, after the last update `s_f`. With 100 steps to 90 %, half of the
/// weights are gone after 24 of them:
///
/// ```
/// use magnitude_schedule::PolynomialSchedule;
///
/// let schedule = PolynomialSchedule::new(0.0, 0.9, 0, 100, 1)?;
/// let rounded = [24, 45, 70, 100].map(|step| (schedule.sparsity(step) * 1e3).round() / 1e3);
/// assert_eq!(rounded, [0.505, 0.750, 0.876, 0.900]);
/// # Ok::<(), tensor_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolynomialSchedule {
    interval: Interval,
    exponent: f64,
}

impl PolynomialSchedule {
    /// From sparsity `initial` (`s_i`) to `target` (`s_f`), updated at step `begin` (`t0`) and every
    /// `frequency` (`dt`) steps up to `end` (`t0 + n dt`); the exponent is 3.
    ///
    /// # Errors
    /// `E0430` as [`Interval::new`].
    pub fn new(initial: f64, target: f64, begin: u64, end: u64, frequency: u64) -> Result<Self> {
        let interval = Interval::new(initial, target, begin, end, frequency)?;
        Ok(Self { interval, exponent: CUBIC })
    }

    /// The same with another exponent; 1 is a straight line.
    ///
    /// # Errors
    /// `E0430` when it is not in 0.1 to 20.
    pub fn exponent(self, exponent: f64) -> Result<Self> {
        Ok(Self { exponent: EXPONENT.check(exponent)?, ..self })
    }

    /// The sparsity at a step, in `[0, 1)`.
    pub fn sparsity(&self, step: u64) -> f64 {
        self.schedule().sparsity(step)
    }

    pub(super) fn schedule(self) -> Schedule {
        Schedule::new(ShapeChoice { shape: &SHAPE, parameter: self.exponent }, self.interval)
    }
}
