//! Where a range is cut off before it is quantized: a wide range keeps outliers, a narrow one makes
//! finer steps. A new way is a file with its [`Clip`] and a line in [`CLIPS`].

mod cumulative;
mod distribution;
mod divergence;
mod error;
mod extremes;
mod percentile;

pub use distribution::Distribution;

use serde::{Serialize, Serializer};
use tensor_core::{Error, Result};

/// All ways to choose a range, in the order of their listing.
pub const CLIPS: [&Clip; 5] =
    [&error::CLIP, &extremes::CLIP, &percentile::CLIP, &divergence::CLIP, &cumulative::CLIP];

/// How the range is chosen.
#[derive(Debug)]
pub struct Clip {
    /// Such as `mse`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The number that can be set, if any.
    pub parameter: Option<Parameter>,
    /// The range for a distribution that has something other than zeros.
    range: fn(&Distribution, Target, parameter: f64) -> (f32, f32),
}

/// What a range is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Bits, from 1 to 8.
    pub bits: u8,
    /// Is the grid symmetric about zero?
    pub symmetric: bool,
}

/// A number that a [`Clip`] takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its value when not set.
    pub default: f64,
    /// The range, both ends included.
    pub range: (f64, f64),
}

/// A clip with its parameter, as text `name` or `name:number`.
#[derive(Debug, Clone, Copy)]
pub struct ClipChoice {
    clip: &'static Clip,
    parameter: f64,
}

impl ClipChoice {
    /// Nothing is cut off.
    pub const MIN_MAX: Self = Self { clip: &extremes::CLIP, parameter: 0.0 };

    /// The smallest squared error.
    pub const MSE: Self = Self { clip: &error::CLIP, parameter: 0.0 };

    /// The clip's name.
    pub fn name(&self) -> &'static str {
        self.clip.name
    }

    /// The range to quantize: with a symmetric target its ends are opposite. It includes zero, and
    /// never exceeds that of the values.
    pub fn range(&self, values: &Distribution, target: Target) -> (f32, f32) {
        if values.magnitude() == 0.0 {
            return (0.0, 0.0);
        }
        (self.clip.range)(values, target, self.parameter)
    }
}

impl PartialEq for ClipChoice {
    fn eq(&self, other: &Self) -> bool {
        self.clip.name == other.clip.name && self.parameter == other.parameter
    }
}

impl std::fmt::Display for ClipChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.clip.parameter {
            Some(_) => write!(f, "{}:{}", self.clip.name, self.parameter),
            None => f.write_str(self.clip.name),
        }
    }
}

impl Serialize for ClipChoice {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl std::str::FromStr for ClipChoice {
    type Err = Error;

    /// # Errors
    /// `E0500` when the name is unknown, or the number outside its range.
    fn from_str(text: &str) -> Result<Self> {
        let (name, number) = text.split_once(':').map_or((text, None), |(n, p)| (n, Some(p)));
        let Some(&clip) = CLIPS.iter().find(|clip| clip.name == name) else {
            let names: Vec<_> = CLIPS.iter().map(|clip| clip.name).collect();
            return Err(Error::invalid(format!("there is no clip `{name}`"))
                .code_is("E0500")
                .hint(format!("clips are {}", names.join(", "))));
        };
        let wrong = |what: String| Err(Error::invalid(what).code_is("E0500"));
        let parameter = match (clip.parameter, number) {
            (known, None) => known.map_or(0.0, |parameter| parameter.default),
            (None, Some(_)) => return wrong(format!("clip `{name}` takes no number")),
            (Some(known), Some(number)) => match number.parse::<f64>() {
                Ok(value) if (known.range.0..=known.range.1).contains(&value) => value,
                _ => {
                    let (least, most) = known.range;
                    return wrong(format!(
                        "the number of clip `{name}` should be from {least} to {most}, but is \
                         `{number}`"
                    ));
                }
            },
        };
        Ok(Self { clip, parameter })
    }
}
