//! `kerf prune` as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, Run, TEST, TRAIN, VGG, finish, kerf};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A quick prune: few samples, no timing.
fn prune(model: &str, output: &Path, extra: &[&str]) -> Run {
    let output = output.to_str().unwrap();
    let fixed = ["prune", model, "-o", output, "--data", TRAIN, "--preprocess", PREPROCESS];
    let quick = ["--samples", "64", "--no-bench"];
    kerf(&[&fixed[..], &quick, extra].concat())
}

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_budget_is_met_and_the_result_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("half.onnx");
    let extra = ["--macs", "50%", "--round-to", "1", "--eval-data", TEST, "--json"];
    let document = prune(VGG, &output, &extra).success().json();
    assert_eq!(document["schema"], "kerf.prune/1");
    assert_eq!(document["verdict"], "pass");
    assert_eq!(document["settings"]["macs"], 0.5);
    let result = &document["result"];
    let sizes = |side: &str, key: &str| result["sizes"][side][key].as_u64().unwrap();
    let kept = sizes("after", "macs") as f64 / sizes("before", "macs") as f64;
    assert!((0.45..=0.5).contains(&kept), "{kept}");
    assert_eq!(sizes("after", "file_bytes"), fs::metadata(&output).unwrap().len());
    let inspected = kerf(&["inspect", output.to_str().unwrap(), "--json"]).success().json();
    assert_eq!(inspected["result"]["macs"], sizes("after", "macs"));
    assert_eq!(inspected["result"]["producer"]["name"], "kerf");
    // Float rounding between two engines.
    let written = &result["proof"]["written"]["comparison"]["outputs"][0];
    assert!(written["max_relative"].as_f64().unwrap() < 1e-5, "{written}");
    let top1 = &result["proof"]["evaluation"]["comparison"]["outputs"][0]["top1"];
    let drop =
        top1["reference_accuracy"].as_f64().unwrap() - top1["candidate_accuracy"].as_f64().unwrap();
    // With 64 calibration samples; more lose less.
    assert!(drop < 0.05, "{drop}");
    assert_eq!(file_names(folder.path()), ["half.onnx"]);
}

#[test]
fn the_table_names_layers_sizes_and_how_to_repeat_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let run = prune(VGG, &output, &["--params", "60%", "--round-to", "8"]).success();
    for expected in [
        "Goal  keep 60.0% of the parameters   method obs   data fixtures/data/",
        "layer                       op    input channels   error  first-k  max-response  held out\n",
        "/features/features.3/Conv   Conv",
        "\nMACs  ",
        "\nfile, deflated  ",
        "original against pruned on fixtures/data/",
        "\ntop-1   ",
        "\nverified  the written file in ",
        "\nreplay  kerf prune fixtures/models/vgg7_fmnist_folded.onnx -o ",
    ] {
        assert!(run.stdout.contains(expected), "{expected:?} in\n{}", run.stdout);
    }
}

#[test]
fn same_bytes_with_one_and_two_threads() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<_> = ["1", "2"]
        .map(|threads| {
            let output = folder.path().join(format!("{threads}.onnx"));
            let extra = ["--macs", "70%", "--round-to", "4", "--threads", threads];
            prune(RESNET, &output, &extra).success();
            fs::read(output).unwrap()
        })
        .into();
    assert!(bytes[0] == bytes[1], "the models differ");
}

#[test]
fn an_infeasible_budget_says_what_is_attainable_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let run = prune(VGG, &output, &["--max-macs", "10"]).exits(1);
    assert!(run.stderr.contains("error[E0140]: "), "{}", run.stderr);
    assert!(run.stderr.contains("attainable is "), "{}", run.stderr);
    assert_eq!(file_names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_goal_that_is_not_met_is_exit_1_and_the_output_stays() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let extra = ["--macs", "20%", "--method", "first-k", "--assert-max-drop", "0.01%", "--json"];
    let run = prune(VGG, &output, &[&extra[..], &["--round-to", "1"]].concat()).exits(1);
    let document = run.json();
    assert_eq!(document["verdict"], "fail");
    let failures = document["result"]["proof"]["failures"].as_array().unwrap();
    assert!(failures[0].as_str().unwrap().starts_with("top-1 accuracy drops by "), "{failures:?}");
    assert!(output.exists());
}

