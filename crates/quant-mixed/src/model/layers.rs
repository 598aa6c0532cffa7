//! The layers of a model that are quantized.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::graph::{Graph, Index};
use tensor_core::rewrite::{self, Stored, fold_batch_norm};
use tensor_core::run::{self, Facts};
use tensor_core::text::{matches, near};
use tensor_core::{ElementType, Error, NodeId, Result, ValueId};

/// A convolution or matrix product with a constant weight.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The key of its node.
    pub key: String,
    /// Its node in the prepared graph.
    pub node: NodeId,
    /// The value that it reads.
    pub input: ValueId,
    /// The value that it writes.
    pub output: ValueId,
    /// Name of the weight.
    pub weight: String,
    /// Dimensions of the weight.
    pub dims: Vec<usize>,
    /// The axis of the weight along which each output has its slice.
    pub axis: usize,
    /// Has it a bias that can be stored as integers: one constant for each output?
    pub has_bias: bool,
    /// Can it be given such a bias, where it has none?
    pub takes_bias: bool,
}

impl Layer {
    /// Number of weights.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// The axis of the weight along which the inputs are.
    pub fn input_axis(&self) -> usize {
        // Convolutions have their outputs first, matrices first or second.
        1 - self.axis.min(1)
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.dims[self.axis]
    }
}

/// A layer that stays float.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The key of its node.
    pub key: String,
    /// Its operator.
    pub op: String,
    /// Why.
    pub reason: String,
}

/// Keys of the layers that [`quantize`](super::quantize()) would quantize, in execution order.
///
/// # Errors
/// `E0502` when `exclude` names no layer; when shapes cannot be inferred.
pub fn layer_keys(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    exclude: &[String],
) -> Result<Vec<String>> {
    let folded = rewrite::apply(graph, &fold_batch_norm(graph)?)?;
    let facts = run::infer(&folded, shapes)?;
    let (layers, _) = find_layers(&folded, &facts, exclude)?;
    Ok(layers.into_iter().map(|layer| layer.key).collect())
}

/// All layers of a graph with BatchNormalization folded, and those that stay float.
pub(super) fn find_layers(
    graph: &Graph,
    facts: &Facts,
    exclude: &[String],
) -> Result<(Vec<Layer>, Vec<Left>)> {
    let index = Index::new(graph);
    let (mut layers, mut left) = (Vec::new(), Vec::new());
    for id in graph.node_ids() {
        let node = graph.node(id);
        let is_layer = ["Conv", "ConvTranspose", "Gemm", "MatMul"].contains(&node.op.as_str());
        if !is_layer || !node.domain.is_empty() {
            continue;
        }
        match layer(graph, facts, &index, id)? {
            Ok(layer) => layers.push(layer),
            Err(reason) => left.push(Left {
                key: graph.key(id).to_owned(),
                op: node.op.clone(),
                reason: reason.to_owned(),
            }),
        }
    }
    for pattern in exclude {
        let (named, others): (Vec<_>, Vec<_>) = layers
            .into_iter()
            .partition(|layer| matches(pattern, &layer.key) || matches(pattern, &layer.weight));
        let known = left.iter().any(|layer| matches(pattern, &layer.key));
        if named.is_empty() && !known {
            let names: BTreeSet<&str> =
                others.iter().flat_map(|l| [l.key.as_str(), l.weight.as_str()]).collect();
            return Err(Error::invalid(format!("no layer or weight matches `{pattern}`"))
                .code_is("E0502")
                .hint(format!("the nearest names are {}", near(pattern, names.into_iter()))));
        }
        left.extend(named.into_iter().map(|layer| Left {
            op: graph.node(layer.node).op.clone(),
            key: layer.key,
            reason: format!("named by `{pattern}`"),
        }));
        layers = others;
    }
    Ok((layers, left))
}

/// A layer, or why it stays float.
fn layer(
    graph: &Graph,
    facts: &Facts,
    index: &Index,
    id: NodeId,
) -> Result<std::result::Result<Layer, &'static str>> {
    let node = graph.node(id);
    let located = |error: Error| error.in_node(graph.describe(id));
    let int = |name: &str| node.attributes.int(name, 0).map_err(located);
    let float = |name: &str| node.attributes.float(name, 1.0).map_err(located);
    let axis = match node.op.as_str() {
        "Conv" => 0,
        // Weights of a transposed convolution have their inputs first. Runtimes have no integer kernel for
        // it, but one that quantizes its weight by itself would not compute what is simulated here.
        "MatMul" | "ConvTranspose" => 1,
        _ if int("transA")? != 0 || float("alpha")? != 1.0 || float("beta")? != 1.0 => {
            return Ok(Err("a factor or a transposed input, which integer kernels do not have"));
        }
        _ => usize::from(int("transB")? == 0),
    };
    let (Some(input), Some(output)) = (node.input(0), node.output(0)) else {
        return Ok(Err("without an input or an output"));
    };
    let varies = facts.get(input).is_some_and(|f| !f.fixed && f.element == ElementType::F32);
    if !varies || facts.get(output).is_none() {
        return Ok(Err("its input is not known to be 32-bit floats"));
    }
    let Some(stored) = Stored::find(graph, index, id, 1) else {
        return Ok(Err("its weight is no constant of 32-bit floats"));
    };
    let dims = stored.constant.dims().to_vec();
    let is_matrix = matches!(node.op.as_str(), "Gemm" | "MatMul");
    if dims.contains(&0) || if is_matrix { dims.len() != 2 } else { dims.len() < 3 } {
        return Ok(Err("its weight has another number of axes"));
    }
    // The outputs of a group share the slices of the others.
    let is_grouped_transposed = node.op == "ConvTranspose" && int("group")? > 1;
    let takes_bias = node.op != "MatMul" && node.input(2).is_none() && !is_grouped_transposed;
    let bias = node.input(2).and_then(|_| Stored::find(graph, index, id, 2));
    let has_bias = bias.is_some_and(|bias| bias.constant.dims() == [dims[axis]]);
    Ok(Ok(Layer {
        key: graph.key(id).to_owned(),
        node: id,
        input,
        output,
        weight: node.input(1).map(|v| graph.name(v).to_owned()).unwrap_or_default(),
        dims,
        axis,
        has_bias,
        takes_bias: has_bias || takes_bias,
    }))
}
