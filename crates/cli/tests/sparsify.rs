//! `kerf sparsify` as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, Run, TEST, TRAIN, kerf};
use std::fs;
use std::path::Path;

fn sparsify(output: &Path, extra: &[&str]) -> Run {
    let output = output.to_str().unwrap();
    let fixed = ["sparsify", RESNET, "-o", output, "--data", TRAIN, "--preprocess", PREPROCESS];
    kerf(&[&fixed[..], &["--samples", "64"], extra].concat())
}

#[test]
fn half_of_the_weights_go_and_the_result_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("half.onnx");
    let extra = ["--sparsity", "50%", "--eval-data", TEST, "--json"];
    let document = sparsify(&output, &extra).success().json();
    assert_eq!(document["schema"], "kerf.sparsify/1");
    let sparsity = &document["result"]["sparsity"];
    let count = |key: &str| sparsity[key].as_u64().unwrap();
    assert_eq!(count("zeros"), count("weights").div_ceil(2));
    assert_eq!(sparsity["layers"][0]["dense"], "the first convolution");
    // Float rounding between two engines.
    let proof = &document["result"]["proof"];
    let written = &proof["written"]["comparison"]["outputs"][0];
    assert!(written["max_relative"].as_f64().unwrap() < 1e-5, "{written}");
    let top1 = &proof["evaluation"]["comparison"]["outputs"][0]["top1"];
    let accuracy = |key: &str| top1[key].as_f64().unwrap();
    let drop = accuracy("reference_accuracy") - accuracy("candidate_accuracy");
    // With 64 calibration samples; plain magnitudes lose more than that with any number.
    assert!(drop < 0.01, "{drop}");
    assert_eq!(proof["latency"], serde_json::json!([]));
}

#[test]
fn the_table_says_what_zeros_are_good_for() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let run = sparsify(&output, &["--pattern", "2:4", "--dense", "/fc/*"]).success();
    for expected in [
        "layer                                op    weights  zeros ",
        "named by `/fc/*`",
        "(50.000%, 2:4)\n",
        "dense runtimes are not faster",
        "\noriginal against sparsified on fixtures/data/",
        "\nverified  the written file in ",
        "\nreplay  kerf sparsify fixtures/models/resnet20_fmnist_folded.onnx -o ",
    ] {
        assert!(run.stdout.contains(expected), "{expected:?} in\n{}", run.stdout);
    }
}

#[test]
fn same_bytes_with_one_and_two_threads() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = ["1", "2"].map(|threads| {
        let output = folder.path().join(format!("{threads}.onnx"));
        let extra = ["--sparsity", "60%", "--distribution", "error", "--threads", threads];
        // The name of the output is in no file: both hold the same recipe.
        sparsify(&output, &extra).success();
        fs::read(output).unwrap()
    });
    let weights = |bytes: &[u8]| {
        let path = folder.path().join("copy.onnx");
        fs::write(&path, bytes).unwrap();
        let graph = tensor_core::onnx::read(&path).unwrap();
        let constants = graph.initializers().iter().map(|&v| graph.initializer(v).unwrap().clone());
        constants.collect::<Vec<_>>()
    };
    assert!(weights(&bytes[0]) == weights(&bytes[1]));
}

#[test]
fn wrong_arguments_are_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let code = |extra: &[&str]| {
        let document = sparsify(&output, &[extra, &["--json"]].concat()).exits(2).json();
        document["error"]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(&[]), "E0010");
    assert_eq!(code(&["--sparsity", "100%"]), "E0010");
    assert_eq!(code(&["--sparsity", "0.5"]), "E0010");
    assert_eq!(code(&["--pattern", "2:4", "--sparsity", "60%"]), "E0431");
    assert_eq!(code(&["--sparsity", "50%", "--pattern", "4:2"]), "E0010");
    assert_eq!(code(&["--sparsity", "50%", "--distribution", "layerwise"]), "E0010");
    assert_eq!(code(&["--sparsity", "50%", "--dense", "nothing"]), "E0434");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(&output, "kept").unwrap();
    assert_eq!(code(&["--sparsity", "50%"]), "E0020");
    assert_eq!(fs::read(&output).unwrap(), b"kept");
}
