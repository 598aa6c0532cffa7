//! The layers of a model that can be sparsified or refitted.

use super::params::SparsifyParams;
use crate::{Prunable, prunable};
use tensor_core::calibrate::{LinearMap, Place, shortcut};
use tensor_core::graph::{Graph, Index};
use tensor_core::ops::{self, Inputs, NodeCx};
use tensor_core::rewrite::Stored;
use tensor_core::run::Facts;
use tensor_core::{Result, ValueId};

/// A convolution or matrix product with a constant weight.
pub(super) struct Layer {
    pub(super) weight: Prunable,
    pub(super) input: ValueId,
    pub(super) output: ValueId,
    pub(super) map: Box<dyn LinearMap>,
    pub(super) shortcut: Option<ValueId>,
}

impl Layer {
    /// Where its statistics are collected.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            node: self.weight.node,
            input: self.input,
            output: self.output,
            map: &*self.map,
            shortcut: self.shortcut,
        }
    }

    /// Number of weights.
    pub(super) fn count(&self) -> usize {
        let shape = self.map.shape();
        shape.outputs * shape.columns()
    }

    /// The weight as rows, `outputs x columns`.
    pub(super) fn rows(&self, graph: &Graph, index: &Index) -> Result<Vec<f32>> {
        let stored = Stored::required(graph, index, self.weight.node, self.weight.input)?;
        Ok(self.map.rows_of_weight(&stored.constant.to_f32s()?))
    }

    /// The bias as it adds to the responses; zeros where there is none.
    pub(super) fn bias(&self, graph: &Graph, index: &Index) -> Result<Vec<f64>> {
        let outputs = self.map.shape().outputs;
        let constant = self.map.bias().and_then(|(input, factor)| {
            let stored = Stored::find(graph, index, self.weight.node, input)?;
            Some((stored.constant.to_f32s(), factor))
        });
        let Some((values, factor)) = constant else { return Ok(vec![0.0; outputs]) };
        let values = values?;
        // A scalar bias is added to every output.
        let at = |o: usize| values.get(o).or_else(|| values.first()).copied().unwrap_or_default();
        Ok((0..outputs).map(|o| f64::from(at(o)) * f64::from(factor)).collect())
    }
}

/// The weights of a graph, each in execution order.
pub(super) struct Found {
    /// What can be sparsified or refitted, with what stays dense all the same.
    pub(super) layers: Vec<Layer>,
    /// What stays as it is; each says why it is dense.
    pub(super) left: Vec<Prunable>,
}

/// All layers.
pub(super) fn find_layers(graph: &Graph, facts: &Facts, params: &SparsifyParams) -> Result<Found> {
    let index = Index::new(graph);
    let mut found = Found { layers: Vec::new(), left: Vec::new() };
    for mut weight in prunable(graph, params.pattern, &params.dense, params.all)? {
        // What several nodes share cannot fit them all.
        let users = users(graph, &index, weight.value);
        let reason = match users {
            0 | 1 => "cannot be sampled".to_owned(),
            _ => format!("shared by {users} nodes"),
        };
        match sampled(graph, facts, &index, &weight)?.filter(|_| users < 2) {
            Some((input, output, map)) => {
                let shortcut = shortcut(graph, facts, &index, weight.node, output);
                found.layers.push(Layer { weight, input, output, map, shortcut });
            }
            None => {
                weight.dense.get_or_insert(reason);
                found.left.push(weight);
            }
        }
    }
    Ok(found)
}

/// Data, response and rows of a node.
type Sampled = (ValueId, ValueId, Box<dyn LinearMap>);

/// What is sampled of a node; none where it cannot be sampled, such as behind an unknown
/// operator.
fn sampled(
    graph: &Graph,
    facts: &Facts,
    index: &Index,
    weight: &Prunable,
) -> Result<Option<Sampled>> {
    let id = weight.node;
    let cx = NodeCx::new(graph, id);
    let data = usize::from(weight.input == 0);
    let (Some(operator), Some(input), Some(output)) =
        (ops::lookup(&cx.node.domain, &cx.node.op), cx.node.input(data), cx.node.output(0))
    else {
        return Ok(None);
    };
    let is_known = facts.get(input).is_some() && facts.get(output).is_some();
    if !is_known || Stored::find(graph, index, id, weight.input).is_none() {
        return Ok(None);
    }
    let inputs = cx.node.inputs.iter().map(|v| v.and_then(|v| facts.get(v))).collect();
    let map = operator.linear(&cx, &Inputs::new(inputs)).map_err(|error| cx.locate(error))?;
    Ok(map.map(|map| (input, output, map)))
}

/// Number of nodes that use a weight, directly or behind a change of its type or shape.
fn users(graph: &Graph, index: &Index, value: ValueId) -> usize {
    let mut count = 0;
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        for &(id, input) in index.readers(value) {
            let node = graph.node(id);
            let passes = ["Cast", "Identity", "Transpose"].contains(&node.op.as_str());
            match passes && node.domain.is_empty() && input == 0 {
                true => open.extend(node.outputs.iter().flatten()),
                false => count += 1,
            }
        }
    }
    count
}
