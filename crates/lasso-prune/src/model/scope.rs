//! What all stages of pruning a model look at.

use super::layers::Layer;
use super::params::ValidPruneParams;
use super::sets::Set;
use tensor_core::calibrate::Sampling;
use tensor_core::graph::Graph;
use tensor_core::run::Facts;

/// A model taken apart into layers and sets, with the parameters of the run.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// The original model, BatchNormalization folded.
    pub(crate) graph: &'a Graph,
    pub(crate) facts: &'a Facts,
    pub(crate) layers: &'a [Layer],
    pub(crate) sets: &'a [Set],
    pub(crate) params: &'a ValidPruneParams,
    pub(crate) sampling: Sampling,
}

impl Scope<'_> {
    /// Keys of the layers that read a set.
    pub(crate) fn reader_keys(&self, set: &Set) -> Vec<String> {
        let key = |&reader: &usize| self.graph.key(self.layers[reader].node).to_owned();
        set.readers.iter().map(key).collect()
    }
}
