//! Factors that cost more than the convolution that they stand for.

use crate::model::factor::{FactoredLayer, Form};
use std::collections::BTreeMap;
use tensor_core::cost;
use tensor_core::graph::{Graph, Index};
use tensor_core::run;
use tensor_core::{NodeId, Result};

/// Keys of the factorized layers whose factors take no fewer multiply-accumulates in `graph` than one
/// convolution between the same channels would.
///
/// # Errors
/// When shapes cannot be inferred.
pub(super) fn dearer_than_merged<'a>(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    layers: impl Iterator<Item = &'a FactoredLayer>,
) -> Result<Vec<String>> {
    let facts = run::infer_declared(graph, shapes)?;
    let costs = cost::cost(graph, &facts)?;
    let index = Index::new(graph);
    let mut found = Vec::new();
    for layer in layers {
        let length = match layer.form {
            Form::Whole => continue,
            Form::Spatial { .. } | Form::Channel { .. } => 2,
            Form::Both { .. } => 3,
        };
        let Some(last) = graph.node_ids().find(|&id| graph.key(id) == layer.key) else { continue };
        let Some(chain) = chain(graph, &index, last, length) else { continue };
        let kernel = |id: NodeId, axis: usize| {
            let dims = graph.node(id).input(1).and_then(|value| facts.dims(value));
            dims.and_then(|dims| dims.get(axis)).copied().unwrap_or(1)
        };
        let taps: usize = [2, 3]
            .iter()
            .map(|&axis| chain.iter().map(|&id| kernel(id, axis)).max().unwrap_or(1))
            .product();
        let inputs = kernel(chain[0], 1);
        let outputs = graph.node(last).output(0).and_then(|value| facts.dims(value));
        let positions: usize = outputs.map_or(0, |dims| dims.iter().product());
        let merged = (positions * inputs * taps) as u64;
        let factors: u64 = chain.iter().map(|id| costs.nodes[id.index()].macs).sum();
        if factors >= merged {
            found.push(layer.key.clone());
        }
    }
    Ok(found)
}

/// The convolutions that lead to `last`, in order.
fn chain(graph: &Graph, index: &Index, last: NodeId, length: usize) -> Option<Vec<NodeId>> {
    let mut chain = vec![last];
    while chain.len() < length {
        let before = index.producer(graph.node(*chain.last()?).input(0)?)?;
        if graph.node(before).op != "Conv" {
            return None;
        }
        chain.push(before);
    }
    chain.reverse();
    Some(chain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use tensor_core::graph::Attribute;
    use tensor_core::{Constant, Node};

    /// Vertical and horizontal factors of a 3 x 3 convolution from 4 channels to 4.
    fn factored(rank: usize) -> Vec<String> {
        let mut graph = Graph::default();
        graph.opsets.insert(String::new(), 17);
        let [x, v, a, h, y] = ["x", "v", "a", "h", "y"].map(|name| graph.value(name));
        graph.inputs.push(x);
        graph.outputs.push(y);
        for (value, dims) in [(v, [rank, 4, 3, 1]), (h, [4, rank, 1, 3])] {
            let count = dims.iter().product();
            graph.set_initializer(value, Constant::from_f32s(&dims, &vec![0.1; count]).unwrap());
        }
        let mut first = Node::new("layer_vertical", "Conv", &[x, v], &[a]);
        first.attributes.set("pads", Attribute::Ints(vec![1, 0, 1, 0]));
        let mut second = Node::new("layer", "Conv", &[a, h], &[y]);
        second.attributes.set("pads", Attribute::Ints(vec![0, 1, 0, 1]));
        graph.nodes = vec![first, second];
        let layer = FactoredLayer {
            key: "layer".to_owned(),
            form: Form::Spatial { rank },
            convolutions: String::new(),
            macs_before: 0,
            macs_after: 0,
            error: 0.0,
            held_out_error: 0.0,
        };
        let shapes = BTreeMap::from([("x".to_owned(), vec![1, 4, 8, 8])]);
        dearer_than_merged(&graph, &shapes, [layer].iter()).unwrap()
    }

    /// Of one position: 24 times the rank for the factors, 4 x 4 x 9 = 144 for one convolution.
    #[test]
    fn factors_of_a_high_rank_are_dearer() {
        assert!(factored(5).is_empty());
        assert_eq!(factored(6), ["layer"]);
    }
}
