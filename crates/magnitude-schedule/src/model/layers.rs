//! The layers of a model that can be sparsified or refitted.

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

/// All layers in execution order, with those that stay dense.
pub(super) fn find_layers(
    graph: &Graph,
    facts: &Facts,
    dense: &[String],
    all: bool,
) -> Result<Vec<Layer>> {
    let index = Index::new(graph);
    let mut layers = Vec::new();
    for weight in prunable(graph, dense, all)? {
        let id = weight.node;
        let cx = NodeCx::new(graph, id);
        let data = usize::from(weight.input == 0);
        let Some(operator) = ops::lookup(&cx.node.domain, &cx.node.op) else { continue };
        let (Some(input), Some(output)) = (cx.node.input(data), cx.node.output(0)) else {
            continue;
        };
        // Behind an unknown operator nothing can be sampled; what several nodes share cannot fit
        // them all.
        let is_known = facts.get(input).is_some() && facts.get(output).is_some();
        let is_shared = index.readers(weight.value).len() > 1;
        if !is_known || is_shared || Stored::find(graph, &index, id, weight.input).is_none() {
            continue;
        }
        let inputs = cx.node.inputs.iter().map(|v| v.and_then(|v| facts.get(v))).collect();
        let map = operator.linear(&cx, &Inputs::new(inputs)).map_err(|error| cx.locate(error))?;
        let Some(map) = map else { continue };
        let shortcut = shortcut(graph, facts, &index, id, output);
        layers.push(Layer { weight, input, output, map, shortcut });
    }
    Ok(layers)
}
