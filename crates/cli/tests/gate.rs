//! `kerf gate`: channels switched off in training, then a cut that changes nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, Run, TEST, TRAIN, VGG, command, finish, kerf};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// A tiny run.
fn gate(model: &str, output: &str, more: &[&str]) -> Run {
    let files = ["gate", model, "-o", output, "--data", TEST, "--preprocess", PREPROCESS];
    let run = ["--samples", "160", "--batch", "16", "--steps", "20", "--json", "--force"];
    kerf(&[&files[..], &run, more].concat())
}

fn macs(path: &str) -> f64 {
    let document = kerf(&["inspect", path, "--json"]).success().json();
    document["result"]["macs"].as_f64().unwrap()
}

#[test]
fn budgets_are_met_exactly_and_the_cut_is_lossless() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx").display().to_string();
    let run = folder.path().join("run").display().to_string();
    let bn = VGG.replace("folded", "bn");
    for (model, more, share) in [
        (RESNET, &["--macs", "50%"][..], 0.5),
        (&bn, &["--macs", "20%", "--round-to", "1", "--run", &run], 0.2),
        (VGG, &["--macs", "70%", "--prox", "l0", "--teacher", VGG], 0.7),
        (RESNET, &["--macs", "30%", "--penalty", "uniform", "--reinit"], 0.3),
        (RESNET, &["--macs", "20%", "--branches"], 0.2),
    ] {
        let document = gate(model, &output, more).success().json();
        assert_eq!(document["schema"], "kerf.gate/1");
        let gates = &document["result"]["gates"];
        let resource = |name: &str| gates["resource"][name].as_f64().unwrap();
        assert_eq!(resource("by_gates"), resource("by_model"), "{model}");
        let found = resource("by_model") / resource("original");
        // Within 1 %, or a channel's worth of a stream.
        assert!(found <= share && found > 0.9 * share, "{model} {found}");
        assert_eq!((macs(model), macs(&output)), (resource("original"), resource("by_model")));
        let compared = &gates["cut_against_gated"]["comparison"]["outputs"][0];
        assert!(compared["max_relative"].as_f64().unwrap() <= 1e-5, "{compared}");
        let top1 = |name: &str| compared["top1"][name].as_f64().unwrap();
        assert_eq!(top1("reference_accuracy"), top1("candidate_accuracy"));
        let lists = gates["lists"].as_array().unwrap();
        let branches = lists.iter().filter(|list| list["id"].as_str().unwrap().starts_with('b'));
        assert_eq!(branches.count(), if more.contains(&"--branches") { 9 } else { 0 });
        for list in lists {
            let values = list["values"].as_array().unwrap();
            let open = values.iter().filter(|value| value.as_f64().unwrap() > 0.0).count();
            assert_eq!(list["open"], open);
        }
    }
    for plot in ["gates-histogram.svg", "gates-layers.svg", "gates-resource.svg"] {
        let text = fs::read_to_string(Path::new(&run).join(plot)).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{plot}");
    }
    let journal = fs::read_to_string(Path::new(&run).join("journal.jsonl")).unwrap();
    let last: Value = serde_json::from_str(journal.lines().last().unwrap()).unwrap();
    assert!(last["gates"]["resource"].as_f64().unwrap() <= 0.2);
    assert!(last["gates"]["lists"][0]["values"].is_array());
}

#[test]
fn other_budgets_and_a_price() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx").display().to_string();
    for (more, most) in [
        (&["--params", "40%"][..], Some(0.4)),
        (&["--max-macs", "10M"], Some(10.0 / 31.0)),
        (&["--size", "60%"], Some(0.6)),
        (&["--price", "0.5"], None),
    ] {
        let document = gate(RESNET, &output, more).success().json();
        let resource = &document["result"]["gates"]["resource"];
        let [found, all] = ["by_model", "original"].map(|name| resource[name].as_f64().unwrap());
        assert!(found < all, "{more:?}: nothing closed");
        assert!(most.is_none_or(|most| found <= most * all * 1.01), "{more:?} {found} of {all}");
    }
}

