//! `kerf pareto` as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, TEST, TRAIN, VGG, kerf};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tensor_core::onnx;

/// What both commands are given: few samples.
const DATA: [&str; 6] = ["--data", TRAIN, "--preprocess", PREPROCESS, "--samples", "32"];

fn weights(path: &Path) -> Vec<Vec<u8>> {
    let graph = onnx::read(path).unwrap();
    let constants = graph.initializers().iter().filter_map(|&value| graph.initializer(value));
    constants.map(|constant| constant.bytes().to_vec()).collect()
}

/// One calibration for all gives what a calibration for each gives; a share out of reach is left out.
#[test]
fn each_point_is_what_prune_gives() {
    let folder = tempfile::tempdir().unwrap();
    let front = folder.path().join("front");
    let output = front.to_str().unwrap();
    let own = ["--shares", "70%,40%,0.01%", "--eval-data", TEST, "--json"];
    let run = kerf(&[&["pareto", VGG, "-o", output][..], &DATA, &own].concat()).success();
    let document = run.json();
    assert_eq!(document["schema"], "kerf.pareto/1");
    let points = document["result"]["points"].as_array().unwrap();
    assert_eq!(points.len(), 2);
    assert_eq!(document["result"]["left_out"].as_array().unwrap().len(), 1);
    let macs: Vec<u64> = points.iter().map(|point| point["macs"].as_u64().unwrap()).collect();
    assert!(macs[1] < macs[0], "{macs:?}");
    for (share, point) in ["70%", "40%"].iter().zip(points) {
        let top1 = &point["comparison"]["outputs"][0]["top1"];
        assert!(top1["candidate_accuracy"].as_f64().unwrap() > 0.5, "{top1}");
        let alone = folder.path().join("alone.onnx");
        let path = alone.to_str().unwrap();
        let prune = ["prune", VGG, "-o", path, "--macs", share, "--no-bench", "--force"];
        kerf(&[&prune[..], &DATA].concat()).success();
        let point = Path::new(point["model"].as_str().unwrap());
        assert_eq!(weights(point), weights(&alone), "{share}");
    }
    let written: Value =
        serde_json::from_str(&fs::read_to_string(front.join("front.json")).unwrap()).unwrap();
    assert_eq!(written["points"], document["result"]["points"]);
    let drawing = fs::read_to_string(front.join("front.svg")).unwrap();
    assert_eq!(drawing.matches("<circle").count(), 2);
}

#[test]
fn no_share_within_reach_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("front");
    let own = ["--shares", "0.01%", "--json", "-o", output.to_str().unwrap()];
    let run = kerf(&[&["pareto", VGG][..], &DATA, &own].concat()).exits(1);
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["error"]["code"], "E0140");
}
