//! Which weights of real networks are pruned.
#![allow(clippy::unwrap_used, reason = "tests")]

use magnitude_schedule::{Layout, Prunable, prunable};
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
    let found = prunable(&network("mobilenet-v1"), &[], false).unwrap();
    // 13 blocks of a depthwise and a pointwise convolution, one before, and the classifier.
    assert_eq!(found.len(), 28);
    let reasons = dense(&found);
    assert_eq!(reasons[0], "the first convolution");
    assert_eq!(reasons[1..], ["depthwise"; 13]);
    assert_eq!(found[27].layout, Layout::OutputsFirst);
    assert_eq!(dense(&prunable(&network("mobilenet-v1"), &[], true).unwrap()).len(), 0);
}

#[test]
fn names_stay_dense_and_unknown_ones_are_refused() {
    let network = network("lenet");
    let names: Vec<String> =
        prunable(&network, &[], false).unwrap().into_iter().map(|weight| weight.name).collect();
    let last = names.last().unwrap().clone();
    let found = prunable(&network, &[last], false).unwrap();
    assert!(found.last().unwrap().dense.as_deref().unwrap().starts_with("named by"));
    let error = prunable(&network, &["nothing*".to_owned()], false).unwrap_err();
    assert_eq!(error.code(), "E0434");
    assert!(error.hint_text().unwrap().contains('`'));
}
