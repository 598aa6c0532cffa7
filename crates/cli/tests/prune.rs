//! `kerf prune` as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{
    PREPROCESS, RESNET, Run, TEST, TRAIN, VGG, changed, command, finish, fix_batch, kerf,
};
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
        "layer                       op    reads  input channels   error  first-k  max-response  held out\n",
        "/features/features.20/Conv  Conv",
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

/// The second network has a layer behind a flatten, with more columns than rows.
#[test]
fn same_bytes_with_one_and_two_threads() {
    let folder = tempfile::tempdir().unwrap();
    let lenet = folder.path().join("lenet.onnx");
    let lenet = lenet.to_str().unwrap();
    kerf(&["new", "lenet", "--input", "1x28x28", "-o", lenet]).success();
    for model in [RESNET, lenet] {
        let bytes: Vec<_> = ["1", "2"]
            .map(|threads| {
                let output = folder.path().join(format!("{threads}.onnx"));
                let extra = ["--macs", "70%", "--round-to", "4", "--threads", threads, "--force"];
                prune(model, &output, &extra).success();
                fs::read(output).unwrap()
            })
            .into();
        assert!(bytes[0] == bytes[1], "the models pruned from {model} differ");
    }
}

#[test]
fn exchanges_lower_the_error_of_the_first_layer() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    // Later layers see other inputs then, so their errors cannot be compared.
    let first = |exchanges: &[&str]| -> f64 {
        let flags =
            ["--macs", "50%", "--widths", "uniform", "--method", "lasso", "--json", "--force"];
        let document = prune(VGG, &output, &[&flags[..], exchanges].concat()).success().json();
        document["result"]["pruning"]["layers"][0]["error"].as_f64().unwrap()
    };
    assert!(first(&[]) < 0.99 * first(&["--exchanges", "0"]));
}

#[test]
fn an_infeasible_budget_says_what_is_attainable_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let attainable = |extra: &[&str]| {
        let run = prune(VGG, &output, &[&["--max-macs", "10"], extra].concat()).exits(1);
        assert!(run.stderr.contains("error[E0140]: "), "{}", run.stderr);
        let (_, interval) = run.stderr.split_once("attainable is ").unwrap();
        interval.split(';').next().unwrap().to_owned()
    };
    // By default any multiple may be rounded to.
    assert_eq!(attainable(&[]), attainable(&["--round-to", "1"]));
    assert_eq!(file_names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_goal_that_is_not_met_is_exit_1_and_the_output_stays() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let extra = ["--macs", "8%", "--method", "first-k", "--assert-max-drop", "0.01%", "--json"];
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
    let name = "/features/features.1/BatchNormalization_output_0";
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
        assert_ne!(set["name"], "/features/features.1/BatchNormalization_output_0");
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
fn a_dry_run_shows_the_widths_that_a_run_then_takes() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let extra = ["--macs", "50%", "--round-to", "4", "--json"];
    let planned = prune(RESNET, &output, &[&extra[..], &["--dry-run"]].concat()).success().json();
    let plan = &planned["result"]["plan"];
    let done = prune(RESNET, &output, &extra).success().json();
    let widths = |sets: &Value| -> Vec<Value> {
        let sets = sets.as_array().unwrap();
        sets.iter().map(|set| serde_json::json!([set["id"], set["before"], set["after"]])).collect()
    };
    assert_eq!(widths(&plan["sets"]), widths(&done["result"]["pruning"]["sets"]));
    for (predicted, key) in [("macs", "macs"), ("parameters", "parameters")] {
        let after = done["result"]["sizes"]["after"][key].as_f64().unwrap();
        assert_eq!(plan[predicted]["after"].as_f64().unwrap().round(), after, "{key}");
    }
    assert!(plan["sets"][0]["error"].as_f64().unwrap() > 0.0);
    let text = prune(VGG, &folder.path().join("p.onnx"), &["--widths", "g01=12", "--dry-run"]);
    let text = text.success().stdout;
    assert!(text.contains("  32 -> 12"), "{text}");
    assert!(text.contains("\nPlan  narrow 1 of 7 groups, leave 1 alone; nothing was"), "{text}");
}

