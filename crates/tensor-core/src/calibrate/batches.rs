//! Calibration samples, which may be spread over processes.

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
    /// Samples of all processes.
    pub(super) samples: usize,
    /// Samples of every batch but the last.
    pub(super) size: usize,
    pub(super) group: Group,
}

impl Batches {
    /// The batches that this process [holds](Group::share), from number `first` on. All are of one
    /// size but the last of all.
    ///
    /// # Errors
    /// When another process cannot be reached.
    pub fn shared(arrays: Vec<Vec<Array>>, first: usize, group: Group) -> Result<Self> {
        // The first process has a whole batch, if there is one.
        let size = if group.is_first() { Self::count(&arrays[..arrays.len().min(1)]) } else { 0 };
        let mut sums = [Self::count(&arrays) as f64, size as f64];
        group.sum_f64(&mut sums)?;
        let [samples, size] = sums.map(|sum| sum as usize);
        Ok(Self { arrays, first, samples, size, group })
    }

    /// Is there no sample in any process?
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty() && self.samples == 0
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
        let first = |batch: &Vec<Array>| batch.first().and_then(|a| a.dims().first().copied());
        arrays.iter().filter_map(first).sum()
    }
}

impl From<Vec<Vec<Array>>> for Batches {
    /// All batches, in a process that works alone.
    fn from(arrays: Vec<Vec<Array>>) -> Self {
        let samples = Self::count(&arrays);
        let size = Self::count(&arrays[..arrays.len().min(1)]);
        Self { arrays, first: 0, samples, size, group: Group::alone() }
    }
}
