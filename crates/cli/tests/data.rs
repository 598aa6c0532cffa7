//! `eval`, `verify` and `bench`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, TEST, TRAIN, VGG, changed, command, finish, fix_batch, kerf};
use std::fs;
use tensor_core::Constant;

const DATA: [&str; 4] = ["--data", TEST, "--preprocess", PREPROCESS];

fn with<'a>(start: &[&'a str], data: &[&'a str], end: &[&'a str]) -> Vec<&'a str> {
    [start, data, end].concat()
}

#[test]
fn accuracy_is_that_of_training() {
    // 93.52 % and 92.88 % on the whole test set, whose first thousand images these are: within
    // three standard errors (0.8 points each).
    for (model, expected) in [(RESNET, 0.9352), (VGG, 0.9288)] {
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
    assert!(run.stderr.contains("\nhint: give `--labels`"), "{}", run.stderr);
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

#[test]
fn outputs_without_a_number_cannot_be_verified() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nan.onnx");
    changed(VGG, &path, |graph| {
        let bias = graph.find("fc.bias").unwrap();
        graph.set_initializer(bias, Constant::from_f32s(&[10], &[f32::NAN; 10]).unwrap());
    });
    let nan = path.to_str().unwrap();
    let end = ["--samples", "8", "--json"];
    for engine in ["kerf", "rten"] {
        let start = ["verify", nan, nan, "--engine", engine];
        let document = kerf(&with(&start, &DATA, &end)).exits(1).json();
        let output = &document["result"]["comparison"]["outputs"][0];
        assert_eq!((&output["elements"], &output["compared"]), (&80.into(), &0.into()));
        let failures = document["result"]["failures"].as_array().unwrap();
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].as_str().unwrap().contains("nothing was compared"), "{failures:?}");
    }
}

#[test]
fn a_fixed_batch_takes_whole_batches_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sixteen.onnx");
    changed(VGG, &path, |graph| fix_batch(graph, 16));
    let model = path.to_str().unwrap();
    let few = kerf(&with(&["eval", model], &DATA, &["--samples", "15"])).exits(2);
    let expected = "error[E0205]: the model takes batches of 16, but there are 15 samples only\n";
    assert!(few.stderr.starts_with(expected), "{}", few.stderr);
    assert!(few.stderr.contains("hint: give at least 16 samples"), "{}", few.stderr);
    let run = kerf(&with(&["eval", model], &DATA, &["--samples", "40", "--json"])).success();
    assert_eq!(run.json()["result"]["accuracy"]["samples"], 32);
    assert!(run.stderr.contains("the last 8 of 40 samples are left out"), "{}", run.stderr);
    let start = ["verify", model, VGG];
    let run = kerf(&with(&start, &DATA, &["--samples", "17", "--json"])).success();
    assert_eq!(run.json()["result"]["comparison"]["samples"], 16);
}

#[test]
fn an_engine_that_was_named_is_not_replaced_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let junk = folder.path().join("junk.so");
    fs::write(&junk, "no library").unwrap();
    let output = folder.path().join("o.onnx");
    let prune = ["prune", VGG, "--macs", "50%", "-o", output.to_str().unwrap()];
    for library in [&junk, &folder.path().join("missing.so")] {
        for start in [&["verify", VGG, VGG][..], &prune] {
            let mut command = command(&with(start, &DATA, &["--samples", "8"]));
            let run = finish(command.env("ORT_DYLIB_PATH", library)).exits(2);
            let expected =
                format!("error[E0305]: ORT_DYLIB_PATH names {}, which cannot", library.display());
            assert!(run.stderr.contains(&expected), "{}", run.stderr);
        }
        // What needs no ONNX Runtime does not look for it.
        let mut command = command(&with(&["eval", VGG], &DATA, &["--samples", "8"]));
        finish(command.env("ORT_DYLIB_PATH", library)).success();
    }
    assert!(!output.exists());
}
