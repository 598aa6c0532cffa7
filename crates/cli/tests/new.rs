//! `kerf new`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::kerf;
use std::fs;

#[test]
fn a_new_model_is_one_that_the_other_commands_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (first, second) = (path("a.onnx"), path("b.onnx"));
    let arguments = ["new", "resnet20", "--classes", "10", "--input", "1x28x28", "--json", "-o"];
    let run = kerf(&[&arguments[..], &[&first]].concat()).success();
    assert!(run.stderr.contains("the weights are initial"), "{}", run.stderr);
    let document = run.json();
    assert_eq!(document["schema"], "kerf.new/1");
    assert_eq!(document["result"]["classes"], 10);

    let inspected = kerf(&["inspect", &first, "--json"]).success().json();
    assert_eq!(inspected["result"]["macs"], document["result"]["macs"]);
    assert_eq!(inspected["result"]["inputs"][0]["dims"], serde_json::json!([1, 1, 28, 28]));
    kerf(&["check", &first]).success();

    // The same seed gives the same bytes, another one does not; a file is not replaced unasked.
    kerf(&[&arguments[..], &[&second]].concat()).success();
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let run = kerf(&[&arguments[..], &[&second, "--seed", "1"]].concat()).exits(2);
    assert_eq!(run.json()["error"]["code"], "E0020");
    kerf(&[&arguments[..], &[&second, "--seed", "1", "--force"]].concat()).success();
    assert_ne!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
}

#[test]
fn the_list_names_every_architecture_and_its_options() {
    let text = kerf(&["new", "--list"]).success().stdout;
    for name in ["mlp", "lenet", "vgg16", "resnet50", "mobilenet-v2", "xception", "inception-v3"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
    }
    let document = kerf(&["new", "--list", "--json"]).success().json();
    let first = &document["result"]["architectures"][0];
    assert_eq!(first["name"], "mlp");
    assert_eq!(first["options"], serde_json::json!(["--hidden", "--dropout"]));
}

#[test]
fn wrong_arguments_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx").display().to_string();
    for (arguments, code, part) in [
        (&["resnet21"][..], "E0160", "resnet20"),
        (&["resnet20", "--dropout", "0.5"], "E0161", "dropout"),
        (&["mlp", "--width", "2"], "E0161", "width"),
        (&["inception-v3", "--input", "3x32x32"], "E0161", "too small"),
        (&["resnet20", "--input", "28x28"], "E0010", "--input"),
    ] {
        let run = kerf(&[&["new"][..], arguments, &["-o", &path, "--json"]].concat()).exits(2);
        assert_eq!(run.json()["error"]["code"], code, "{arguments:?}");
        assert!(run.stderr.contains(part), "{arguments:?}: {}", run.stderr);
    }
    let run = kerf(&["new", "--json"]).exits(2);
    assert_eq!(run.json()["error"]["code"], "E0010");
    assert!(!folder.path().join("m.onnx").exists());
}
