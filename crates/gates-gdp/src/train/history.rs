//! What happened to the gates over a run.

use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use std::collections::BTreeMap;
use tensor_core::{Error, Result};

/// Intervals of a histogram over `[0, 1]`; a first one, before them, counts closed gates.
pub const BINS: usize = 20;

/// Moments that a history keeps, at most one more.
const MOMENTS: u64 = 100;

/// Snapshots of the gates, about a hundred over a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct History {
    /// Steps done.
    pub steps: Vec<u64>,
    /// Share of the resource that is open.
    pub resource: Vec<f64>,
    /// Weight of the penalty.
    pub weight: Vec<f64>,
    /// Gates by value: closed ones, then [`BINS`] equal intervals of `[0, 1]`.
    pub histogram: Vec<[u32; BINS + 1]>,
}

impl History {
    /// Is this a step to keep?
    pub(super) fn is_due(done: u64, steps: u64) -> bool {
        done == steps || done.is_multiple_of(steps.div_ceil(MOMENTS).max(1))
    }

    /// Adds a moment; values are in `[0, 1]`, exactly 0 where a gate is closed.
    pub(super) fn push(&mut self, done: u64, share: f64, weight: f64, values: &[Vec<f32>]) {
        let mut histogram = [0; BINS + 1];
        for &value in values.iter().flatten() {
            let bin = match value == 0.0 {
                true => 0,
                false => 1 + ((f64::from(value) * BINS as f64) as usize).min(BINS - 1),
            };
            histogram[bin] += 1;
        }
        self.steps.push(done);
        self.resource.push(share);
        self.weight.push(weight);
        self.histogram.push(histogram);
    }

    /// For a checkpoint.
    pub(super) fn save(&self, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let rows = self.steps.iter().zip(&self.resource).zip(&self.weight).zip(&self.histogram);
        let values: Vec<f64> = rows
            .flat_map(|(((step, resource), weight), histogram)| {
                let counts = histogram.iter().map(|&count| f64::from(count));
                [*step as f64, *resource, *weight].into_iter().chain(counts).collect::<Vec<_>>()
            })
            .collect();
        if !values.is_empty() {
            let dims = (self.steps.len(), BINS + 4);
            state.insert("history".to_owned(), Tensor::from_vec(values, dims, &Device::Cpu)?);
        }
        Ok(())
    }

    /// From a checkpoint; empty where it has none.
    pub(super) fn load(state: &BTreeMap<String, Tensor>) -> Result<Self> {
        let mut history = Self::default();
        let Some(saved) = state.get("history") else { return Ok(history) };
        let rows = match saved.dtype() {
            DType::F64 => saved.to_vec2::<f64>().ok(),
            _ => None,
        };
        for row in rows.unwrap_or_default() {
            let [step, resource, weight, counts @ ..] = row.as_slice() else { break };
            let mut histogram = [0; BINS + 1];
            for (bin, count) in histogram.iter_mut().zip(counts) {
                *bin = *count as u32;
            }
            history.steps.push(*step as u64);
            history.resource.push(*resource);
            history.weight.push(*weight);
            history.histogram.push(histogram);
        }
        match history.steps.len() == saved.dim(0)? {
            true => Ok(history),
            false => Err(Error::invalid("the history of the gates is damaged").code_is("E0404")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_their_bins() {
        let mut history = History::default();
        // The ends of intervals, 1 and what is closed.
        history.push(1, 0.5, 2.0, &[vec![0.0, 1e-6, 0.049], vec![0.05, 0.5, 0.999, 1.0]]);
        let mut expected = [0; BINS + 1];
        (expected[0], expected[1], expected[2], expected[11], expected[BINS]) = (1, 2, 1, 1, 2);
        assert_eq!(history.histogram, [expected]);
        let mut state = BTreeMap::new();
        history.save(&mut state).expect("saved");
        assert_eq!(History::load(&state).expect("loaded"), history);
    }

    #[test]
    fn a_hundred_moments_and_the_last_are_kept() {
        for steps in [1, 99, 100, 101, 1234] {
            let kept: Vec<u64> = (1..=steps).filter(|&done| History::is_due(done, steps)).collect();
            assert_eq!(kept.last(), Some(&steps));
            assert!(kept.len() <= 101 && kept.len() >= steps.min(50) as usize, "{steps}");
        }
    }
}
