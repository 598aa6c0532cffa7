//! `kerf train` and `kerf finetune` as a user runs them: results, resume, kills, refusals.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, TEST, VGG, command, kerf};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tensor_core::graph::{Attribute, Declared, Dim, Graph, Node};
use tensor_core::{Constant, ElementType, onnx};

/// A tiny classifier of 28 x 28 images, as a file.
fn model(path: &Path) {
    let mut graph = Graph::default();
    graph.ir_version = 8;
    graph.opsets.insert(String::new(), 17);
    let ids = ["input", "w", "b", "fc.w", "fc.b", "conv", "relu", "pool", "flat", "scores"]
        .map(|name| graph.value(name));
    let [input, w, b, fc_w, fc_b, conv, relu, pool, flat, scores] = ids;
    for (value, shape) in [(input, [1, 28, 28].as_slice()), (scores, &[10])] {
        let fixed = shape.iter().map(|&n| Dim::Known(n));
        let dims = std::iter::once(Dim::Symbol("batch".to_owned())).chain(fixed).collect();
        let element = Some(ElementType::F32);
        graph.declare(value, Some(Declared { element, dims: Some(dims), ..Declared::default() }));
    }
    graph.inputs.push(input);
    graph.outputs.push(scores);
    for (value, dims) in [(w, &[6, 1, 5, 5][..]), (b, &[6]), (fc_w, &[216, 10]), (fc_b, &[10])] {
        let zeros = vec![0.0; dims.iter().product()];
        graph.set_initializer(value, Constant::from_f32s(dims, &zeros).unwrap());
    }
    let mut first = Node::new("conv", "Conv", &[input, w, b], &[conv]);
    first.attributes.set("strides", Attribute::Ints(vec![2, 2]));
    let mut second = Node::new("pool", "MaxPool", &[relu], &[pool]);
    second.attributes.set("kernel_shape", Attribute::Ints(vec![2, 2]));
    second.attributes.set("strides", Attribute::Ints(vec![2, 2]));
    graph.nodes.extend([
        first,
        Node::new("relu", "Relu", &[conv], &[relu]),
        second,
        Node::new("flat", "Flatten", &[pool], &[flat]),
        Node::new("fc", "Gemm", &[flat, fc_w, fc_b], &[scores]),
    ]);
    graph.validate().unwrap();
    onnx::write(&graph, path).unwrap();
}

/// A training command in a folder of its own.
struct Job {
    folder: tempfile::TempDir,
}