/// What gates are measured against is cut with loss.
#[test]
fn other_methods_are_cut_too() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx").display().to_string();
    for method in ["sigmoid", "slimming", "polarization"] {
        let more = ["--macs", "60%", "--method", method];
        let gates = gate(RESNET, &output, &more).success().json()["result"]["gates"].clone();
        assert_eq!(gates["resource"]["by_gates"].as_f64(), gates["resource"]["by_model"].as_f64());
        let compared = &gates["cut_against_gated"]["comparison"]["outputs"][0];
        assert!(compared["max_relative"].as_f64().unwrap() > 1e-3, "{method} {compared}");
    }
}

#[test]
fn threads_do_not_change_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (output, threads) in [("one.onnx", "1"), ("two.onnx", "2")] {
        let more = ["--macs", "40%", "--no-verify", "--threads", threads];
        gate(RESNET, &path(output), &more).success();
    }
    assert!(fs::read(path("one.onnx")).unwrap() == fs::read(path("two.onnx")).unwrap());
}

/// A run that is killed goes on from its checkpoint, gates and all, and ends in the same bytes.
#[test]
fn a_killed_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (whole, parted, run) = (path("whole.onnx"), path("parted.onnx"), path("run"));
    let more = ["--macs", "40%", "--branches", "--no-verify", "--checkpoint-every", "1", "--run"];
    gate(VGG, &whole, &[&more[..], &[&path("first")]].concat()).success();
    let files = ["gate", VGG, "-o", &parted, "--data", TEST, "--preprocess", PREPROCESS];
    let size = ["--samples", "160", "--batch", "16", "--steps", "20", "--json", "--force"];
    let arguments = [&files[..], &size, &more, &[&run]].concat();
    let mut child =
        command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Checkpoints are replaced as a whole, so a file that is there has one.
    let checkpoint = Path::new(&run).join("last.safetensors");
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let document = kerf(&arguments).success().json();
    assert!(document["result"]["training"]["resumed_from"].as_u64().unwrap() > 0);
    assert!(fs::read(&whole).unwrap() == fs::read(&parted).unwrap());
}

#[test]
fn a_plan_says_what_is_gated_and_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx").display().to_string();
    let more = ["--macs", "50%", "--dry-run", "--keep-channels", "g02", "--freeze", "*layers.8*"];
    let document = gate(RESNET, &output, &more).success().json();
    let gates = &document["result"]["gates"];
    let lists = gates["lists"].as_array().unwrap();
    assert!(lists.iter().all(|list| list["id"] != "g02"));
    let reasons: Vec<&str> = gates["ungated"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["reason"].as_str().unwrap())
        .collect();
    assert!(reasons.contains(&"`g02` is excluded"), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.ends_with("is frozen")), "{reasons:?}");
    // Names are those of the file, though training works on a graph with normalizations.
    let groups = kerf(&["groups", RESNET, "--json"]).success().stdout;
    for list in lists {
        assert!(groups.contains(list["name"].as_str().unwrap()), "{list}");
    }
    let text = ["gate", RESNET, "-o", &output, "--data", TEST, "--preprocess", PREPROCESS];
    let text = kerf(&[&text[..], &["--macs", "50%", "--dry-run"]].concat()).success().stdout;
    assert!(text.contains("Goal  keep 50.0% of the MACs"), "{text}");
    assert!(!Path::new(&output).exists());
}

