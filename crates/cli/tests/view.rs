//! `kerf view`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, TRAIN, VGG, changed, kerf};

#[test]
fn residual_connections_stand_beside_the_nodes() {
    let run = kerf(&["view", RESNET, "--width", "100"]).success();
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines[0], "resnet20_fmnist_folded.onnx");
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}'));
    let begins = run.stdout.matches('\u{256d}').count();
    assert_eq!(begins, run.stdout.matches('\u{2570}').count(), "{}", run.stdout);
    assert_eq!(begins, 11, "one for each block, one more beside each projection\n{}", run.stdout);
    let inspected = kerf(&["inspect", RESNET, "--json"]).success().json();
    let document = kerf(&["view", RESNET, "--json"]).success().json();
    assert_eq!(document["result"]["macs"], inspected["result"]["macs"]);
    assert_eq!(document["result"]["parameters"], inspected["result"]["parameters"]);
}

#[test]
fn every_width_is_kept_to() {
    for width in ["40", "60", "79", "80", "120"] {
        let run = kerf(&["view", RESNET, "--width", width]).success();
        let most = run.stdout.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(most <= width.parse().unwrap(), "{most} of {width}\n{}", run.stdout);
    }
    let plain = kerf(&["view", VGG]).success().stdout;
    let colour = kerf(&["view", VGG, "--color", "always"]).success().stdout;
    let stripped: String = colour
        .split("\u{1b}[")
        .enumerate()
        .map(|(at, piece)| if at == 0 { piece } else { piece.split_once('m').unwrap().1 })
        .collect();
    assert_eq!(stripped, plain);
    assert_ne!(colour, plain);
}

#[test]
fn what_became_of_channels_and_bits_stands_behind_an_arrow() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (pruned, int8) = (at("pruned.onnx"), at("int8.onnx"));
    let data = ["--data", TRAIN, "--preprocess", PREPROCESS, "--samples", "32", "--no-bench"];
    kerf(&[&["prune", VGG, "--macs", "50%", "-o", &pruned], &data[..]].concat()).success();
    kerf(&[&["quantize", &pruned, "-o", &int8], &data[..]].concat()).success();
    let run = kerf(&["view", VGG, "--against", &int8]).success();
    assert!(run.stdout.contains("W8 A8") && run.stdout.contains("128 -> "), "{}", run.stdout);
    // The quantized model alone: no pairs of QuantizeLinear and DequantizeLinear, and every layer once.
    let document = kerf(&["view", &int8, "--json"]).success().json();
    let nodes = document["result"]["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| !node["op"].as_str().unwrap().ends_with("Linear")));
    let layers = nodes.iter().filter(|node| !node["channels"].is_null()).count();
    assert_eq!(layers, 8);
    for node in nodes.iter().filter(|node| !node["channels"].is_null()) {
        assert_eq!(node["bits"]["weights"], 8, "{node}");
        assert_eq!(node["bits"]["activations"], 8, "{node}");
    }
}

#[test]
fn long_networks_show_repeated_blocks_once() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("deep.onnx");
    kerf(&["new", "inception-v3", "--width", "0.1", "-o", model.to_str().unwrap()]).success();
    let document = kerf(&["view", model.to_str().unwrap(), "--json"]).success().json();
    let nodes = document["result"]["nodes"].as_array().unwrap().len();
    let run = kerf(&["view", model.to_str().unwrap()]).success();
    let shown = run.stdout.lines().count();
    assert!(nodes > 300, "{nodes}");
    assert!(
        shown < nodes * 3 / 4 && run.stdout.contains(" nodes each"),
        "{nodes} in {shown}\n{}",
        run.stdout
    );
}

#[test]
fn operators_that_are_not_understood_are_marked() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.onnx");
    changed(VGG, &model, |graph| {
        let relu = graph.nodes.iter_mut().find(|node| node.op == "Relu").unwrap();
        relu.op = "Mystery".into();
        relu.domain = "some.where".into();
    });
    let run = kerf(&["view", model.to_str().unwrap(), "--width", "160"]).success();
    assert!(run.stdout.contains("not understood: channels end here"), "{}", run.stdout);
}