impl Job {
    fn new() -> Self {
        let job = Self { folder: tempfile::tempdir().unwrap() };
        model(&job.folder.path().join("tiny.onnx"));
        job
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn arguments(&self, output: &str, more: &[&str]) -> Vec<String> {
        let model = self.path("tiny.onnx");
        let output = self.path(output);
        let fixed = ["train", &model, "-o", &output, "--data", TEST, "--preprocess", PREPROCESS];
        let usual = ["--reinit", "--batch", "16", "--lr", "0.05", "--flip", "--shift", "2"];
        fixed.into_iter().chain(usual).chain(more.iter().copied()).map(str::to_owned).collect()
    }

    fn run(&self, output: &str, more: &[&str]) -> common::Run {
        let arguments = self.arguments(output, more);
        kerf(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[test]
fn trains_verifies_and_reports() {
    let job = Job::new();
    let more = ["--epochs", "6", "--eval-data", TEST, "--assert-top1", "60%", "--json"];
    let document = job.run("out.onnx", &more).success().json();
    assert_eq!(document["schema"], "kerf.train/1");
    assert_eq!(document["verdict"], "pass");
    let training = &document["result"]["training"];
    assert_eq!(training["steps"], 372);
    assert_eq!(training["points"].as_array().unwrap().len(), 6);
    let accuracy = training["kept"]["evaluation"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.6 && accuracy < 0.95, "{accuracy}");
    assert!(document["result"]["verified"]["engine"].is_string());
    let evaluated = ["eval", &job.path("out.onnx"), "--data", TEST, "--preprocess", PREPROCESS];
    let evaluated = kerf(&[&evaluated[..], &["--json"]].concat()).success().json();
    let top1 = evaluated["result"]["accuracy"]["top1"].as_f64().unwrap();
    assert!((top1 - accuracy).abs() < 1e-9, "{top1} instead of {accuracy}");
    let unmet = ["--force", "--epochs", "1", "--eval-data", TEST, "--assert-top1", "99.9%"];
    let run = job.run("out.onnx", &unmet).exits(1);
    assert!(run.stdout.contains("not met  top-1 accuracy is "), "{}", run.stdout);
}

#[test]
fn threads_do_not_change_the_bytes() {
    let job = Job::new();
    for (output, threads) in [("one.onnx", "1"), ("two.onnx", "2"), ("again.onnx", "1")] {
        job.run(output, &["--epochs", "1", "--no-verify", "--threads", threads]).success();
    }
    let read = |name| fs::read(job.path(name)).unwrap();
    assert!(read("one.onnx") == read("two.onnx") && read("one.onnx") == read("again.onnx"));
}

#[test]
fn finetune_has_gentle_defaults_and_dry_run_a_plan() {
    let job = Job::new();
    let output = job.path("out.onnx");
    let run = job.path("run");
    let arguments = ["finetune", VGG, "-o", &output, "--data", TEST, "--preprocess", PREPROCESS];
    let more = ["--run", &run, "--freeze", "/features/*", "--dry-run", "--json"];
    let document = kerf(&[&arguments[..], &more].concat()).success().json();
    assert_eq!(document["schema"], "kerf.finetune/1");
    let settings = &document["settings"];
    assert_eq!((&settings["lr"], &settings["epochs"]), (&0.02.into(), &2.into()));
    assert_eq!(document["settings_from"]["lr"], "default");
    let plan = &document["result"]["plan"];
    assert_eq!((&plan["steps"], &plan["trained_values"]), (&14.into(), &1290.into()));
    assert_eq!(plan["frozen"].as_array().unwrap().len(), 14);
    assert_eq!(plan["restored_norms"].as_array().unwrap().len(), 0);
    let restored = |more: &[&str]| {
        let all = [&arguments[..], &["--dry-run", "--json"], more].concat();
        let document = kerf(&all).success().json();
        document["result"]["plan"]["restored_norms"].as_array().unwrap().len()
    };
    // Normalizations were folded into all seven convolutions.
    assert_eq!(restored(&[]), 7);
    assert_eq!(restored(&["--batch-norm", "keep"]), 0);
    assert_eq!(restored(&["--batch", "15"]), 0);
    assert!(!Path::new(&output).exists() && !Path::new(&run).exists());
}

#[test]
fn wrong_inputs_are_refused_before_training() {
    let job = Job::new();
    let output = job.path("out.onnx");
    let run = job.path("run");
    let cases: [(&[&str], &str); 5] = [
        (&["--freeze", "conf"], "E0407"),
        (&["--momentum", "1"], "E0406"),
        (&["--labels", "fixtures/data/train-1k-labels-idx1-ubyte.gz", "--samples", "0"], "E0010"),
        (&["--steps", "5", "--epochs", "5"], "E0010"),
        (&["--assert-top1", "50%"], "E0010"),
    ];
    for (more, code) in cases {
        let run = job.run("out.onnx", &[more, &["--json"]].concat()).exits(2);
        assert_eq!(run.json()["error"]["code"], code, "{more:?}");
    }
    let unlabelled = job.path("images.npy");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (20, 28, 28), }\n";
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(vec![7; 20 * 28 * 28]);
    fs::write(&unlabelled, bytes).unwrap();
    let model = job.path("tiny.onnx");
    let arguments = ["train", &model, "-o", &output, "--data", &unlabelled, "--json"];
    assert_eq!(kerf(&arguments).exits(2).json()["error"]["code"], "E0207");
    // A run folder goes on with the same settings only, and says what differs.
    job.run("out.onnx", &["--steps", "3", "--run", &run, "--no-verify"]).success();
    let other = ["--steps", "3", "--run", &run, "--force", "--no-verify", "--mean", "0.5"];
    let refused = job.run("out.onnx", &other).exits(2);
    assert!(refused.stderr.contains("error[E0403]"), "{}", refused.stderr);
    assert!(refused.stderr.contains("`mean`"), "{}", refused.stderr);
}

/// A run that is killed at any moment goes on and ends in the same bytes; what is there of its
/// folder is whole.
#[test]
fn twenty_kills_change_nothing() {
    const KILLS: u32 = 20;
    let job = Job::new();
    let run = job.path("run");
    let settings = ["--steps", "60", "--eval-data", TEST, "--eval-every", "15", "--keep", "best"];
    let settings = [&settings[..], &["--ema", "0.9", "--no-verify"]].concat();
    let start = Instant::now();
    job.run("whole.onnx", &settings).success();
    let usual = start.elapsed();
    let whole = fs::read(job.path("whole.onnx")).unwrap();
    let arguments = job.arguments(
        "out.onnx",
        &[&settings[..], &["--checkpoint-every", "2", "--run", &run]].concat(),
    );
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = job.path("out.onnx");
    let mut resumed = 0;
    for kill in 0..KILLS {
        if Path::new(&output).exists() {
            assert!(fs::read(&output).unwrap() == whole, "before kill {kill}");
            fs::remove_file(&output).unwrap();
            fs::remove_dir_all(&run).unwrap();
        }
        let last = Path::new(&run).join("last.safetensors");
        resumed += u32::from(last.exists());
        let mut child = command(&arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Spread over the length of a run without kills, in an order that jumps about.
        std::thread::sleep(usual.mul_f64(f64::from(kill * 7 % KILLS + 1) / f64::from(KILLS)));
        child.kill().unwrap();
        child.wait().unwrap();
        for name in ["last.safetensors", "best.safetensors"] {
            let path = Path::new(&run).join(name);
            if path.exists() {
                candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(resumed > 0, "no process lived long enough to write a checkpoint");
    if !Path::new(&output).exists() {
        kerf(&arguments).success();
    }
    assert!(fs::read(&output).unwrap() == whole);
}

/// As after an interruption between writing the output and checking it.
#[test]
fn the_same_command_replaces_its_own_output_and_no_other() {
    let job = Job::new();
    let (run, output) = (job.path("run"), job.path("out.onnx"));
    let arguments = job.arguments("out.onnx", &["--steps", "3", "--run", &run]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    kerf(&arguments).success();
    let whole = fs::read(&output).unwrap();
    kerf(&arguments).success();
    assert!(fs::read(&output).unwrap() == whole);
    fs::write(&output, "of the user").unwrap();
    let refused = kerf(&arguments).exits(2);
    assert!(refused.stderr.starts_with("error[E0020]: "), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&output).unwrap(), "of the user");
}

/// What would fail at the end of a run is refused at its beginning.
#[test]
fn held_out_samples_and_batches_are_checked_first() {
    let job = Job::new();
    let images = job.path("images-idx3-ubyte.gz");
    fs::copy(common::root().join(TEST), &images).unwrap();
    let error = |more: &[&str]| {
        let run = job.run("out.onnx", &[more, &["--steps", "2"]].concat()).exits(2);
        assert!(!Path::new(&job.path("out.onnx")).exists());
        run.stderr
    };
    let stderr = error(&["--eval-data", &images]);
    assert!(stderr.starts_with("error[E0207]: the held-out samples have no labels"), "{stderr}");
    assert!(stderr.contains("--eval-labels"), "{stderr}");
    let stderr = error(&["--optimizer", "adamw", "--momentum", "0.5"]);
    assert!(stderr.starts_with("error[E0406]: AdamW has no momentum"), "{stderr}");
    let model = job.path("tiny.onnx");
    common::changed(&model, Path::new(&model), |graph| common::fix_batch(graph, 40));
    let stderr = error(&["--samples", "30"]);
    assert!(stderr.starts_with("error[E0205]: the model takes batches of 40"), "{stderr}");
}

/// Other held-out labels would judge the evaluations of before by other answers.
#[test]
fn held_out_labels_are_part_of_a_run() {
    let job = Job::new();
    let (images, labels) = (job.path("images-idx3-ubyte.gz"), job.path("labels.npy"));
    fs::copy(common::root().join(TEST), &images).unwrap();
    let write = |label: u8| {
        let head = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000,), }";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(118_u16.to_le_bytes());
        bytes.extend(format!("{head:<117}\n").bytes());
        bytes.extend([label; 1000]);
        fs::write(&labels, bytes).unwrap();
    };
    let run = job.path("run");
    let more = ["--steps", "2", "--eval-data", &images, "--eval-labels", &labels, "--run", &run];
    write(1);
    job.run("out.onnx", &more).success();
    write(2);
    let refused = job.run("out.onnx", &more).exits(2);
    assert!(refused.stderr.contains("`eval_labels`"), "{}", refused.stderr);
}

#[cfg(unix)]
#[test]
fn control_c_writes_a_checkpoint_and_says_how_to_go_on() {
    let job = Job::new();
    let run = job.path("run");
    // Long enough that no machine finishes it before the signal.
    let arguments = job.arguments("out.onnx", &["--steps", "1000000", "--run", &run]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let child = command(&arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !Path::new(&run).join("journal.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("error[E0130]: interrupted"), "{stderr}");
    assert!(stderr.contains("go on with\n  kerf train "), "{stderr}");
    assert!(Path::new(&run).join("last.safetensors").exists());
    assert!(!Path::new(&job.path("out.onnx")).exists());
}

/// candle keeps threads of its own, which one thread asked for must not add to.
#[cfg(target_os = "linux")]
#[test]
fn one_thread_is_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let mut arguments = vec!["train", VGG, "--data", TEST, "--preprocess", PREPROCESS];
    arguments.extend(["-o", output.to_str().unwrap(), "--batch", "64", "--steps", "3"]);
    arguments.extend(["--lr", "0.001", "--threads", "1", "--no-verify"]);
    let mut child = command(&arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut names = std::collections::BTreeSet::new();
    while child.try_wait().unwrap().is_none() {
        let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
        for task in tasks.into_iter().flatten().flatten() {
            names.extend(fs::read_to_string(task.path().join("comm")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success() && output.exists());
    assert!(!names.is_empty());
    assert!(!names.iter().any(|name| name.starts_with("candle")), "{names:?}");
}
