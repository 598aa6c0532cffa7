//! What a training run does differently from inference, and what it leaves behind.

use crate::kernels::Precision;
use crate::{NodeId, Result};
use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// The state of one training step beside its values, for [`Session::train`](super::Session::train).
#[derive(Debug)]
pub struct Training {
    random: ChaCha8Rng,
    precision: Precision,
    frozen: BTreeSet<NodeId>,
    statistics: BTreeMap<NodeId, BatchStatistics>,
}

impl Training {
    /// Starts a step; dropout draws from `random`, a stream of [`crate::random::stream`].
    pub fn new(random: ChaCha8Rng) -> Self {
        Self {
            random,
            precision: Precision::F32,
            frozen: BTreeSet::new(),
            statistics: BTreeMap::new(),
        }
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

    pub(crate) fn random(&mut self) -> &mut ChaCha8Rng {
        &mut self.random
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
