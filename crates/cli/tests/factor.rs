//! `kerf factor` as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, Run, TEST, TRAIN, VGG, kerf};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tensor_core::onnx;

fn factor(model: &str, output: &Path, extra: &[&str]) -> Run {
    let output = output.to_str().unwrap();
    let fixed = ["factor", model, "-o", output, "--data", TRAIN, "--preprocess", PREPROCESS];
    let quick = ["--samples", "48", "--no-bench"];
    kerf(&[&fixed[..], &quick, extra].concat())
}

fn kept(document: &Value) -> f64 {
    let macs = |side: &str| document["result"]["sizes"][side]["macs"].as_f64().unwrap();
    macs("after") / macs("before")
}

/// Kernel sizes of the convolutions of a file.
fn kernels(path: &Path) -> Vec<Vec<i64>> {
    let graph = onnx::read(path).unwrap();
    let convolutions = graph.nodes.iter().filter(|node| node.op == "Conv");
    convolutions
        .map(|node| node.attributes.ints("kernel_shape").unwrap().unwrap().to_vec())
        .collect()
}

/// The written file gives in another engine what was made, or the exit code would not be 0.
#[test]
fn each_kind_meets_the_budget_alone_and_together() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let thin = |kernel: &Vec<i64>| kernel == &[3, 1] || kernel == &[1, 3];
    for (flags, may_be_thin, may_have_point) in [
        (&["--spatial"][..], true, false),
        (&["--channel"], false, true),
        (&["--spatial", "--channel"], true, true),
    ] {
        let more = ["--macs", "50%", "--eval-data", TEST, "--json", "--force"];
        let document = factor(VGG, &output, &[&more, flags].concat()).success().json();
        assert_eq!(document["schema"], "kerf.factor/1");
        let share = kept(&document);
        assert!((0.4..=0.5).contains(&share), "{flags:?}: {share}");
        let kernels = kernels(&output);
        let is_thin = kernels.iter().any(thin);
        let has_point = kernels.iter().any(|kernel| kernel == &[1, 1]);
        // With both kinds at hand, one may be the better everywhere.
        assert!(is_thin || has_point, "{flags:?} {kernels:?}");
        assert!(
            (may_be_thin || !is_thin) && (may_have_point || !has_point),
            "{flags:?} {kernels:?}"
        );
        let difference = document["result"]["factoring"]["split_difference"].as_f64().unwrap();
        assert!(difference < 1e-5, "{difference}");
        let top1 = &document["result"]["proof"]["evaluation"]["comparison"]["outputs"][0]["top1"];
        let [before, after] =
            ["reference_accuracy", "candidate_accuracy"].map(|name| top1[name].as_f64().unwrap());
        // With 48 calibration samples; more lose less.
        assert!(before - after < 0.1, "{flags:?}: {before} {after}");
    }
}

/// Strides, shortcuts, and the same bytes with any number of threads.
#[test]
fn a_residual_network_and_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.onnx", "b.onnx"].map(|name| folder.path().join(name));
    for (path, threads) in paths.iter().zip(["1", "2"]) {
        let more = ["--macs", "60%", "--threads", threads, "--json"];
        assert!(kept(&factor(RESNET, path, &more).success().json()) <= 0.6);
    }
    let [a, b] = paths.each_ref().map(|path| onnx::read(path).unwrap());
    let weights = |graph: &tensor_core::Graph| -> Vec<Vec<u8>> {
        let constants = graph.initializers().iter().filter_map(|&v| graph.initializer(v));
        constants.map(|constant| constant.bytes().to_vec()).collect()
    };
    assert_eq!(weights(&a), weights(&b));
}

#[test]
fn what_cannot_be_met_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    for (more, code, exit) in [
        (&["--json"][..], "E0010", 2),
        (&["--json", "--macs", "0.01%"], "E0140", 1),
        (&["--json", "--latency", "50%"], "E0010", 2),
    ] {
        let document: Value =
            serde_json::from_str(&factor(VGG, &output, more).exits(exit).stdout).unwrap();
        assert_eq!(document["error"]["code"], code, "{more:?}");
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

/// The ranks that factorization chose are among the channels that pruning chooses from.
#[test]
fn both_under_one_budget_lose_less_than_either() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let flags = ["--prune", "--macs", "25%", "--round-to", "1", "--json", "--force"];
    let document = factor(VGG, &output, &flags).success().json();
    let share = kept(&document);
    assert!((0.2..=0.25).contains(&share), "{share}");
    let report = &document["result"]["three_c"];
    let tried = report["tried"].as_array().unwrap();
    assert!((3..=4).contains(&tried.len()), "{tried:?}");
    let error = |split: &Value| split["error"].as_f64().unwrap();
    let least = tried.iter().map(error).fold(f64::INFINITY, f64::min);
    let chosen = tried.iter().find(|split| split["factored"] == report["factored"]).unwrap();
    assert_eq!(error(chosen), least);
    // Neither pruning alone nor factorization alone is the best here.
    let factored = report["factored"].as_f64().unwrap();
    assert!(factored > 0.26 && factored < 0.99, "{factored}");
    assert!(kernels(&output).iter().any(|kernel| kernel != &[3, 3]), "nothing is factorized");
    assert!(report["pruning"]["layers"].as_array().is_some_and(|layers| !layers.is_empty()));
    let written = &document["result"]["proof"]["written"]["comparison"]["outputs"][0];
    assert!(written["max_relative"].as_f64().unwrap() < 1e-5, "{written}");
}

#[test]
fn threads_do_not_change_what_both_give() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let small = path("small.onnx").display().to_string();
    kerf(&["new", "vgg7", "--input", "1x28x28", "--width", "0.25", "-o", &small]).success();
    let bytes = ["1", "2"].map(|threads| {
        let output = path(&format!("{threads}.onnx"));
        let flags = ["--prune", "--macs", "40%", "--round-to", "1", "--threads", threads];
        factor(&small, &output, &flags).success();
        fs::read(output).unwrap()
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn pruning_after_factorization_needs_a_budget_that_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let flags = ["--prune", "--latency", "50%", "--hardware", "bismo-edge"];
    let run = factor(VGG, &output, &flags).exits(2);
    assert!(run.stderr.contains("error[E0141]: "), "{}", run.stderr);
    let run = factor(VGG, &output, &["--prune", "--max-macs", "10"]).exits(1);
    assert!(run.stderr.contains("error[E0140]: "), "{}", run.stderr);
    let run = factor(VGG, &output, &["--macs", "50%", "--round-to", "4"]).exits(2);
    assert!(run.stderr.contains("--prune"), "{}", run.stderr);
    assert!(!output.exists());
}
