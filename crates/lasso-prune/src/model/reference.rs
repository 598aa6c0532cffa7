//! What a pruned model is to compute: the original, and which of its responses are left.

use super::prepare::Prepared;
use std::collections::BTreeSet;
use tensor_core::channels::ClassId;
use tensor_core::graph::{Graph, Index};

/// The original beside the result.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The original, BatchNormalization folded.
    pub graph: Graph,
    /// Responses of its layers that the result has too, in execution order.
    pub responses: Vec<Response>,
}

/// The response of a layer, with the shortcut that is added to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Name of the value in both graphs.
    pub name: String,
    /// The axis of its channels.
    pub axis: usize,
    /// Channels that are left; none when all are.
    pub keep: Option<Vec<usize>>,
}

impl Reference {
    /// The responses of all layers, of which the result lacks the classes in `gone`.
    pub(crate) fn new(prepared: &Prepared, result: &Graph, gone: &BTreeSet<ClassId>) -> Self {
        let Prepared { graph, facts, channels, layers, .. } = prepared;
        let index = Index::new(graph);
        let mut responses = Vec::new();
        for layer in layers {
            let sum = match (layer.shortcut, index.readers(layer.output)) {
                (Some(_), [(add, _)]) => graph.node(*add).output(0),
                _ => None,
            };
            let value = sum.unwrap_or(layer.output);
            let rank = facts.dims(value).map_or(0, <[usize]>::len);
            let is_product = matches!(graph.node(layer.node).op.as_str(), "MatMul" | "Gemm");
            let axis = if is_product { rank.saturating_sub(1) } else { 1 };
            let name = graph.name(value);
            let Some(classes) = channels.positions(value, axis) else { continue };
            if result.find(name).is_none() {
                continue;
            }
            let keep: Vec<usize> =
                (0..classes.len()).filter(|&i| !gone.contains(&classes[i])).collect();
            let keep = (keep.len() < classes.len()).then_some(keep);
            responses.push(Response { name: name.to_owned(), axis, keep });
        }
        Self { graph: graph.clone(), responses }
    }

    /// The ends of blocks: responses that kept all channels, as residual streams do and what a block
    /// gives on to others; every response where there are none.
    pub fn blocks(&self) -> Vec<&Response> {
        let whole: Vec<_> = self.responses.iter().filter(|r| r.keep.is_none()).collect();
        // The scores always are.
        if whole.len() > 1 { whole } else { self.responses.iter().collect() }
    }
}