/// BatchNormalization is folded first, which removes names; all that the file has stay valid.
#[test]
fn every_printed_name_is_accepted() {
    const WITH_BATCH_NORM: &str = "fixtures/models/resnet20_fmnist_bn.onnx";
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let dry = |extra: &[&str]| {
        let fixed = ["--samples", "4", "--dry-run", "--json"];
        let output = output.to_str().unwrap();
        let data = ["--data", TRAIN, "--preprocess", PREPROCESS];
        kerf(&[&["prune", WITH_BATCH_NORM, "-o", output][..], &data, &fixed, extra].concat())
    };
    let groups = kerf(&["groups", WITH_BATCH_NORM, "--json"]).success().json();
    let group = &groups["result"]["groups"][2];
    assert_eq!(group["root"], "/layers/layers.0/conv1/Conv_output_0");
    let mut names = vec![group["id"].clone(), group["root"].clone()];
    let made = |member: &&Value| !member["parameter"].as_str().unwrap().contains("conv2");
    let members = group["members"].as_array().unwrap().iter().filter(made);
    names.extend(members.map(|member| member["parameter"].clone()));
    names.push("/layers/layers.0/conv1/Conv".into());
    // What it makes is a stream that is named nowhere else, but pruned when it is named.
    assert!(names.contains(&"layers.0.bn1.running_var".into()), "{names:?}");
    for name in &names {
        let name = name.as_str().unwrap();
        let document = dry(&["--widths", &format!("{name}=5")]).success().json();
        let sets = document["result"]["plan"]["sets"].as_array().unwrap();
        let narrowed: Vec<_> = sets.iter().filter(|set| set["before"] != set["after"]).collect();
        assert_eq!(narrowed.len(), 1, "{name}");
        assert_eq!(
            (&narrowed[0]["id"], &narrowed[0]["after"]),
            (&group["id"], &5.into()),
            "{name}"
        );
        let document = dry(&["--macs", "90%", "--freeze", name]).success().json();
        let frozen = document["result"]["plan"]["frozen"].as_array().unwrap();
        assert!(frozen.iter().any(|frozen| frozen["id"] == group["id"]), "{name}");
    }
    let run = dry(&["--widths", "layers.0.conv1.wieght=5"]).exits(2);
    assert!(run.stderr.contains("error[E0142]: no group, layer or parameter"), "{}", run.stderr);
    assert!(run.stderr.contains("the nearest names are `layers.0.conv1.weight`"), "{}", run.stderr);
    let run = dry(&["--macs", "90%", "--freeze", "layers.0.bn1.wieght"]).exits(2);
    assert!(run.stderr.contains("the nearest names are `layers.0.bn1.weight`"), "{}", run.stderr);
    let run = dry(&["--widths", "g02=5,/layers/layers.0/conv1/Conv=6"]).exits(2);
    assert!(run.stderr.contains("both name group g02"), "{}", run.stderr);
}

#[test]
fn streams_are_pruned_only_where_the_budget_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let dry = |name: &str, extra: &[&str]| {
        let output = folder.path().join(name);
        prune(RESNET, &output, &[&["--dry-run", "--json"][..], extra].concat())
    };
    let kept = dry("a", &["--macs", "50%"]).success();
    let stream = |document: &Value| {
        let frozen = document["result"]["plan"]["frozen"].as_array().unwrap().clone();
        frozen.iter().any(|f| f["reason"] == "it is a shared stream, which is kept")
    };
    assert!(stream(&kept.json()) && !kept.stderr.contains("residual streams"), "{}", kept.stderr);
    let pruned = dry("b", &["--macs", "4%", "--round-to", "1"]).success();
    let document = pruned.json();
    assert!(!stream(&document) && pruned.stderr.contains("residual streams"), "{}", pruned.stderr);
    let macs = &document["result"]["plan"]["macs"];
    assert!(macs["after"].as_f64().unwrap() <= 0.04 * macs["before"].as_f64().unwrap());
    dry("c", &["--macs", "4%", "--round-to", "1", "--streams", "keep"]).exits(1);
}

