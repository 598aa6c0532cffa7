//! Fully connected layers in all their forms prune, or stay as they are.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Random;
use lasso_prune::{Budget, Limit, PruneParams, plan, prune};
use std::collections::BTreeMap;
use tensor_core::cost::Resource;
use tensor_core::graph::{Attribute, Declared, Dim, Graph};
use tensor_core::progress::Silent;
use tensor_core::run::Array;
use tensor_core::{Constant, ElementType, Node};

/// Input, hidden and output channels.
const WIDTHS: [usize; 3] = [12, 24, 5];

/// Two fully connected layers, the second with the given attributes and shape of `C`.
fn layers(attributes: &[(&str, Attribute)], bias: Option<&[usize]>) -> Graph {
    let mut random = Random::new(1);
    let mut graph = Graph::default();
    graph.ir_version = 8;
    graph.opsets.insert(String::new(), 17);
    let names = ["x", "w1", "h", "a", "w2", "y"];
    let [x, w1, h, a, w2, y] = names.map(|name| graph.value(name));
    let mut weight = |dims: &[usize]| {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| random.normal() as f32).collect();
        Constant::from_f32s(dims, &values).unwrap()
    };
    graph.set_initializer(w1, weight(&WIDTHS[..2]));
    graph.set_initializer(w2, weight(&WIDTHS[1..]));
    graph.nodes.push(Node::new("first", "Gemm", &[x, w1], &[h]));
    graph.nodes.push(Node::new("relu", "Relu", &[h], &[a]));
    let mut inputs = vec![a, w2];
    if let Some(dims) = bias {
        let c = graph.value("c");
        graph.set_initializer(c, weight(dims));
        inputs.push(c);
    }
    let mut second = Node::new("second", "Gemm", &inputs, &[y]);
    for (name, attribute) in attributes {
        second.attributes.set(name, attribute.clone());
    }
    graph.nodes.push(second);
    let dims = Some(vec![Dim::Symbol("n".to_owned()), Dim::Known(WIDTHS[0])]);
    let element = Some(ElementType::F32);
    graph.declare(x, Some(Declared { element, dims, ..Declared::default() }));
    graph.inputs.push(x);
    graph.outputs.push(y);
    graph
}

fn batches() -> Vec<Vec<Array>> {
    let mut random = Random::new(2);
    let values: Vec<f32> = (0..64 * WIDTHS[0]).map(|_| random.normal() as f32).collect();
    let constant = Constant::from_f32s(&[64, WIDTHS[0]], &values).unwrap();
    vec![vec![Array::from_constant(&constant).unwrap()]]
}

#[test]
fn every_bias_that_broadcasts_over_rows_is_refitted() {
    let factors = [("alpha", Attribute::Float(1.5)), ("beta", Attribute::Float(-0.5))];
    let budget = Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.6) };
    let params = PruneParams { budget, ..PruneParams::default() }.check().unwrap();
    let biases: [Option<&[usize]>; 6] =
        [None, Some(&[5]), Some(&[1, 5]), Some(&[1]), Some(&[]), Some(&[1, 1])];
    for bias in biases {
        let graph = layers(&factors, bias);
        let pruned = prune(&graph, &BTreeMap::new(), batches(), &params, &Silent).unwrap();
        assert_eq!(pruned.report.layers.len(), 1, "{bias:?}");
        // The bias takes part: the mean of the response is met.
        assert!(pruned.report.layers[0].error < 0.5, "{bias:?}");
        assert_eq!(pruned.report.predicted.macs, 14 * (12 + 5), "{bias:?}");
    }
}

/// What has no least-squares form is named, not an error of its own.
#[test]
fn a_layer_without_a_factor_is_frozen_by_name() {
    let params = PruneParams::default().check().unwrap();
    for (name, value) in [("beta", 0.0), ("alpha", 0.0)] {
        let graph = layers(&[(name, Attribute::Float(value))], None);
        let error = plan(&graph, &BTreeMap::new(), batches(), &params, &Silent).unwrap_err();
        assert_eq!(error.code(), "E0143", "{name}");
        assert!(error.message().contains("`second` (Gemm) cannot be refitted"), "{error}");
    }
}
