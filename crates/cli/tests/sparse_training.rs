//! `--sparsity` and `--keep-zeros` of `kerf train` and `kerf finetune`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, TRAIN, VGG, kerf};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A small network; with few samples and steps.
fn arguments<'a>(model: &'a str, output: &'a str) -> Vec<&'a str> {
    let files = ["finetune", model, "-o", output, "--data", TRAIN, "--preprocess", PREPROCESS];
    let run = ["--samples", "200", "--batch", "50", "--steps", "12", "--json", "--force"];
    [&files[..], &run].concat()
}

fn lenet(folder: &Path) -> String {
    let path = folder.join("lenet.onnx").display().to_string();
    let size = ["--input", "1x28x28", "--width", "0.5"];
    kerf(&[&["new", "lenet"][..], &size, &["-o", &path]].concat()).success();
    path
}

fn zeros(document: &Value) -> Vec<u64> {
    let layers = document["result"]["sparsity"]["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["zeros"].as_u64().unwrap()).collect()
}

#[test]
fn pruning_ends_at_the_sparsity_and_a_later_run_keeps_every_zero() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, sparse, later) = (lenet(folder.path()), path("sparse.onnx"), path("later.onnx"));
    let extra = ["--sparsity", "80%", "--sparsity-every", "2", "--teacher", VGG];
    let first = kerf(&[&arguments(&model, &sparse)[..], &extra].concat()).success();
    let document = first.json();
    let report = &document["result"]["sparsity"];
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(count("zeros"), (0.8 * count("weights") as f64).round() as u64);
    for layer in report["layers"].as_array().unwrap() {
        let (weights, zeros) =
            (layer["weights"].as_u64().unwrap(), layer["zeros"].as_u64().unwrap());
        match layer["dense"].is_null() {
            true => assert!((zeros as f64 - 0.8 * weights as f64).abs() < 1.0, "{layer}"),
            false => assert_eq!(layer["dense"], "the first convolution"),
        }
    }
    let kept = kerf(&[&arguments(&sparse, &later)[..], &["--keep-zeros"]].concat()).success();
    assert_eq!(zeros(&kept.json()), zeros(&document));
    let names = |path: &str| {
        let graph = tensor_core::onnx::read(Path::new(path)).unwrap();
        let bits = |&v: &_| graph.initializer(v).unwrap().to_f32s().unwrap_or_default();
        graph.initializers().iter().map(bits).collect::<Vec<_>>()
    };
    // Where there was a zero there is one, +0.
    for (before, after) in names(&sparse).iter().zip(&names(&later)) {
        let is_weight = before.len() > 200;
        assert!(!is_weight || before.iter().zip(after).all(|(b, a)| *b != 0.0 || a.to_bits() == 0));
    }
    let filled = kerf(&arguments(&sparse, &later)).success();
    assert!(filled.stderr.contains("--keep-zeros"), "{}", filled.stderr);
}

#[test]
fn patterns_and_regrowth_are_exact_too() {
    let folder = tempfile::tempdir().unwrap();
    let model = lenet(folder.path());
    let output = folder.path().join("o.onnx").display().to_string();
    for extra in [
        &["--pattern", "2:4", "--sparsity-schedule", "linear"][..],
        &["--sparsity", "70%", "--regrow", "0.3", "--sparsity-every", "1"],
        &["--sparsity", "60%", "--distribution", "layerwise", "--sparsity-schedule", "linear"],
        &["--sparsity", "60%", "--distribution", "global", "--ema", "0.9"],
        &["--sparsity", "50%", "--pattern", "block:4x4", "--dense", "*2*"],
    ] {
        kerf(&[&arguments(&model, &output)[..], extra].concat()).success();
    }
}

#[test]
fn a_finished_run_gives_its_model_again_and_masks_are_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, whole, parted, run) =
        (lenet(folder.path()), path("whole.onnx"), path("parted.onnx"), path("run"));
    let extra = ["--sparsity", "70%", "--sparsity-every", "1", "--regrow", "0.2"];
    let often = ["--checkpoint-every", "5", "--run", &run];
    let first = [&arguments(&model, &whole)[..], &extra, &often].concat();
    kerf(&first).success();
    let again = [&arguments(&model, &parted)[..], &extra, &often].concat();
    let document = kerf(&again).success().json();
    assert_eq!(document["result"]["training"]["resumed_from"], 12);
    let weights = |path: &str| {
        let graph = tensor_core::onnx::read(Path::new(path)).unwrap();
        let constants = graph.initializers().iter().map(|&v| graph.initializer(v).unwrap().clone());
        constants.collect::<Vec<_>>()
    };
    assert!(weights(&whole) == weights(&parted));
    // Other zeros are another run.
    let other = [&again[..], &["--distribution", "erk"]].concat();
    assert_eq!(kerf(&other).exits(2).json()["error"]["code"], "E0403");
}

#[test]
fn frozen_layers_stay_dense() {
    let folder = tempfile::tempdir().unwrap();
    let model = lenet(folder.path());
    let output = folder.path().join("o.onnx").display().to_string();
    let extra = ["--sparsity", "60%", "--freeze", "fc1"];
    let document = kerf(&[&arguments(&model, &output)[..], &extra].concat()).success().json();
    let layers = document["result"]["sparsity"]["layers"].as_array().unwrap();
    let frozen: Vec<_> = layers.iter().filter(|layer| layer["dense"] == "frozen").collect();
    assert_eq!(frozen.len(), 1, "{layers:?}");
    assert_eq!((&frozen[0]["key"], &frozen[0]["zeros"]), (&"fc1".into(), &0.into()));
}

#[test]
fn what_cannot_be_met_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = lenet(folder.path());
    let output = folder.path().join("o.onnx").display().to_string();
    let run = |extra: &[&str]| kerf(&[&arguments(&model, &output)[..], extra].concat());
    let late = run(&["--sparsity", "80%", "--sparsity-end", "24"]).exits(1);
    assert!(late.stderr.contains("pruning ends at step 24, but training after 12"));
    assert!(late.json()["result"]["failures"][0].as_str().unwrap().contains("sparsity is"));
    let spent = run(&["--sparsity", "80%", "--sparsity-end", "100%"]).success();
    assert!(spent.stderr.contains("below a tenth of its peak"), "{}", spent.stderr);
    fs::remove_file(&output).unwrap();
    let code = |extra: &[&str]| run(extra).exits(2).json()["error"]["code"].clone();
    assert_eq!(code(&["--sparsity", "80%", "--keep", "best"]), "E0010");
    for unused in [["--distribution", "erk"], ["--pattern", "block:4x4"], ["--dense", "*"]] {
        assert_eq!(code(&unused), "E0010", "{unused:?}");
    }
    let reversed = run(&["--pattern", "4:2"]).exits(2);
    assert!(reversed.stderr.contains("`4:2` is no pattern; such as "), "{}", reversed.stderr);
    assert_eq!(code(&["--sparsity", "80%", "--pattern", "2:4"]), "E0431");
    assert_eq!(code(&["--sparsity", "80%", "--regrow", "1.5"]), "E0430");
    assert_eq!(code(&["--sparsity", "80%", "--regrow", "0.3", "--pattern", "rows"]), "E0436");
    assert_eq!(code(&["--sparsity", "80%", "--dense", "nothing"]), "E0434");
    assert_eq!(code(&["--sparsity", "80%", "--sparsity-begin", "90%"]), "E0430");
    assert!(!Path::new(&output).exists());
}