#[test]
fn memory_does_not_change_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<_> = ["1MiB", "1GiB"]
        .map(|memory| {
            let output = folder.path().join(memory);
            prune(RESNET, &output, &["--macs", "70%", "--round-to", "4", "--memory", memory])
                .success();
            fs::read(output).unwrap()
        })
        .into();
    assert!(bytes[0] == bytes[1], "the models differ");
}

#[test]
fn few_samples_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let run = |samples: &str| {
        let output = folder.path().join(samples);
        let data = ["--data", TRAIN, "--preprocess", PREPROCESS, "--samples", samples];
        let start =
            ["prune", VGG, "--widths", "g07=64", "--no-bench", "-o", output.to_str().unwrap()];
        kerf(&[&start[..], &data].concat()).success().stderr
    };
    assert!(run("1").contains("warning: one calibration sample cannot be split"));
    assert!(run("15").contains("warning: 15 samples for calibration only: errors are optimistic"));
    assert!(!run("16").contains("optimistic"));
}

#[test]
fn a_fixed_batch_is_kept_to() {
    let folder = tempfile::tempdir().unwrap();
    let (path, output) = (folder.path().join("twelve.onnx"), folder.path().join("o.onnx"));
    changed(VGG, &path, |graph| fix_batch(graph, 12));
    let document = prune(path.to_str().unwrap(), &output, &["--widths", "g07=64", "--json"]);
    assert!(document.stderr.contains("the last 4 of 64 samples are left out"));
    let result = &document.success().json()["result"];
    assert_eq!(result["pruning"]["samples"], 60);
    assert_eq!(result["proof"]["written"]["comparison"]["samples"], 24);
    let (output, model) = (folder.path().join("p.onnx"), path.to_str().unwrap());
    let few = ["prune", model, "-o", output.to_str().unwrap(), "--macs", "80%", "--samples", "11"];
    let run = kerf(&[&few[..], &["--data", TRAIN, "--preprocess", PREPROCESS]].concat()).exits(2);
    assert!(run.stderr.contains("batches of 12, but there are 11 samples"), "{}", run.stderr);
}

/// Layers before an unknown operator are pruned, what comes after it stays as it is.
#[test]
fn an_unknown_operator_ends_the_pruning_not_the_run() {
    let folder = tempfile::tempdir().unwrap();
    for (name, op, domain) in [("known", "Shrink", ""), ("nobody", "Zorp", "my.operators")] {
        let path = folder.path().join(format!("{name}.onnx"));
        changed(VGG, &path, |graph| {
            let node = graph.nodes.iter_mut().filter(|node| node.op == "Relu").nth(3).unwrap();
            op.clone_into(&mut node.op);
            domain.clone_into(&mut node.domain);
            if !domain.is_empty() {
                graph.opsets.insert(domain.to_owned(), 1);
            }
        });
        let output = folder.path().join(format!("{name}-pruned.onnx"));
        let model = path.to_str().unwrap();
        let refused = prune(model, &output, &["--macs", "80%"]).exits(2);
        assert!(refused.stderr.contains("error[E0110]: "), "{}", refused.stderr);
        let extra = ["--macs", "80%", "--on-unsupported", "skip", "--json"];
        let run = prune(model, &output, &extra).success();
        let document = run.json();
        let result = &document["result"];
        let narrowed = result["pruning"]["sets"].as_array().unwrap();
        assert!(narrowed.iter().any(|set| set["after"].as_u64() < set["before"].as_u64()));
        assert!(run.stderr.contains("left as they are, because an operator before them is not"));
        assert!(run.stderr.contains("/features/features.14/Conv"), "{}", run.stderr);
        assert_eq!(result["proof"]["written"], Value::Null);
        let agreement = &result["proof"]["evaluation"]["comparison"]["outputs"][0]["top1"];
        let ort = kerf(&["bench", VGG, "--runs", "1", "--engine", "ort"]).code == 0;
        match name {
            "known" if ort => assert!(agreement["agreement"].as_f64().unwrap() > 0.8),
            _ => assert!(run.stderr.contains("were not compared: "), "{}", run.stderr),
        }
    }
}