#[test]
fn widths_may_be_given_by_name_or_file() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.onnx"), folder.path().join("b.onnx"));
    let name = "/features/features.0/Conv_output_0";
    let widths = format!("{name}=12");
    let run = prune(VGG, &a, &["--widths", &widths, "--json"]).success();
    let set = |document: &Value| {
        let sets = document["result"]["pruning"]["sets"].as_array().unwrap().clone();
        sets.into_iter().find(|set| set["before"] != set["after"]).unwrap()
    };
    assert_eq!(set(&run.json())["after"], 12);
    let file = folder.path().join("widths.toml");
    fs::write(&file, format!("{name:?} = 12\n")).unwrap();
    prune(VGG, &b, &["--widths", file.to_str().unwrap()]).success();
    // The same weights; only the recorded recipe differs.
    let sizes = [&a, &b].map(|path| fs::metadata(path).unwrap().len());
    assert_eq!(sizes[0], sizes[1]);
    let c = folder.path().join("c.onnx");
    for (widths, budget, code) in [
        ("nonsense=3", None, "E0142"),
        (widths.as_str(), Some("--macs"), "E0010"),
        ("no-file.toml", Some("--macs"), "E0003"),
    ] {
        let mut extra = vec!["--widths", widths];
        if let Some(flag) = budget {
            extra.extend([flag, "50%"]);
        }
        let run = prune(VGG, &c, &extra).exits(2);
        assert!(run.stderr.contains(&format!("error[{code}]: ")), "{}", run.stderr);
    }
    assert!(!c.exists());
}

#[test]
fn frozen_layers_keep_their_channels() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let extra =
        ["--macs", "80%", "--round-to", "1", "--freeze", "/features/features.0/*", "--json"];
    let document = prune(VGG, &output, &extra).success().json();
    for set in document["result"]["pruning"]["sets"].as_array().unwrap() {
        assert_ne!(set["name"], "/features/features.0/Conv_output_0");
    }
    let run = prune(VGG, &folder.path().join("p.onnx"), &["--macs", "80%", "--freeze", "*"]);
    assert!(run.exits(2).stderr.contains("error[E0143]: "));
}

#[test]
fn a_dry_run_plans_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let run = prune(RESNET, &output, &["--macs", "50%", "--dry-run"]).success();
    assert!(run.stdout.contains("Goal  keep 50.0% of the MACs"), "{}", run.stdout);
    assert!(run.stdout.ends_with("; nothing was written\n"), "{}", run.stdout);
    let json = prune(RESNET, &output, &["--macs", "50%", "--dry-run", "--json"]).success().json();
    assert_eq!(json["settings_from"]["macs"], "flag");
    assert_eq!(json["settings_from"]["method"], "default");
    assert_eq!(file_names(folder.path()), Vec::<String>::new());
}

#[test]
fn data_that_do_not_fit_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let path = output.to_str().unwrap();
    for (data, code) in [(folder.path().to_str().unwrap(), "E0201"), ("missing", "E0201")] {
        let run = kerf(&["prune", VGG, "-o", path, "--data", data, "--macs", "50%"]).exits(2);
        assert!(run.stderr.starts_with(&format!("error[{code}]: ")), "{}", run.stderr);
    }
    let run = prune(VGG, &output, &["--macs", "50%", "--method", "magic"]).exits(2);
    assert!(run.stderr.contains("choose one of obs, lasso"), "{}", run.stderr);
    assert!(!output.exists());
}

/// A limit on file sizes stands for a full disk: the write fails half-way.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let line = format!(
        "trap '' XFSZ; ulimit -f 100; exec '{}' prune {VGG} -o '{}' --data {TRAIN} \
         --preprocess {PREPROCESS} --samples 32 --macs 90% --round-to 1 --no-bench",
        env!("CARGO_BIN_EXE_kerf"),
        output.display()
    );
    let mut shell = std::process::Command::new("bash");
    let run = finish(shell.args(["-c", &line]).current_dir(common::root())).exits(2);
    assert!(run.stderr.contains("error[E0003]: "), "{}", run.stderr);
    assert_eq!(file_names(folder.path()), Vec::<String>::new());
}

/// Ctrl-C while it works.
#[cfg(unix)]
#[test]
fn an_interrupt_ends_with_130_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let mut arguments = vec!["prune", RESNET, "-o", output.to_str().unwrap(), "--data", TRAIN];
    // Far more work than happens before the signal arrives.
    arguments.extend(["--macs", "50%", "--round-to", "1", "--positions", "400", "-v"]);
    let mut child = common::command(&arguments)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    // The first progress line of the pruning itself: the work has begun.
    lines.by_ref().map(Result::unwrap).find(|line| !line.starts_with("read samples")).unwrap();
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line == "error[E0130]: interrupted"), "{rest:?}");
    assert_eq!(file_names(folder.path()), Vec::<String>::new());
}
