//! `eval`, `verify` and `bench`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, TEST, TRAIN, VGG, kerf};
use std::fs;

const DATA: [&str; 4] = ["--data", TEST, "--preprocess", PREPROCESS];

fn with<'a>(start: &[&'a str], data: &[&'a str], end: &[&'a str]) -> Vec<&'a str> {
    [start, data, end].concat()
}

#[test]
fn accuracy_is_that_of_training() {
    // 93.55 % and 92.77 % on the whole test set, whose first thousand images these are: within
    // three standard errors (0.8 points each).
    for (model, expected) in [(RESNET, 0.9355), (VGG, 0.9277)] {
        let run = kerf(&with(&["eval", model], &DATA, &["--json"])).success();
        let accuracy = &run.json()["result"]["accuracy"];
        let top1 = accuracy["top1"].as_f64().unwrap();
        assert!((top1 - expected).abs() < 0.024, "{model}: {top1}");
        assert!(accuracy["top_k"].as_f64().unwrap() > 0.99);
        assert_eq!(accuracy["samples"], 1000);
    }
}

#[test]
fn engines_agree_on_accuracy() {
    let top1 = |engine: &str| {
        let end = ["--samples", "200", "--engine", engine, "--json"];
        kerf(&with(&["eval", VGG], &DATA, &end)).success().json()["result"]["accuracy"]["top1"]
            .clone()
    };
    assert_eq!(top1("kerf"), top1("rten"));
}

#[test]
fn an_assertion_decides_the_exit_code() {
    let eval = |least: &str| {
        kerf(&with(&["eval", VGG], &DATA, &["--samples", "100", "--assert-top1", least]))
    };
    assert!(eval("50%").success().stdout.ends_with("goal   top-1 at least 50.0%: met\n"));
    assert!(eval("100%").exits(1).stdout.ends_with("goal   top-1 at least 100.0%: not met\n"));
}

#[test]
fn missing_labels_are_an_error_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images.gz");
    fs::copy(common::root().join(TEST), &images).unwrap();
    let run = kerf(&["eval", VGG, "--data", images.to_str().unwrap()]).exits(2);
    assert!(run.stderr.starts_with("error[E0207]: "), "{}", run.stderr);
    assert!(run.stderr.contains("\nhint: give them with `--labels PATH`"), "{}", run.stderr);
}

#[test]
fn useless_data_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    for (data, code) in [(empty, "E0201"), ("no-such-folder", "E0201"), ("Cargo.toml", "E0201")] {
        let run = kerf(&["eval", VGG, "--data", data]).exits(2);
        assert!(run.stderr.starts_with(&format!("error[{code}]: {data}")), "{}", run.stderr);
    }
    let run = kerf(&["eval", VGG, "--data", TEST, "--resize", "32"]).exits(2);
    assert!(run.stderr.starts_with("error[E0205]: "), "{}", run.stderr);
    let run = kerf(&["eval", VGG, "--data", TEST, "--std", "0"]).exits(2);
    assert!(run.stderr.starts_with("error[E0210]: "), "{}", run.stderr);
}

#[test]
fn a_model_equals_itself_and_no_other() {
    let same = with(&["verify", VGG, VGG], &DATA, &["--samples", "64", "--engine", "rten"]);
    assert!(kerf(&same).success().stdout.contains("equal"));
    let end = ["--samples", "64", "--engine", "rten", "--json"];
    let run = kerf(&with(&["verify", VGG, RESNET], &DATA, &end)).exits(1);
    let document = run.json();
    assert_eq!(document["verdict"], "fail");
    assert_eq!(document["result"]["failures"].as_array().unwrap().len(), 1);
    assert_eq!(document["against"]["path"], RESNET);
    // Two good classifiers agree far more often than the tolerance on scores lets through.
    let end = ["--samples", "64", "--engine", "rten", "--assert-agreement", "80%"];
    kerf(&with(&["verify", VGG, RESNET], &DATA, &end)).success();
}

#[test]
fn bench_times_both_models_and_judges_the_speed_up() {
    let start = ["bench", VGG, "--against", VGG, "--engine", "rten", "--runs", "20"];
    let run = kerf(&with(&start, &[], &["--batch", "1,2", "--json"])).success();
    let latency = &run.json()["result"]["latency"];
    assert_eq!(latency.as_array().unwrap().len(), 2);
    for (report, batch) in latency.as_array().unwrap().iter().zip([1, 2]) {
        assert_eq!(report["batch"], batch);
        assert_eq!(report["threads"], 1);
        for model in report["models"].as_array().unwrap() {
            assert_eq!(model["runs"], 20);
            assert!(model["latency_us_p50"].as_f64().unwrap() > 0.0);
            assert!(model["latency_us_min"].as_f64() <= model["latency_us_p50"].as_f64());
        }
        assert!(report["models"][0]["speedup"].is_null());
    }
    // A model is not a hundred times faster than itself.
    let run = kerf(&with(&start, &[], &["--assert-speedup", "100"])).exits(1);
    assert!(run.stdout.ends_with("goal  speed-up of at least 100.00x: not met\n"));
    kerf(&with(&start, &[], &["--assert-speedup", "0.01"])).success();
}

#[test]
fn dry_runs_do_nothing() {
    for arguments in [
        with(&["eval", VGG, "--data", TRAIN], &[], &["--dry-run"]),
        vec!["bench", VGG, "--dry-run"],
    ] {
        let run = kerf(&arguments).success();
        assert!(run.stdout.contains("would run with\n"), "{}", run.stdout);
    }
}
