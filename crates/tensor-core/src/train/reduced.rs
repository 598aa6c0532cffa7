//! Which layers a run computes in less than 32 bits.

use super::Params;
use crate::data::Dataset;
use crate::graph::Graph;
use crate::ops::{self, Inputs, NodeCx};
use crate::run::{DeviceName, infer};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Number of layers whose products a run of `params` on such samples computes in
/// [`Params::precision`], where that is not `f32`. Layers that lack the fast path are computed in
/// `f32`.
///
/// # Errors
/// When the samples do not fit the model, or an operator is unknown.
pub fn reduced_layers(graph: &Graph, data: &Dataset, params: &Params) -> Result<usize> {
    if params.device != DeviceName::Cpu {
        return Ok(0);
    }
    if data.is_empty() {
        return Err(Error::invalid("there are no samples").code_is("E0205"));
    }
    let batch = data.batch(0..1)?;
    let shapes: BTreeMap<String, Vec<usize>> =
        batch.inputs.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
    let facts = infer(graph, &shapes)?;
    let mut count = 0;
    for id in graph.node_ids() {
        let cx = NodeCx::new(graph, id);
        let inputs = cx.node.inputs.iter().map(|value| value.and_then(|value| facts.get(value)));
        let inputs = Inputs::new(inputs.collect());
        count += usize::from(ops::for_node(graph, id)?.reduces(&cx, &inputs, params.precision)?);
    }
    Ok(count)
}
