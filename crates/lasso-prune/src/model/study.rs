//! Several budgets from one calibration.

use super::params::{Budget, PruneParams};
use super::prune::{KnownCurves, Pruned, prune_with};
use super::source::Source;
use std::collections::BTreeMap;
use tensor_core::Result;
use tensor_core::graph::Graph;
use tensor_core::progress::Progress;

/// A model with its calibration data, to be pruned under any number of budgets.
///
/// What depends on the original alone, the error curves and what errors do to the outputs, is measured
/// once; each budget then takes one pass that refits.
pub struct Study<'a> {
    graph: &'a Graph,
    shapes: &'a BTreeMap<String, Vec<usize>>,
    source: Source<'a>,
    params: PruneParams,
    known: KnownCurves,
}

impl<'a> Study<'a> {
    /// Takes the data; nothing is computed yet. The budget of `params` does not matter.
    pub fn new(
        graph: &'a Graph,
        shapes: &'a BTreeMap<String, Vec<usize>>,
        source: impl Into<Source<'a>>,
        params: PruneParams,
    ) -> Self {
        let source = source.into();
        Self { graph, shapes, source, params, known: KnownCurves::default() }
    }

    /// The model under a budget: what [`prune`](crate::prune) gives.
    ///
    /// # Errors
    /// As [`prune`](crate::prune).
    pub fn prune(&mut self, budget: Budget, progress: &dyn Progress) -> Result<Pruned> {
        let params = PruneParams { budget, ..self.params.clone() }.check()?;
        let model = (self.graph, self.shapes);
        prune_with(model, self.source.clone(), &params, &mut self.known, progress)
    }
}
