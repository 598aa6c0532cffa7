//! `kerf finetune --quantize-weights` as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, TEST, TRAIN, VGG, kerf};
use std::fs;
use std::path::Path;

const NET: &str = "fixtures/models/vgg7_fmnist_bn.onnx";

fn arguments<'a>(output: &'a str, extra: &[&'a str]) -> Vec<&'a str> {
    let files = ["finetune", NET, "-o", output, "--data", TRAIN, "--preprocess", PREPROCESS];
    let run = ["--samples", "256", "--batch", "64", "--steps", "4", "--lr", "0.005", "--json"];
    [&files[..], &run, &["--force", "--quantize-samples", "64"], extra].concat()
}

fn constants(path: &Path) -> Vec<tensor_core::Constant> {
    let graph = tensor_core::onnx::read(path).unwrap();
    let values = graph.initializers().iter();
    values.map(|&v| graph.initializer(v).unwrap().clone()).collect()
}

#[test]
fn the_written_file_gives_what_training_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let path = output.to_str().unwrap();
    let extra = ["--quantize-weights", "3", "--quantize-activations", "6", "--teacher", VGG];
    let document =
        kerf(&arguments(path, &[&extra[..], &["--eval-data", TEST]].concat())).success().json();
    let result = &document["result"];
    let layers = result["quantization"]["layers"].as_array().unwrap();
    let bits = |i: usize| (&layers[i]["weight_bits"], &layers[i]["activation_bits"]);
    let last = layers.len() - 1;
    assert_eq!((bits(0), bits(last)), ((&8.into(), &8.into()), (&8.into(), &8.into())));
    assert!((1..last).all(|i| bits(i) == (&3.into(), &6.into())));
    assert_eq!(layers[1]["storage"], "int4");
    let file = &result["quantized_file"];
    for activation in file["activations"]["activations"].as_array().unwrap() {
        assert!(activation["most_steps"].as_f64().unwrap() < 1.001, "{activation}");
    }
    let trained = result["training"]["kept"]["evaluation"]["accuracy"].as_f64().unwrap();
    // Three of the thousand images.
    let written = file["top1"].as_f64().unwrap();
    assert!((written - trained).abs() < 0.0031 && written > 0.85, "{written} {trained}");
    // Pins name layers by pattern, and replace the bits of the ends.
    let first = layers[0]["key"].as_str().unwrap();
    let pin = format!("{first}=5");
    let pinned = ["--quantize-weights", "4", "--pin", &pin, "--no-pin-ends", "--no-verify"];
    let document = kerf(&arguments(path, &pinned)).success().json();
    let layers = document["result"]["quantization"]["layers"].as_array().unwrap();
    assert_eq!((&layers[0]["weight_bits"], &layers[last]["weight_bits"]), (&5.into(), &4.into()));
}

#[test]
fn runs_are_the_same_bytes_on_any_number_of_threads_and_resume() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let fixed = ["--quantize-weights", "2", "--quantize-method", "pact", "--no-verify"];
    let made = ["1", "2"].map(|threads| {
        let output = path(threads);
        kerf(&arguments(&output, &[&fixed[..], &["--threads", threads]].concat())).success();
        constants(Path::new(&output))
    });
    assert!(made[0] == made[1]);
    // A run of fewer steps in the folder is another run, and is not gone on with.
    let (run, output) = (path("run"), path("resumed"));
    let started = [&fixed[..], &["--run", &run, "--checkpoint-every", "2"]].concat();
    kerf(&arguments(&output, &started)).success();
    let again = kerf(&arguments(&output, &started)).success().json();
    assert_eq!(again["result"]["training"]["resumed_from"], 4);
    assert!(constants(Path::new(&output)) == made[0]);
    let other = [&started[..], &["--pin", "*=7"]].concat();
    let refused = kerf(&arguments(&output, &other)).exits(2).json();
    assert_eq!(refused["error"]["code"], "E0403");
}

#[test]
fn wrong_arguments_are_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx").display().to_string();
    let code = |extra: &[&str]| {
        let document = kerf(&arguments(&output, extra)).exits(2).json();
        document["error"]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(&["--quantize-weights", "9"]), "E0010");
    assert_eq!(code(&["--quantize-method", "lsq+"]), "E0010");
    assert_eq!(code(&["--quantize-method", "pact"]), "E0010");
    assert_eq!(code(&["--pin", "a=4"]), "E0010");
    assert_eq!(code(&["--quantize-weights", "4", "--pin", "nothing=4"]), "E0502");
    assert_eq!(code(&["--quantize-plan", "missing.toml"]), "E0003");
    assert_eq!(code(&["--quantize-weights", "4", "--sparsity", "50%"]), "E0507");
    assert_eq!(code(&["--quantize-weights", "4", "--reinit"]), "E0507");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
