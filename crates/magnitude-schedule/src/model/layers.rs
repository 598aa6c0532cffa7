//! The layers of a model that can be sparsified or refitted.

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

/// The layers of a model.
pub(super) struct Found {
    /// In execution order, with those that stay dense.
    pub(super) layers: Vec<Layer>,
    /// Keys of what looks like a layer and is none, and why.
    skipped: Vec<(String, &'static str)>,
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
        let dense = self.layers.iter().map(|layer| {
            (layer.weight.key.as_str(), layer.weight.dense.as_deref().unwrap_or_default())
        });
        let skipped = self.skipped.iter().map(|(key, reason)| (key.as_str(), *reason));
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (key, reason) in dense.chain(skipped) {
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, keys)) => keys.push(key),
                None => reasons.push((reason, vec![key])),
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

/// All layers in execution order, with those that stay dense.
pub(super) fn find_layers(
    graph: &Graph,
    facts: &Facts,
    dense: &[String],
    all: bool,
) -> Result<Found> {
    let index = Index::new(graph);
    let (mut layers, mut skipped) = (Vec::new(), Vec::new());
    for weight in prunable(graph, dense, all)? {
        let id = weight.node;
        let cx = NodeCx::new(graph, id);
        let data = usize::from(weight.input == 0);
        let mut skip = |reason| skipped.push((weight.key.clone(), reason));
        let operator = ops::lookup(&cx.node.domain, &cx.node.op);
        let ends = cx.node.input(data).zip(cx.node.output(0));
        let (Some(operator), Some((input, output))) = (operator, ends) else {
            skip("without an input or an output");
            continue;
        };
        if Stored::find(graph, &index, id, weight.input).is_none() {
            skip(OTHER_TYPE);
            continue;
        }
        if facts.get(input).is_none() || facts.get(output).is_none() {
            skip("behind an unknown operator, where nothing can be sampled");
            continue;
        }
        if index.readers(weight.value).len() > 1 {
            skip("its weight is shared, and no change of it fits several nodes");
            continue;
        }
        let inputs = cx.node.inputs.iter().map(|v| v.and_then(|v| facts.get(v))).collect();
        let map = operator.linear(&cx, &Inputs::new(inputs)).map_err(|error| cx.locate(error))?;
        let Some(map) = map else {
            skip("no linear function of its input");
            continue;
        };
        let shortcut = shortcut(graph, facts, &index, id, output);
        layers.push(Layer { weight, input, output, map, shortcut });
    }
    Ok(Found { layers, skipped })
}
