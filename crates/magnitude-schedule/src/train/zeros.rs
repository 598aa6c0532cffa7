//! The zeros of a model.

use super::params::SparseParams;
use crate::Mask;
use serde::Serialize;
use tensor_core::graph::{Constant, Graph, Index};
use tensor_core::run::Array;
use tensor_core::train::{Parameters, Role, prepare};
use tensor_core::{Error, Result};

/// The zeros of one weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerZeros {
    /// Key of the layer.
    pub key: String,
    /// Name of the weight.
    pub weight: String,
    /// Number of weights.
    pub weights: usize,
    /// Exact zeros among them.
    pub zeros: usize,
    /// Why it stays dense, if it does.
    pub dense: Option<String>,
}

/// The zeros of every prunable weight of a graph, and which of them stay dense under these
/// parameters.
///
/// # Errors
/// `E0434` when a name is unknown.
pub fn zeros_of(graph: &Graph, params: &SparseParams) -> Result<Vec<LayerZeros>> {
    let index = Index::new(graph);
    let found = crate::prunable(graph, params.pattern, &params.dense, params.all)?;
    let found = found.into_iter().map(|weight| {
        let constant = graph
            .constant(weight.value, &index)
            .ok_or_else(|| Error::internal("a weight is no constant"))?;
        let values = constant.to_f32s()?;
        Ok(LayerZeros {
            key: weight.key,
            weight: weight.name,
            weights: values.len(),
            zeros: values.iter().filter(|value| **value == 0.0).count(),
            dense: weight.dense,
        })
    });
    found.collect()
}

/// A weight that training changes, prunable or not.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedWeight {
    /// Its name in the [prepared](prepare) graph.
    pub name: String,
    /// Node and input that read it, by the key of the node; none where something is between them.
    reader: Option<(String, usize)>,
    /// What is not zero.
    pub nonzero: Mask,
}

/// The weights of two axes or more that training changes: those of products and the tables of
/// `Gather`.
///
/// # Errors
/// `E0402` when the graph has no parameter.
pub fn trained_weights(graph: &Graph) -> Result<Vec<TrainedWeight>> {
    let graph = prepare(graph);
    let index = Index::new(&graph);
    let mut found = Vec::new();
    for parameter in Parameters::of(&graph)?.iter() {
        let tensor = parameter.var.as_tensor();
        if parameter.role == Role::Weight && tensor.rank() >= 2 {
            let readers = index.readers(parameter.value);
            found.push(TrainedWeight {
                name: parameter.name.clone(),
                reader: readers.first().map(|&(id, input)| (graph.key(id).to_owned(), input)),
                nonzero: Mask::of_nonzeros(tensor)?,
            });
        }
    }
    Ok(found)
}

/// The weights of a model of which a zero is no zero in what was trained from it, with their number.
///
/// # Errors
/// As [`trained_weights`].
pub fn lost_zeros(original: &Graph, trained: &Graph) -> Result<Vec<(String, usize)>> {
    let index = Index::new(trained);
    let mut lost = Vec::new();
    for weight in trained_weights(original)? {
        let now = match found(trained, &index, &weight) {
            Some(constant) => Mask::of_nonzeros(&Array::from_constant(constant)?.tensor)?,
            None => Mask::full(weight.nonzero.dims()),
        };
        let places = weight.nonzero.keep().iter().zip(now.keep());
        let count = places.filter(|&(before, after)| !before && *after).count();
        if count > 0 {
            lost.push((weight.name, count));
        }
    }
    Ok(lost)
}

/// The weight in another graph of the same nodes, where a shared one may have other names.
fn found<'g>(graph: &'g Graph, index: &Index, weight: &TrainedWeight) -> Option<&'g Constant> {
    let fits = |constant: &&Constant| constant.dims() == weight.nonzero.dims();
    let named = graph.find(&weight.name).and_then(|value| graph.constant(value, index));
    if let Some(constant) = named.filter(fits) {
        return Some(constant);
    }
    let (key, input) = weight.reader.as_ref()?;
    let node = graph.node_ids().find(|&id| graph.key(id) == key)?;
    graph.constant(graph.node(node).input(*input)?, index).filter(fits)
}
