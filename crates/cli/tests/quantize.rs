//! `kerf quantize` as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, Run, TEST, TRAIN, kerf};
use std::fs;
use std::path::Path;

fn quantize(output: &Path, extra: &[&str]) -> Run {
    let output = output.to_str().unwrap();
    let fixed = ["quantize", RESNET, "-o", output, "--data", TRAIN, "--preprocess", PREPROCESS];
    kerf(&[&fixed[..], &["--samples", "64", "--no-bench"], extra].concat())
}

#[test]
fn eight_bits_lose_next_to_nothing_and_every_layer_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("int8.onnx");
    let document = quantize(&output, &["--eval-data", TEST, "--json"]).success().json();
    assert_eq!(document["schema"], "kerf.quantize/1");
    let report = &document["result"]["quantization"];
    assert_eq!(report["layers"].as_array().unwrap().len(), 22);
    assert_eq!(report["stored_bits"], 8.0);
    let proof = &document["result"]["proof"];
    assert_eq!(proof["activations"]["activations"].as_array().unwrap().len(), 33);
    for activation in proof["activations"]["activations"].as_array().unwrap() {
        assert!(activation["most_steps"].as_f64().unwrap() < 1.001, "{activation}");
    }
    let top1 = &proof["evaluation"]["comparison"]["outputs"][0]["top1"];
    let accuracy = |key: &str| top1[key].as_f64().unwrap();
    // Two of the thousand images.
    assert!(accuracy("reference_accuracy") - accuracy("candidate_accuracy") <= 0.0021, "{top1}");
    let sizes = &document["result"]["sizes"];
    let bytes = |when: &str| sizes[when]["file_bytes"].as_u64().unwrap();
    assert!(bytes("after") * 3 < bytes("before"));
    // Weights that became integers are parameters still; normalizations are folded, biases added.
    let parameters = |when: &str| sizes[when]["parameters"].as_u64().unwrap();
    assert!((268_000..=parameters("before")).contains(&parameters("after")), "{sizes}");
    let peak = |when: &str| sizes[when]["peak_activation_bytes"].as_u64().unwrap();
    assert!(peak("after") <= 2 * peak("before"), "{sizes}");
}

#[test]
fn a_plan_says_the_bits_of_each_layer() {
    let folder = tempfile::tempdir().unwrap();
    let (output, plan) = (folder.path().join("o.onnx"), folder.path().join("plan.toml"));
    let layer =
        |name: &str| format!("[[layer]]\nname = \"{name}\"\nweights = 4\nactivations = 6\n");
    fs::write(&plan, format!("schema = \"kerf.plan/1\"\n{}", layer("/fc/Gemm"))).unwrap();
    let plan = plan.to_str().unwrap();
    let document = quantize(&output, &["--plan", plan, "--json"]).success().json();
    let layers = document["result"]["quantization"]["layers"].as_array().unwrap().clone();
    let last = layers.last().unwrap();
    assert_eq!((&last["weight_bits"], &last["storage"]), (&4.into(), &"int4".into()));
    assert_eq!(layers[0]["weight_bits"], 8);
    assert_eq!(document["result"]["quantization"]["opset"], serde_json::json!([17, 21]));
}

#[test]
fn same_bytes_with_one_and_two_threads() {
    let folder = tempfile::tempdir().unwrap();
    let constants = ["1", "2"].map(|threads| {
        let output = folder.path().join(format!("{threads}.onnx"));
        quantize(&output, &["--weights", "4", "--threads", threads, "--no-verify"]).success();
        let graph = tensor_core::onnx::read(&output).unwrap();
        let values = graph.initializers().iter().map(|&v| graph.initializer(v).unwrap().clone());
        values.collect::<Vec<_>>()
    });
    assert!(constants[0] == constants[1]);
}

#[test]
fn wrong_arguments_are_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let code = |extra: &[&str]| {
        let document = quantize(&output, &[extra, &["--json"]].concat()).exits(2).json();
        document["error"]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(&["--weights", "0"]), "E0010");
    assert_eq!(code(&["--activations", "9"]), "E0010");
    assert_eq!(code(&["--clip", "median"]), "E0010");
    assert_eq!(code(&["--rounding", "up"]), "E0010");
    assert_eq!(code(&["--exclude", "nothing"]), "E0502");
    assert_eq!(code(&["--plan", "missing.toml"]), "E0003");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(&output, "kept").unwrap();
    assert_eq!(code(&[]), "E0020");
    assert_eq!(fs::read(&output).unwrap(), b"kept");
}
