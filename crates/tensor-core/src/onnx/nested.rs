//! Sub-graphs and functions, which stay opaque: their tensors, and the outer names they read.

use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use super::proto::{SparseTensorProto, TensorProto};
use crate::Result;
use std::collections::BTreeSet;

type Visit<'a> = dyn FnMut(&mut TensorProto) -> Result<()> + 'a;

/// Visits every tensor in what remains of a model after its main graph was converted.
pub(super) fn in_model(model: &mut ModelProto, visit: &mut Visit<'_>) -> Result<()> {
    if let Some(graph) = &mut model.graph {
        in_graph(graph, visit)?;
    }
    for training in &mut model.training_info {
        for graph in training.initialization.iter_mut().chain(&mut training.algorithm) {
            in_graph(graph, visit)?;
        }
    }
    for FunctionProto { attribute_proto, node, .. } in &mut model.functions {
        for attribute in attribute_proto {
            in_attribute(attribute, visit)?;
        }
        in_nodes(node, visit)?;
    }
    Ok(())
}

/// Visits every tensor in an attribute.
pub(super) fn in_attribute(attribute: &mut AttributeProto, visit: &mut Visit<'_>) -> Result<()> {
    for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
        visit(tensor)?;
    }
    for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
        in_sparse(sparse, visit)?;
    }
    for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
        in_graph(graph, visit)?;
    }
    Ok(())
}

fn in_graph(graph: &mut GraphProto, visit: &mut Visit<'_>) -> Result<()> {
    for tensor in &mut graph.initializer {
        visit(tensor)?;
    }
    for sparse in &mut graph.sparse_initializer {
        in_sparse(sparse, visit)?;
    }
    in_nodes(&mut graph.node, visit)
}

fn in_nodes(nodes: &mut [NodeProto], visit: &mut Visit<'_>) -> Result<()> {
    for attribute in nodes.iter_mut().flat_map(|node| &mut node.attribute) {
        in_attribute(attribute, visit)?;
    }
    Ok(())
}

fn in_sparse(sparse: &mut SparseTensorProto, visit: &mut Visit<'_>) -> Result<()> {
    sparse.values.iter_mut().chain(&mut sparse.indices).try_for_each(visit)
}

/// Names that the sub-graphs of an attribute read without defining them.
pub(super) fn captures(attribute: &AttributeProto) -> BTreeSet<&str> {
    attribute.g.iter().chain(&attribute.graphs).flat_map(free_names).collect()
}

fn free_names(graph: &GraphProto) -> BTreeSet<&str> {
    let inputs = graph.input.iter().map(|info| info.name());
    let constants = graph.initializer.iter().map(|tensor| tensor.name());
    let sparse = graph.sparse_initializer.iter().flat_map(|s| &s.values).map(|v| v.name());
    let outputs = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let own: BTreeSet<&str> = inputs.chain(constants).chain(sparse).chain(outputs).collect();

    let read = graph.node.iter().flat_map(|node| &node.input).map(String::as_str);
    let nested = graph.node.iter().flat_map(|node| &node.attribute).flat_map(captures);
    let returned = graph.output.iter().map(|info| info.name());
    read.chain(nested)
        .chain(returned)
        .filter(|name| !name.is_empty() && !own.contains(name))
        .collect()
}
