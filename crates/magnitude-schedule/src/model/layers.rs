//! The layers of a model that can be sparsified or refitted.

use super::params::SparsifyParams;
use crate::{Prunable, prunable};
use tensor_core::calibrate::{LinearMap, Place, shortcut};
use tensor_core::graph::{Graph, Index};
use tensor_core::ops::{self, Inputs, NodeCx};
use tensor_core::rewrite::Stored;
use tensor_core::run::Facts;
use tensor_core::text::counted;
use tensor_core::{Error, Result, ValueId};

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

impl Found {
    /// Checks that a layer can be sparsified.
    ///
    /// # Errors
    /// `E0432` with the reasons when there is none.
    pub(super) fn check(&self) -> Result<()> {
        if self.layers.iter().any(|layer| layer.weight.dense.is_none()) {
            return Ok(());
        }
        let weights = self.layers.iter().map(|layer| &layer.weight).chain(&self.left);
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for weight in weights {
            let reason = weight.dense.as_deref().unwrap_or_default();
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, keys)) => keys.push(&weight.key),
                None => reasons.push((reason, vec![&weight.key])),
            }
        }
        let listed = reasons.iter().map(|(reason, keys)| match keys.as_slice() {
            [key] => format!("`{key}`: {reason}"),
            [key, rest @ ..] => format!("`{key}` and {}: {reason}", counted(rest.len(), "other")),
            [] => String::new(),
        });
        let listed = listed.collect::<Vec<_>>().join("; ");
        let hint = match reasons.as_slice() {
            [] => "it takes convolutions or matrix products with constant weights",
            _ if reasons.iter().any(|(reason, _)| *reason == OTHER_TYPE) => {
                "convert the model to 32-bit floats"
            }
            _ if self.layers.is_empty() => "`kerf inspect` lists the layers",
            _ => "let more layers be pruned: name fewer as dense, or all layers to be pruned",
        };
        let colon = if listed.is_empty() { "" } else { ": " };
        Err(Error::unsupported(format!("no layer can be sparsified{colon}{listed}"))
            .code_is("E0432")
            .hint(hint))
    }
}

const OTHER_TYPE: &str = "its weight is no constant of 32-bit floats";

/// All layers.
pub(super) fn find_layers(graph: &Graph, facts: &Facts, params: &SparsifyParams) -> Result<Found> {
    let index = Index::new(graph);
    let mut found = Found { layers: Vec::new(), left: Vec::new() };
    for mut weight in prunable(graph, params.pattern, &params.dense, params.all)? {
        // What several nodes share cannot fit them all.
        let users = users(graph, &index, weight.value);
        let sampled = match users {
            0 | 1 => sampled(graph, facts, &index, &weight)?.map_err(str::to_owned),
            _ => Err(format!("shared by {users} nodes")),
        };
        match sampled {
            Ok((input, output, map)) => {
                let shortcut = shortcut(graph, facts, &index, weight.node, output);
                found.layers.push(Layer { weight, input, output, map, shortcut });
            }
            Err(reason) => {
                weight.dense.get_or_insert(reason);
                found.left.push(weight);
            }
        }
    }
    Ok(found)
}

/// Data, response and rows of a node.
type Sampled = (ValueId, ValueId, Box<dyn LinearMap>);

/// What is sampled of a node, or why it cannot be sampled.
fn sampled(
    graph: &Graph,
    facts: &Facts,
    index: &Index,
    weight: &Prunable,
) -> Result<Result<Sampled, &'static str>> {
    let id = weight.node;
    let cx = NodeCx::new(graph, id);
    let data = usize::from(weight.input == 0);
    let (Some(operator), Some(input), Some(output)) =
        (ops::lookup(&cx.node.domain, &cx.node.op), cx.node.input(data), cx.node.output(0))
    else {
        return Ok(Err("without an input or an output"));
    };
    if Stored::find(graph, index, id, weight.input).is_none() {
        return Ok(Err(OTHER_TYPE));
    }
    if facts.get(input).is_none() || facts.get(output).is_none() {
        return Ok(Err("behind an unknown operator, where nothing can be sampled"));
    }
    let inputs = cx.node.inputs.iter().map(|v| v.and_then(|v| facts.get(v))).collect();
    let map = operator.linear(&cx, &Inputs::new(inputs)).map_err(|error| cx.locate(error))?;
    Ok(map.map(|map| (input, output, map)).ok_or("no linear function of its input"))
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