#[test]
fn no_drop_at_all_may_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let extra = ["--macs", "100%", "--assert-max-drop", "0%"];
    prune(VGG, &output, &extra).success();
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

/// The engine is looked for beside the reading of data: an early error must not end the process
/// while its library is being loaded. The search begins with the environment that is told, so that
/// the loading and the error meet.
#[test]
fn an_early_error_waits_for_the_search_of_an_engine() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let path = output.to_str().unwrap();
    let question = ["-c", "import sys; print(sys.prefix, end='')"];
    let asked = std::process::Command::new("python3").args(question).output();
    let prefix = asked.map_or_else(|_| Vec::new(), |asked| asked.stdout);
    let prefix = String::from_utf8(prefix).unwrap();
    for _ in 0..40 {
        let arguments = ["prune", VGG, "-o", path, "--data", "missing", "--macs", "50%"];
        let run = finish(command(&arguments).env("VIRTUAL_ENV", &prefix)).exits(2);
        assert!(run.stderr.starts_with("error[E0201]: "), "{}", run.stderr);
    }
}

/// A limit on file sizes stands for a full disk: the write fails at once or half-way.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let full = |folder: &Path, kibibytes: u32, extra: &str| {
        let line = format!(
            "trap '' XFSZ; ulimit -f {kibibytes}; exec '{}' prune {VGG} -o '{}/o.onnx' \
             --data {TRAIN} --preprocess {PREPROCESS} --samples 32 --widths g07=127 \
             --no-bench {extra}",
            env!("CARGO_BIN_EXE_kerf"),
            folder.display()
        );
        let mut shell = std::process::Command::new("bash");
        finish(shell.args(["-c", &line]).current_dir(common::root()))
    };
    for kibibytes in [0, 100, 1000] {
        let folder = tempfile::tempdir().unwrap();
        let run = full(folder.path(), kibibytes, "").exits(2);
        assert!(run.stderr.contains("error[E0003]: "), "{}", run.stderr);
        assert_eq!(file_names(folder.path()), Vec::<String>::new(), "{kibibytes}");
    }
    // What was there before stays as it was.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("o.onnx"), "precious").unwrap();
    full(folder.path(), 1000, "--force").exits(2);
    assert_eq!(file_names(folder.path()), ["o.onnx"]);
    assert_eq!(fs::read_to_string(folder.path().join("o.onnx")).unwrap(), "precious");
}

/// However many samples a pass is asked to take, activations stay within bounds.
#[test]
fn batches_follow_the_size_of_activations() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let lines = |batch: &str| {
        let extra = ["--macs", "80%", "--method", "first-k", "--dry-run", "-v", "--batch", batch];
        prune(VGG, &output, &extra).success().stderr
    };
    // 196 KiB of activations per sample, as `kerf inspect` says, in 32 MiB.
    assert!(lines("1000").contains("\nbatches of 167 samples\n"), "{}", lines("1000"));
    assert!(lines("20").contains("\nbatches of 20 samples\n"));
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

/// ONNX allows nodes of the same name, ONNX Runtime does not: the written file is checked all the
/// same.
#[test]
fn nodes_may_share_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("same.onnx");
    changed(VGG, &path, |graph| {
        graph.nodes.iter_mut().for_each(|node| "node".clone_into(&mut node.name));
    });
    let output = folder.path().join("o.onnx");
    let extra = ["--macs", "80%", "--json"];
    let run = prune(path.to_str().unwrap(), &output, &extra).success();
    let written = &run.json()["result"]["proof"]["written"];
    assert_eq!(written["comparison"]["outputs"][0]["non_finite"], 0, "{}", run.stderr);
}

