//! `kerf compress`: trials until the goals are met.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{command, kerf};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const MODEL: &str = "fixtures/models/vgg7_fmnist_bn.onnx";

fn arguments(output: &Path, more: &[&str]) -> Vec<String> {
    holding_out("100", output, more)
}

fn holding_out(count: &str, output: &Path, more: &[&str]) -> Vec<String> {
    let output = output.display().to_string();
    let data = ["--data", "fixtures/data/train-1k-images-idx3-ubyte.gz", "--samples", "64"];
    let prepared = ["--preprocess", "fixtures/preprocess/fmnist.json", "--hold-out", count];
    let parts = [&["compress", MODEL, "-o", &output][..], &data, &prepared, more];
    parts.concat().into_iter().map(str::to_owned).collect()
}

fn run(arguments: &[String]) -> common::Run {
    kerf(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn the_best_trial_is_kept_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("small.onnx");
    let goal = ["--size", "20%", "--min-agreement", "80%", "--trials", "3", "--json"];
    let document = run(&arguments(&output, &goal)).success().json();
    let original = fs::metadata(common::root().join(MODEL)).unwrap().len();
    let made = fs::metadata(&output).unwrap().len();
    assert!(made * 5 <= original, "{made} of {original}");
    let trials = document["result"]["trials"].as_array().unwrap();
    // 8 bits alone are a quarter: something must have been pruned.
    assert_eq!(trials[0]["variant"]["format"], "int8");
    assert!(trials[0]["variant"]["keep"].is_null() && !trials[1]["variant"]["keep"].is_null());
    assert_eq!(document["result"]["measured"]["file_bytes"][1], made);
    let judged = document["result"]["measured"]["accuracy"].as_array().unwrap();
    assert!(judged[1].as_f64().unwrap() > 0.7, "{judged:?}");

    // The recipe of the best trial makes the same file.
    let recipe = folder.path().join("small.run/recipe.toml").display().to_string();
    let again = folder.path().join("again.onnx");
    kerf(&["run", &recipe, "-o", &again.display().to_string()]).success();
    assert_eq!(fs::read(&again).unwrap(), fs::read(&output).unwrap());
}

#[test]
fn a_killed_search_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let goal = ["--size", "22%", "--trials", "2"];
    let whole = folder.path().join("whole.onnx");
    run(&arguments(&whole, &goal)).success();
    let killed = folder.path().join("killed.onnx");
    let args = arguments(&killed, &goal);
    for wait in [400, 1600, 2500] {
        let mut command = command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    kerf(&["resume", &folder.path().join("killed.run").display().to_string()]).success();
    assert_eq!(fs::read(&killed).unwrap(), fs::read(&whole).unwrap());
    // What differs is named.
    let other = [&goal[..2], &["--trials", "1"]].concat();
    let refused = run(&arguments(&killed, &other)).exits(2);
    assert!(refused.stderr.contains("E0403"), "{}", refused.stderr);
}

#[test]
fn the_plan_needs_no_trial() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("small.onnx");
    let goal = ["--latency", "50%", "--max-drop", "1%", "--dry-run", "--json"];
    let document = run(&arguments(&output, &goal)).success().json();
    let steps: Vec<&str> =
        document["result"]["steps"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(steps[0].starts_with("kerf quantize "), "{steps:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_done_is_said_first() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("small.onnx");
    for (held_out, more, code, part) in [
        ("100", &[][..], "E0010", "no goal was given"),
        ("900", &["--size", "20%", "--train"], "E0205", "100 samples are too few to train on"),
        ("100", &["--size", "0.2"], "", "expected the share to keep"),
        ("100", &["--size", "20%", "--time", "10"], "", "expected a length of time"),
    ] {
        let refused = run(&holding_out(held_out, &output, more)).exits(2);
        assert!(refused.stderr.contains(code), "{code} in {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{part} in {}", refused.stderr);
        assert!(!output.exists(), "{more:?}");
    }
}