#[test]
fn what_cannot_be_is_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx").display().to_string();
    for (more, code) in [
        (&[][..], "E0010"),
        (&["--macs", "0.1%", "--round-to", "16"], "E0442"),
        (&["--macs", "50%", "--eps", "0"], "E0010"),
        (&["--macs", "50%", "--gate-lr=-1"], "E0440"),
        (&["--macs", "50%", "--gate-lr", "inf"], "E0440"),
        (&["--macs", "50%", "--penalty", "adaptive:9"], "E0440"),
        (&["--macs", "50%", "--penalty", "adaptive:x"], "E0010"),
        (&["--macs", "50%", "--gates-from", "60%"], "E0440"),
        (&["--macs", "50%", "--price", "1"], "E0010"),
        (&["--macs", "50%", "--round-to", "0"], "E0010"),
        (&["--macs", "50%", "--keep-channels", "nothing"], "E0407"),
        (&["--macs", "50%", "--keep-channels", "*"], "E0441"),
        (&["--macs", "50%", "--ema", "0.9"], "E0443"),
        (&["--macs", "50%", "--keep", "best", "--eval-data", TEST], "E0443"),
        (&["--macs", "50%", "--sparsity", "50%"], "E0443"),
        (&["--macs", "50%", "--strength", "1"], "E0443"),
        (&["--macs", "50%", "--method", "slimming", "--batch-norm", "keep"], "E0441"),
        (&["--price", "1", "--method", "sigmoid"], "E0443"),
        (&["--price", "1", "--round-to", "8"], "E0010"),
        (&["--macs", "50%", "--resource", "parameters"], "E0010"),
        (&["--macs", "0.1%", "--method", "sigmoid"], "E0442"),
        (&["--macs", "50%", "--method", "sigmoid", "--prox", "l0"], "E0443"),
        (&["--macs", "50%", "--method", "sigmoid", "--round-to", "8"], "E0443"),
        (&["--macs", "50%", "--method", "sigmoid", "--branches"], "E0443"),
    ] {
        // A budget that cannot be met is a goal missed, not a wrong command.
        let run = gate(RESNET, &output, more).exits(if code == "E0442" { 1 } else { 2 });
        let document: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(document["error"]["code"], code, "{more:?} {}", run.stderr);
        assert!(!Path::new(&output).exists(), "{more:?}");
    }
    // Without labels there is nothing to learn from but a teacher.
    let unlabelled = folder.path().join("images.gz").display().to_string();
    fs::copy(common::root().join(TRAIN), &unlabelled).unwrap();
    let arguments = ["gate", VGG, "-o", &output, "--preprocess", PREPROCESS, "--macs", "60%"];
    let more = ["--data", &unlabelled, "--samples", "64", "--batch", "16", "--steps", "6"];
    finish(&mut command(&[&arguments[..], &more].concat())).exits(2);
    finish(&mut command(&[&arguments[..], &more, &["--teacher", VGG]].concat())).success();
}

/// Time is a budget, too, by the model of a device or by a table.
#[test]
fn a_budget_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx").display().to_string();
    let device = "roofline:peak=1e10,bandwidth=1e9";
    let more = ["--latency", "50%", "--hardware", device, "--round-to", "1"];
    let resource =
        gate(RESNET, &output, &more).success().json()["result"]["gates"]["resource"].clone();
    let [model, original] = ["by_model", "original"].map(|name| resource[name].as_f64().unwrap());
    assert_eq!(resource["what"], "microseconds");
    assert!(model <= 0.5 * original && model > 0.48 * original, "{model} of {original}");
    for (more, code) in [
        (&["--latency", "50%"][..], "E0010"),
        (&["--macs", "50%", "--hardware", device], "E0010"),
        (&["--macs", "50%", "--latency", "50%", "--hardware", device], "E0010"),
        (&["--latency", "50%", "--hardware", "abacus"], "E0553"),
        (&["--latency", "50%", "--hardware", "size"], "E0559"),
        (&["--latency", "50%", "--cost", "no-such-table"], "E0003"),
        (&["--max-latency", "5", "--hardware", device], "E0010"),
    ] {
        let document: Value =
            serde_json::from_str(&gate(RESNET, &output, more).exits(2).stdout).unwrap();
        assert_eq!(document["error"]["code"], code, "{more:?}");
    }
}
