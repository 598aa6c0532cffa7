//! Which weights of a graph are pruned.

use crate::outputs::makes_outputs;
use crate::{Layout, Pattern};
use std::collections::BTreeSet;
use tensor_core::graph::{Constant, Graph, Index};
use tensor_core::text::{matches, near};
use tensor_core::{Error, NodeId, Result, ValueId};

/// A weight of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Prunable {
    /// The first node that reads it.
    pub node: NodeId,
    /// The key of that node.
    pub key: String,
    /// The input that holds it.
    pub input: usize,
    /// The constant.
    pub value: ValueId,
    /// Its name.
    pub name: String,
    /// What its axes are.
    pub layout: Layout,
    /// Why it stays dense, if it does.
    pub dense: Option<String>,
}

/// The constant weights of `Conv`, `ConvTranspose`, `Gemm` and `MatMul`, in execution order.
///
/// Dense stay, as in the paper, the first convolution and depthwise ones, with [`Pattern::Rows`] what
/// makes the outputs of the graph (without a row a class could never be predicted), all these unless
/// `all` is set, and those of which the name, or a layer that reads them, matches one of the patterns (`*` stands for
/// any text).
///
/// # Errors
/// `E0434` when a pattern matches nothing.
pub fn prunable(
    graph: &Graph,
    pattern: Pattern,
    dense: &[String],
    all: bool,
) -> Result<Vec<Prunable>> {
    let index = Index::new(graph);
    let mut found: Vec<Prunable> = Vec::new();
    let mut is_first = true;
    for id in graph.node_ids() {
        let node = graph.node(id);
        if !node.domain.is_empty() {
            continue;
        }
        let is_conv = matches!(node.op.as_str(), "Conv" | "ConvTranspose");
        let opens = is_conv && std::mem::take(&mut is_first);
        for (input, layout) in slots(graph, id)? {
            let Some((value, layout)) = stored(graph, &index, id, input, layout) else { continue };
            if found.iter().any(|known| known.value == value) {
                continue;
            }
            let dims = graph.constant(value, &index).map(Constant::dims).unwrap_or_default();
            let is_depthwise = is_conv && is_depthwise(graph, id, dims)?;
            let reason = match () {
                () if all => None,
                () if opens => Some("the first convolution".to_owned()),
                () if is_depthwise => Some("depthwise".to_owned()),
                () if pattern == Pattern::Rows && makes_outputs(graph, &index, id) => {
                    Some("makes the outputs".to_owned())
                }
                () => None,
            };
            found.push(Prunable {
                node: id,
                key: graph.key(id).to_owned(),
                input,
                value,
                name: graph.name(value).to_owned(),
                layout,
                dense: reason,
            });
        }
    }
    for pattern in dense {
        let mut is_used = false;
        for weight in &mut found {
            let mut readers = index.readers(weight.value).iter().map(|(id, _)| graph.key(*id));
            if matches(pattern, &weight.name)
                || matches(pattern, &weight.key)
                || readers.any(|key| matches(pattern, key))
            {
                is_used = true;
                weight.dense = Some(format!("named by `{pattern}`"));
            }
        }
        if !is_used {
            let known: BTreeSet<&str> =
                found.iter().flat_map(|w| [w.name.as_str(), w.key.as_str()]).collect();
            return Err(Error::invalid(format!("no prunable layer or weight matches `{pattern}`"))
                .code_is("E0434")
                .hint(format!("the nearest names are {}", near(pattern, known.into_iter()))));
        }
    }
    Ok(found)
}

/// The inputs of a node that are weights when they are constant.
fn slots(graph: &Graph, id: NodeId) -> Result<Vec<(usize, Layout)>> {
    let node = graph.node(id);
    let int = |name: &str, default: i64| {
        node.attributes.int(name, default).map_err(|error| error.in_node(graph.describe(id)))
    };
    let groups = || Ok::<_, Error>(usize::try_from(int("group", 1)?).unwrap_or(1));
    let inputs_first = Layout::InputsFirst { groups: 1 };
    Ok(match node.op.as_str() {
        "Conv" => match groups()? {
            1 => vec![(1, Layout::OutputsFirst)],
            groups => vec![(1, Layout::GroupedOutputsFirst { groups })],
        },
        "ConvTranspose" => vec![(1, Layout::InputsFirst { groups: groups()? })],
        "Gemm" if int("transB", 0)? != 0 => vec![(1, Layout::OutputsFirst)],
        "Gemm" => vec![(1, inputs_first)],
        "MatMul" => vec![(0, Layout::OutputsFirst), (1, inputs_first)],
        _ => Vec::new(),
    })
}

/// The constant that holds a weight, behind a Cast too; a matrix may be read through a Transpose.
fn stored(
    graph: &Graph,
    index: &Index,
    id: NodeId,
    input: usize,
    layout: Layout,
) -> Option<(ValueId, Layout)> {
    let is_matrix = matches!(graph.node(id).op.as_str(), "Gemm" | "MatMul");
    let fits = |value: ValueId| {
        let constant = graph.constant(value, index)?;
        let rank = constant.dims().len();
        let is_right =
            constant.element().is_float() && if is_matrix { rank == 2 } else { rank > 2 };
        is_right.then_some(value)
    };
    let value = graph.node(id).input(input)?;
    if let Some(value) = fits(value) {
        return Some((value, layout));
    }
    let producer = graph.node(index.producer(value)?);
    if producer.op == "Cast" && producer.domain.is_empty() {
        return Some((fits(producer.input(0)?)?, layout));
    }
    let is_transpose = producer.op == "Transpose" && producer.domain.is_empty() && is_matrix;
    let value = fits(producer.input(0).filter(|_| is_transpose)?)?;
    let swapped = match layout {
        Layout::InputsFirst { .. } => Layout::OutputsFirst,
        _ => Layout::InputsFirst { groups: 1 },
    };
    // A matrix has two orders of its axes; the identity is no Transpose that anyone writes.
    let keeps = producer.attributes.ints("perm").ok().flatten().is_some_and(|p| p == [0, 1]);
    Some((value, if keeps { layout } else { swapped }))
}

/// Does each group have a single input channel, and are there several?
fn is_depthwise(graph: &Graph, id: NodeId, dims: &[usize]) -> Result<bool> {
    let node = graph.node(id);
    let groups = usize::try_from(node.attributes.int("group", 1)?).unwrap_or(1);
    let inputs = match node.op.as_str() {
        "Conv" => dims.get(1).copied(),
        _ => dims.first().map(|inputs| inputs / groups.max(1)),
    };
    Ok(groups > 1 && inputs == Some(1))
}
