//! Sparsity over a run, as pure functions of the step. A new schedule is a file with its [`Shape`]
//! and a line in [`SHAPES`].

mod constant;
mod exponential;
mod interval;
mod linear;
mod one_shot;
mod polynomial;

pub use interval::Interval;
pub use polynomial::PolynomialSchedule;

use serde::{Serialize, Serializer};
use tensor_core::{Error, Result};

/// All schedules, in the order of their listing.
pub const SHAPES: [&Shape; 5] =
    [&polynomial::SHAPE, &linear::SHAPE, &exponential::SHAPE, &constant::SHAPE, &one_shot::SHAPE];

/// How sparsity goes from its initial to its final value.
#[derive(Debug)]
pub struct Shape {
    /// Such as `polynomial`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The number that can be set, if any.
    pub parameter: Option<Parameter>,
    /// The sparsity at an update that is a share in `[0, 1)` of the interval away from its begin.
    at: fn(&Interval, share: f64, parameter: f64) -> f64,
    /// Is there one update only, at the begin?
    is_once: bool,
}

/// A number that a [`Shape`] takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its value when not set.
    pub default: f64,
    /// The range, both ends included.
    pub range: (f64, f64),
}

impl Parameter {
    fn check(&self, value: f64) -> Result<f64> {
        let (least, most) = self.range;
        match (least..=most).contains(&value) {
            true => Ok(value),
            false => Err(Error::invalid(format!(
                "`{}` should be from {least} to {most}, but is {value}",
                self.name
            ))
            .code_is("E0430")),
        }
    }
}

/// A shape with its parameter, as text `name` or `name:parameter=value`.
#[derive(Debug, Clone, Copy)]
pub struct ShapeChoice {
    shape: &'static Shape,
    parameter: f64,
}

impl ShapeChoice {
    /// The shape's name.
    pub fn name(&self) -> &'static str {
        self.shape.name
    }
}

impl Default for ShapeChoice {
    /// Zhu and Gupta's cubic polynomial.
    fn default() -> Self {
        Self { shape: &polynomial::SHAPE, parameter: polynomial::CUBIC }
    }
}

impl PartialEq for ShapeChoice {
    fn eq(&self, other: &Self) -> bool {
        self.shape.name == other.shape.name && self.parameter == other.parameter
    }
}

impl std::fmt::Display for ShapeChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.shape.parameter {
            Some(p) => write!(f, "{}:{}={}", self.shape.name, p.name, self.parameter),
            None => f.write_str(self.shape.name),
        }
    }
}

impl Serialize for ShapeChoice {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl std::str::FromStr for ShapeChoice {
    type Err = Error;

    /// # Errors
    /// `E0430` when the name or the parameter is unknown, or the value outside its range.
    fn from_str(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once(':').map_or((text, None), |(n, r)| (n, Some(r)));
        let Some(&shape) = SHAPES.iter().find(|shape| shape.name == name) else {
            let names: Vec<_> = SHAPES.iter().map(|shape| shape.name).collect();
            return Err(Error::invalid(format!("there is no schedule `{name}`"))
                .code_is("E0430")
                .hint(format!("schedules are {}", names.join(", "))));
        };
        let default = shape.parameter.map_or(0.0, |p| p.default);
        let Some(rest) = rest else { return Ok(Self { shape, parameter: default }) };
        let given = rest.split_once('=').and_then(|(n, v)| Some((n, v.parse::<f64>().ok()?)));
        match (shape.parameter, given) {
            (Some(known), Some((name, value))) if known.name == name => {
                Ok(Self { shape, parameter: known.check(value)? })
            }
            _ => Err(Error::invalid(format!("`{name}` does not take `{rest}`"))
                .code_is("E0430")
                .hint("write a schedule as in `polynomial:exponent=3`")),
        }
    }
}

/// Sparsity as a function of the step.
///
/// | name | value between begin and end; `p` is the share that has passed, `i` and `f` the ends |
/// | --- | --- |
/// | `polynomial` | `f + (i - f) (1 - p)^exponent` |
/// | `linear` | `f + (i - f) (1 - p)` |
/// | `exponential` | `1 - (1 - i) ((1 - f) / (1 - i))^p`: each update removes the same share of what is left |
/// | `constant` | `f` |
/// | `one-shot` | `f`, with one update at the begin |
///
/// Before `begin` it is `i`, at `begin` the first value, from `end` on exactly `f`, and it never
/// falls.
///
/// ```
/// use magnitude_schedule::{Interval, Schedule};
///
/// let interval = Interval::new(0.0, 0.9, 100, 200, 10)?;
/// let schedule = Schedule::new("exponential".parse()?, interval);
/// assert_eq!(schedule.sparsity(99), 0.0);
/// assert!((schedule.sparsity(150) - (1.0 - 0.1_f64.sqrt())).abs() < 1e-12);
/// assert_eq!(schedule.sparsity(159), schedule.sparsity(150));
/// assert_eq!(schedule.sparsity(200), 0.9);
/// # Ok::<(), tensor_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Schedule {
    shape: ShapeChoice,
    #[serde(flatten)]
    interval: Interval,
}

impl Schedule {
    /// A shape over an interval.
    pub fn new(shape: ShapeChoice, interval: Interval) -> Self {
        let interval = if shape.shape.is_once { interval.at_once() } else { interval };
        Self { shape, interval }
    }

    /// The sparsity at a step, in `[0, 1)`.
    pub fn sparsity(&self, step: u64) -> f64 {
        let interval = &self.interval;
        match interval.last_update(step) {
            None => interval.initial(),
            Some(update) if update == interval.end() => interval.target(),
            Some(update) => {
                let at = self.shape.shape.at;
                let value = at(interval, interval.share(update), self.shape.parameter);
                value.clamp(interval.initial(), interval.target())
            }
        }
    }

    /// When it changes, and between which values.
    pub fn interval(&self) -> &Interval {
        &self.interval
    }

    /// How it changes.
    pub fn shape(&self) -> ShapeChoice {
        self.shape
    }

    /// The same for the `index`-th of `count` layers that are pruned one after the other.
    pub fn part(&self, index: usize, count: usize) -> Self {
        Self { shape: self.shape, interval: self.interval.part(index, count) }
    }
}

impl From<PolynomialSchedule> for Schedule {
    fn from(polynomial: PolynomialSchedule) -> Self {
        polynomial.schedule()
    }
}
