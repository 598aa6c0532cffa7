//! Calibration samples, which may be spread over processes.

use super::Halves;
use crate::Result;
use crate::group::Group;
use crate::run::Array;

/// Calibration samples in batches, each with arrays in the order of the graph's inputs; of several
/// processes each holds some.
#[derive(Debug, Clone)]
pub struct Batches {
    pub(super) arrays: Vec<Vec<Array>>,
    /// The number of the first of them among those of all processes.
    pub(super) first: usize,
    /// Samples before it in all processes.
    pub(super) start: usize,
    pub(super) halves: Halves,
    pub(super) group: Group,
}

impl Batches {
    /// The batches that this process [holds](Group::share), from number `first` on.
    ///
    /// # Errors
    /// When another process cannot be reached.
    pub fn shared(arrays: Vec<Vec<Array>>, first: usize, group: Group) -> Result<Self> {
        let mut samples = vec![0.0; group.size() + 1];
        samples[group.rank()] = Self::count(&arrays) as f64;
        samples[group.size()] = arrays.len() as f64;
        group.sum_f64(&mut samples)?;
        let batches = samples.pop().unwrap_or_default() as usize;
        let start = samples[..group.rank()].iter().sum::<f64>() as usize;
        let halves = Halves { samples: samples.iter().sum::<f64>() as usize, batches };
        Ok(Self { arrays, first, start, halves, group })
    }

    /// Is there no sample in any process?
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty() && self.halves.samples == 0
    }

    /// Those of this process.
    pub fn own(&self) -> &[Vec<Array>] {
        &self.arrays
    }

    /// The number of the first of them.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The processes that hold them.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Samples in some batches.
    pub(super) fn count(arrays: &[Vec<Array>]) -> usize {
        arrays.iter().map(|batch| Self::samples_of(batch)).sum()
    }

    /// Samples of a batch.
    pub(super) fn samples_of(batch: &[Array]) -> usize {
        batch.first().and_then(|array| array.dims().first().copied()).unwrap_or(0)
    }
}

impl From<Vec<Vec<Array>>> for Batches {
    /// All batches, in a process that works alone.
    fn from(arrays: Vec<Vec<Array>>) -> Self {
        let halves = Halves { samples: Self::count(&arrays), batches: arrays.len() };
        Self { arrays, first: 0, start: 0, halves, group: Group::alone() }
    }
}
