//! Layers that run without the zeros of their weights.

use super::session::Session;
use crate::kernels::SparseForm;
use crate::ops::Inputs;
use crate::{NodeId, Result};

/// A layer whose weight is kept without its zeros.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SparseLayer {
    /// The node.
    pub node: NodeId,
    /// How its weight is kept.
    pub form: SparseForm,
    /// Weights that are multiplied, as a share of all.
    pub density: f64,
}

impl Session<'_> {
    /// Keeps the weights of convolutions without groups and of matrix products without their zeros, where so
    /// many are zero that our sparse kernel beats the dense one on this processor
    /// ([`SparseWeight::if_faster`](crate::kernels::SparseWeight::if_faster)).
    ///
    /// Weights are analysed once, here. Outputs are those of the dense run, up to rounding; NaN and
    /// infinity that meet a zero weight do not reach them.
    ///
    /// # Errors
    /// When a weight is not valid.
    pub fn sparse(mut self) -> Result<Self> {
        for place in 0..self.steps.len() {
            let step = &self.steps[place];
            let cx = self.context(step);
            let inputs = cx.node.inputs.iter();
            let inputs = inputs.map(|value| value.and_then(|value| self.constants.get(&value)));
            let inputs = Inputs::new(inputs.collect());
            let found = step.operator.prepare_sparse(&cx, &inputs);
            let Some(sparse) = found.map_err(|error| cx.locate(error))? else { continue };
            let (node, form, density) = (step.node, sparse.form, sparse.density);
            self.steps[place].prepared = Some(sparse.prepared);
            self.sparse_layers.push(SparseLayer { node, form, density });
        }
        Ok(self)
    }

    /// The layers that [`sparse`](Self::sparse) chose, in graph order.
    pub fn sparse_layers(&self) -> &[SparseLayer] {
        &self.sparse_layers
    }
}
