//! What a training run does differently from inference, and what it leaves behind.

use crate::group::Group;
use crate::kernels::Precision;
use crate::{NodeId, Result};
use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The state of one training step beside its values, for [`Session::train`](super::Session::train).
#[derive(Debug)]
pub struct Training {
    random: ChaCha8Rng,
    precision: Precision,
    frozen: BTreeSet<NodeId>,
    statistics: BTreeMap<NodeId, BatchStatistics>,
    group: Group,
    /// The samples of this process, and the number of samples in the batch.
    own: Range<usize>,
    batch: usize,
}

impl Training {
    /// Starts a step; dropout draws from `random`, a stream of [`crate::random::stream`].
    pub fn new(random: ChaCha8Rng) -> Self {
        Self {
            random,
            precision: Precision::F32,
            frozen: BTreeSet::new(),
            statistics: BTreeMap::new(),
            group: Group::alone(),
            own: 0..0,
            batch: 0,
        }
    }

    /// The inputs are the samples `own` of a batch of `batch` samples that the processes of a group share.
    /// Statistics of the batch are then those of all samples, and dropout draws for a sample what it
    /// would draw in one process.
    #[must_use]
    pub fn sharing(self, group: &Group, own: Range<usize>, batch: usize) -> Self {
        Self { group: group.clone(), own, batch, ..self }
    }

    /// Computes products in another precision than `f32`, in
    /// [`Session::record`](super::Session::record).
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Lets a node compute as at inference: a batch normalization keeps its running statistics, a
    /// dropout does nothing.
    pub fn freeze(&mut self, node: NodeId) {
        self.frozen.insert(node);
    }

    /// Statistics of the batch that each batch normalization met, for the running statistics.
    pub fn statistics(&self) -> &BTreeMap<NodeId, BatchStatistics> {
        &self.statistics
    }

    /// Gives the stream back, for the next step.
    pub fn into_random(self) -> ChaCha8Rng {
        self.random
    }

    pub(crate) fn is_frozen(&self, node: NodeId) -> bool {
        self.frozen.contains(&node)
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The processes that share the batch.
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// A draw for each of `count` values, which lie sample by sample.
    pub(crate) fn draw(&mut self, count: usize) -> Vec<u32> {
        let each = if self.group.is_alone() { 0 } else { count / self.own.len().max(1) };
        let others = [self.own.start * each, self.batch.saturating_sub(self.own.end) * each];
        // Those of the samples before and behind, which other processes have.
        let pass = |random: &mut ChaCha8Rng, count: usize| {
            (0..count).for_each(|_| {
                random.next_u32();
            });
        };
        pass(&mut self.random, others[0]);
        let own = (0..count).map(|_| self.random.next_u32()).collect();
        pass(&mut self.random, others[1]);
        own
    }

    pub(crate) fn record(&mut self, node: NodeId, statistics: BatchStatistics) {
        self.statistics.insert(node, statistics);
    }
}

/// Statistics of one batch, by channel and without gradient.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// Means.
    pub mean: Tensor,
    /// Biased variances, by which the batch was normalized.
    pub variance: Tensor,
    /// Values per channel.
    pub count: usize,
}

impl BatchStatistics {
    /// New running mean and variance: `momentum * old + (1 - momentum) * batch`.
    ///
    /// `momentum` is ONNX's attribute (0.9 as a rule), which is one minus PyTorch's. As in PyTorch
    /// the batch contributes its unbiased variance, `count / (count - 1)` times the biased one; a
    /// single value per channel contributes none.
    ///
    /// # Errors
    /// When the old statistics have another shape.
    pub fn running(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        momentum: f64,
    ) -> Result<(Tensor, Tensor)> {
        let mix = |old: &Tensor, new: Tensor| -> Result<Tensor> {
            Ok(((old * momentum)? + (new * (1.0 - momentum))?)?)
        };
        let variance = match self.count {
            0 | 1 => variance.clone(),
            n => mix(variance, (&self.variance * (n as f64 / (n - 1) as f64))?)?,
        };
        Ok((mix(mean, self.mean.clone())?, variance))
    }
}