/// Time by a device's model: the prediction is shown, and meets the budget.
#[test]
fn a_budget_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let device = "roofline:peak=1e10,bandwidth=1e9";
    let more = ["--latency", "60%", "--hardware", device, "--round-to", "1", "--json"];
    let document = prune(VGG, &output, &more).success().json();
    let time = &document["result"]["time"]["predicted"];
    let [before, after] = ["before_us", "after_us"].map(|name| time[name].as_f64().unwrap());
    assert!(after <= 0.6 * before && after > 0.55 * before, "{after} of {before}");
    assert_eq!(document["result"]["time"]["measured"], Value::Null);
    for (more, code, exit) in [
        (&["--latency", "50%"][..], "E0010", 2),
        (&["--macs", "50%", "--hardware", device], "E0010", 2),
        (&["--max-latency", "1us", "--hardware", device], "E0140", 1),
        (&["--latency", "50%", "--cost", "no-such-table"], "E0003", 2),
    ] {
        let run = prune(VGG, &output, &[more, &["--json", "--force"]].concat()).exits(exit);
        let document: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(document["error"]["code"], code, "{more:?}");
    }
}

/// A table knows layers at some widths and whole networks at some: what lies between is interpolated.
#[test]
fn a_measured_table_predicts_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let [table, output] = ["t.jsonl", "o.onnx"].map(|name| folder.path().join(name));
    let path = table.to_str().unwrap();
    let measure =
        ["cost", "measure", VGG, "--floats", "--widths", "25%,50%", "--runs", "3", "-o", path];
    kerf(&measure).success();
    let text = fs::read_to_string(&table).unwrap();
    let networks = text.lines().filter(|line| line.contains("\"network\"")).count();
    assert_eq!(networks, 3, "{text}");
    assert!(!text.contains("\"w_bits\":8"), "only floats were asked for");
    let run = prune(VGG, &output, &["--latency", "60%", "--cost", path]).success();
    let line = run.stdout.lines().find(|line| line.starts_with("time  predicted ")).unwrap();
    assert!(line.contains(" ms -> ") && line.contains(", batch 1"), "{line}");
}

/// Gradient steps are in the report and in what repeats the run, and give the same bytes again.
#[test]
fn refinement_is_reported_and_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.onnx"), folder.path().join("b.onnx"));
    let extra = ["--macs", "30%", "--refine", "3", "--json"];
    let document = prune(VGG, &first, &extra).success().json();
    let refinement = &document["result"]["pruning"]["refinement"];
    assert_eq!((&refinement["steps"], &refinement["judges"]), (&3.into(), &6.into()));
    // A tenth of the 64 samples is kept from pruning, too.
    assert_eq!(document["result"]["pruning"]["samples"], 58);
    let error = |key: &str| refinement[key].as_f64().unwrap();
    assert_eq!(refinement["is_kept"], error("after") < error("before"), "{refinement}");
    assert_eq!(document["settings"]["refine"], 3);
    let text = prune(VGG, &second, &extra[..4]).success();
    assert!(text.stdout.contains("refined in 3 steps of"), "{}", text.stdout);
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
}

/// The samples that judge may not have been seen: not by statistics, and they should not be too few.
#[test]
fn refinement_needs_samples_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let statistics = folder.path().join("vgg.stats");
    let statistics = statistics.to_str().unwrap();
    let data = ["--data", TRAIN, "--preprocess", PREPROCESS, "--samples", "64"];
    kerf(&[&["calibrate", VGG, "-o", statistics][..], &data].concat()).success();
    for extra in [&["--statistics", statistics][..], &["--samples", "40"]] {
        let written = output.to_str().unwrap();
        let fixed = ["prune", VGG, "--macs", "50%", "--refine", "3", "-o", written];
        let samples = if extra[0] == "--samples" { &data[..4] } else { &data };
        let run = kerf(&[&fixed[..], samples, extra].concat());
        assert!(run.code != 0 && run.stderr.contains("error[E0147]: "), "{}", run.stderr);
        assert!(!output.exists());
    }
}
