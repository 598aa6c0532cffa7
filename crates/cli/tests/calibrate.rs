//! `kerf calibrate`, and what takes its statistics, as a user runs them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, Run, TEST, TRAIN, VGG, kerf};
use std::fs;
use std::path::Path;

const DATA: [&str; 6] = ["--data", TRAIN, "--preprocess", PREPROCESS, "--samples", "64"];

fn calibrate(model: &str, output: &str, extra: &[&str]) -> Run {
    kerf(&[&["calibrate", model, "-o", output, "--force"], &DATA[..], extra].concat())
}

fn prune(model: &str, output: &Path, extra: &[&str]) -> Run {
    let output = output.to_str().unwrap();
    kerf(&[&["prune", model, "-o", output, "--force", "--no-bench"], extra].concat())
}

/// With the second budget streams have to be pruned, with the first they are kept; the third has
/// widths that are given, which need no curves.
#[test]
fn statistics_give_the_bytes_that_samples_give() {
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("s.safetensors");
    let stats = stats.to_str().unwrap();
    let (a, b) = (folder.path().join("a.onnx"), folder.path().join("b.onnx"));
    let same = |model: &str, left: &[&str], right: &[&str]| {
        prune(model, &a, left).success();
        prune(model, &b, right).success();
        assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap(), "{model}: {left:?} and {right:?}");
    };
    for model in [VGG, RESNET] {
        calibrate(model, stats, &[]).success();
        let budgets: [&[&str]; 3] =
            [&["--macs", "60%"], &["--macs", "12%"], &["--macs", "70%", "--widths", "uniform"]];
        for budget in budgets {
            let original = [&DATA[..], &["--inputs", "original"], budget].concat();
            let alone = [&["--statistics", stats], budget].concat();
            same(model, &original, &alone);
        }
        // Beside the samples, statistics only save time.
        let data = [&DATA[..], &["--macs", "60%"]].concat();
        same(model, &data, &[&data[..], &["--statistics", stats]].concat());
    }
}

#[test]
fn statistics_alone_give_a_good_model_and_its_proof() {
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("s.safetensors");
    let stats = stats.to_str().unwrap();
    let document = calibrate(VGG, stats, &["--json"]).success().json();
    assert_eq!(document["schema"], "kerf.calibrate/1");
    assert_eq!(document["result"]["samples"], 64);
    assert_eq!(document["result"]["output"]["bytes"], fs::metadata(stats).unwrap().len());
    let output = folder.path().join("o.onnx");
    let judged = ["--eval-data", TEST, "--preprocess", PREPROCESS, "--json"];
    let flags = ["--statistics", stats, "--macs", "50%"];
    let run = prune(VGG, &output, &[&flags[..], &judged].concat()).success();
    let proof = &run.json()["result"]["proof"];
    let top1 = &proof["evaluation"]["comparison"]["outputs"][0]["top1"];
    let drop =
        top1["reference_accuracy"].as_f64().unwrap() - top1["candidate_accuracy"].as_f64().unwrap();
    assert!(drop < 0.06, "{drop}");
    // Without other samples, the few in the file are what the result is checked on.
    let run = prune(VGG, &output, &[&flags[..], &["--json"]].concat()).success();
    let proof = &run.json()["result"]["proof"];
    assert_eq!(proof["evaluation"]["data"], "the samples kept with the statistics");
    assert!(proof["written"]["comparison"]["outputs"][0]["max_relative"].as_f64().unwrap() < 1e-5);
    let front = folder.path().join("front");
    let front = front.to_str().unwrap();
    let pareto = ["pareto", VGG, "--statistics", stats, "-o", front, "--shares", "70%,40%"];
    kerf(&[&pareto[..], &judged].concat()).success();
    assert!(Path::new(front).join("keep-40.onnx").exists());
    let planned = prune(VGG, &output, &[&flags[..], &["--dry-run"]].concat()).success();
    assert!(planned.stdout.contains("statistics "), "{}", planned.stdout);
}

#[test]
fn statistics_of_something_else_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("s.safetensors");
    let stats = stats.to_str().unwrap();
    calibrate(VGG, stats, &[]).success();
    let output = folder.path().join("o.onnx");
    let refused = |model: &str, extra: &[&str], name: &str| {
        let flags = ["--statistics", stats, "--macs", "50%"];
        let run = prune(model, &output, &[&flags[..], extra].concat()).exits(2);
        assert!(run.stderr.contains("error[E0146]: "), "{}", run.stderr);
        assert!(run.stderr.contains(name), "{name} in {}", run.stderr);
    };
    refused(RESNET, &[], "another model");
    refused(VGG, &["--seed", "3"], "seed 0, not 3");
    refused(VGG, &["--positions", "5"], "positions by default, not 5");
    refused(VGG, &["--method", "lasso"], "method obs, not lasso");
    refused(VGG, &["--streams", "sample", "--shape", "input=2x1x28x28"], "`--shape`");
    let other = ["--data", TEST, "--preprocess", PREPROCESS, "--samples", "64"];
    refused(VGG, &other, "other samples");
    refused(VGG, &["--data", TRAIN, "--preprocess", PREPROCESS], "preparation");
    assert!(!output.exists());

    let bytes = fs::read(stats).unwrap();
    for (what, content) in [("half", &bytes[..bytes.len() / 2]), ("text", b"{}".as_slice())] {
        fs::write(stats, content).unwrap();
        refused(VGG, &[], "s.safetensors");
        assert!(!output.exists(), "{what}");
    }
    let run = prune(VGG, &output, &["--statistics", "missing", "--macs", "50%"]).exits(2);
    assert!(run.stderr.contains("error[E0003]: missing"), "{}", run.stderr);
    let run = prune(VGG, &output, &["--macs", "50%"]).exits(2);
    assert!(run.stderr.contains("--data"), "{}", run.stderr);
    let run = prune(VGG, &output, &["--statistics", stats, "--macs", "50%", "--inputs", "current"]);
    assert!(run.exits(2).stderr.contains("needs the samples"));
    let run = prune(VGG, &output, &["--statistics", stats, "--macs", "50%", "--hold-out", "9"]);
    assert!(run.exits(2).stderr.contains("--data"));
}
