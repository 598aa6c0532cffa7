//! Which weights of real networks are pruned.
#![allow(clippy::unwrap_used, reason = "tests")]

use magnitude_schedule::{Layout, Pattern, Prunable, prunable};
use tensor_core::graph::Node;
use tensor_core::{Graph, zoo};

fn network(name: &str) -> Graph {
    let options = zoo::Options { input: Some([1, 32, 32]), ..zoo::Options::default() };
    zoo::architecture(name).unwrap().build(&options).unwrap()
}

fn dense(found: &[Prunable]) -> Vec<&str> {
    found.iter().filter_map(|weight| weight.dense.as_deref()).collect()
}

#[test]
fn the_first_convolution_and_depthwise_ones_stay_dense() {
    let found = prunable(&network("mobilenet-v1"), Pattern::Unstructured, &[], false).unwrap();
    // 13 blocks of a depthwise and a pointwise convolution, one before, and the classifier.
    assert_eq!(found.len(), 28);
    let reasons = dense(&found);
    assert_eq!(reasons[0], "the first convolution");
    assert_eq!(reasons[1..], ["depthwise"; 13]);
    assert_eq!(found[27].layout, Layout::OutputsFirst);
    assert_eq!(
        dense(&prunable(&network("mobilenet-v1"), Pattern::Unstructured, &[], true).unwrap()).len(),
        0
    );
}

#[test]
fn groups_are_part_of_the_layout() {
    let found = prunable(&network("mobilenet-v1"), Pattern::Unstructured, &[], false).unwrap();
    assert_eq!(found[1].layout, Layout::GroupedOutputsFirst { groups: 32 });
}

/// Without a row of it, a class could not be predicted.
#[test]
fn rows_of_the_outputs_stay_dense() {
    let mut network = network("lenet");
    let reasons = |network: &Graph, pattern, all| -> Vec<Option<String>> {
        let found = prunable(network, pattern, &[], all).unwrap();
        found.into_iter().map(|weight| weight.dense).collect()
    };
    let first = Some("the first convolution".to_owned());
    let rows = [first.clone(), None, None, Some("makes the outputs".to_owned())];
    assert_eq!(reasons(&network, Pattern::Rows, false), rows);
    assert_eq!(reasons(&network, Pattern::Unstructured, false), [first, None, None, None]);
    assert_eq!(reasons(&network, Pattern::Rows, true), [None, None, None, None]);
    // Behind a change of shape and a softmax too; a layer further, and it is another output.
    let mut last = network.outputs[0];
    for op in ["Flatten", "Softmax", "Identity"] {
        let next = network.value(op);
        network.nodes.push(Node::new(op, op, &[last], &[next]));
        last = next;
    }
    network.outputs[0] = last;
    assert_eq!(reasons(&network, Pattern::Rows, false), rows);
}

#[test]
fn names_stay_dense_and_unknown_ones_are_refused() {
    let network = network("lenet");
    let names: Vec<String> = prunable(&network, Pattern::Unstructured, &[], false)
        .unwrap()
        .into_iter()
        .map(|weight| weight.name)
        .collect();
    let last = names.last().unwrap().clone();
    let found = prunable(&network, Pattern::Unstructured, &[last], false).unwrap();
    assert!(found.last().unwrap().dense.as_deref().unwrap().starts_with("named by"));
    let error =
        prunable(&network, Pattern::Unstructured, &["nothing*".to_owned()], false).unwrap_err();
    assert_eq!(error.code(), "E0434");
    assert!(error.hint_text().unwrap().contains('`'));
}
