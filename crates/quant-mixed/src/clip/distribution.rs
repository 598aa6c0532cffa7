//! What a clip is chosen from.

use crate::Histogram;
use tensor_core::{Error, Result};

/// Values with their counts, ascending; zeros are counted apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    points: Vec<(f32, u64)>,
    min: f32,
    max: f32,
    zeros: u64,
}

impl From<&Histogram> for Distribution {
    fn from(histogram: &Histogram) -> Self {
        let (min, max) = histogram.range();
        Self { points: histogram.points(), min, max, zeros: histogram.zeros() }
    }
}

impl Distribution {
    /// Each value once.
    ///
    /// # Errors
    /// `E0503` when a value is not finite.
    pub fn of(values: &[f32]) -> Result<Self> {
        if let Some(bad) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::invalid(format!("a value is {bad}")).code_is("E0503"));
        }
        let mut sorted: Vec<f32> = values.iter().copied().filter(|&value| value != 0.0).collect();
        let zeros = (values.len() - sorted.len()) as u64;
        sorted.sort_unstable_by(f32::total_cmp);
        let min = sorted.first().map_or(0.0, |first| first.min(0.0));
        let max = sorted.last().map_or(0.0, |last| last.max(0.0));
        Ok(Self { points: sorted.into_iter().map(|value| (value, 1)).collect(), min, max, zeros })
    }

    /// Values that are not zero, ascending, with their counts.
    pub fn points(&self) -> &[(f32, u64)] {
        &self.points
    }

    /// Smallest and largest value, zero included.
    pub fn range(&self) -> (f32, f32) {
        (self.min, self.max)
    }

    /// Largest magnitude.
    pub fn magnitude(&self) -> f32 {
        self.max.max(-self.min)
    }

    /// Number of values, zeros included.
    pub fn total(&self) -> u64 {
        self.zeros + self.points.iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Number of zeros.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }
}
