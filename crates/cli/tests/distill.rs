//! `kerf distill`, and `kerf finetune --teacher`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{VGG, kerf};
use std::fs;
use std::path::Path;

const DATA: &str = "fixtures/data/train-1k-images-idx3-ubyte.gz";
const PREPROCESS: &str = "fixtures/preprocess/fmnist.json";

fn student(folder: &Path) -> String {
    let path = folder.join("student.onnx").display().to_string();
    let size = ["--input", "1x28x28", "--width", "0.25"];
    kerf(&[&["new", "lenet"][..], &size, &["-o", &path]].concat()).success();
    path
}

/// What all runs have in common.
const RUN: [&str; 10] = [
    "--preprocess",
    PREPROCESS,
    "--samples",
    "200",
    "--batch",
    "50",
    "--lr",
    "0.02",
    "--steps",
    "8",
];

#[test]
fn distilling_works_with_labels_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let student = student(folder.path());
    let images = path("images-idx3-ubyte.gz");
    fs::copy(common::root().join(DATA), &images).unwrap();
    let models = ["--teacher", VGG, "--student", &student, "--json"];
    let distill = |data: &str, output: &str, more: &[&str]| {
        let files = ["--data", data, "-o", output];
        kerf(&[&["distill"][..], &models, &files, &RUN, more].concat())
    };

    let with = distill(DATA, &path("with.onnx"), &["--temperature", "2"]).success().json();
    let told = &with["result"]["distillation"];
    assert_eq!(told["hard_weight"], 0.1);
    assert_eq!(told["loss"]["name"], "soft-targets");
    assert_eq!(told["teachers"][0]["path"], VGG);
    assert!(told["teachers"][0]["top1"].is_null(), "there are no held-out samples");

    let held_out = ["--eval-data", "fixtures/data/t10k-1k-images-idx3-ubyte.gz"];
    let judged = distill(DATA, &path("judged.onnx"), &held_out).success().json();
    let top1 = judged["result"]["distillation"]["teachers"][0]["top1"].as_f64().unwrap();
    let evaluated = kerf(&[&["eval", VGG, "--json", "--data", held_out[1]], &RUN[..2]].concat());
    assert_eq!(top1, evaluated.success().json()["result"]["accuracy"]["top1"].as_f64().unwrap());

    let without = distill(&images, &path("without.onnx"), &["--clip-norm", "1"]).success().json();
    assert_eq!(without["result"]["distillation"]["hard_weight"], 0.0);
    let run = distill(&images, &path("no.onnx"), &["--hard-weight", "0.5"]).exits(2);
    assert_eq!(run.json()["error"]["code"], "E0422");
    let run = distill(&images, &path("no.onnx"), &["--kd-loss", "dkd"]).exits(2);
    assert_eq!(run.json()["error"]["code"], "E0422");
    assert!(!Path::new(&path("no.onnx")).exists());

    // The same loop under its other name, which shortens gradients, gives the same weights where
    // the network stays as it is.
    let output = path("finetuned.onnx");
    let files = ["--data", &images, "-o", &output, "--json", "--batch-norm", "keep"];
    let finetune = [&["finetune", &student, "--teacher", VGG][..], &files, &RUN].concat();
    let again = kerf(&finetune).success().json();
    assert_eq!(again["result"]["training"]["points"], without["result"]["training"]["points"]);
}

/// Inputs that have other names belong together by their position, when the teacher is judged too.
#[test]
fn a_teacher_may_name_its_input_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let student = student(folder.path());
    let [teacher, output] =
        ["teacher.onnx", "out.onnx"].map(|name| folder.path().join(name).display().to_string());
    common::changed(VGG, Path::new(&teacher), |graph| {
        let old = graph.inputs[0];
        let new = graph.value("picture");
        graph.declare(new, graph.declared(old).cloned());
        graph.inputs[0] = new;
        graph.nodes[0].inputs[0] = Some(new);
    });
    let models = ["distill", "--teacher", &teacher, "--student", &student, "--json"];
    let data = ["--data", DATA, "--eval-data", DATA, "-o", &output];
    let document = kerf(&[&models[..], &data, &RUN].concat()).success().json();
    let top1 = &document["result"]["distillation"]["teachers"][0]["top1"];
    assert!(top1.as_f64().unwrap() > 0.9, "{top1}");
}

#[test]
fn features_and_ensembles_are_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let student = student(folder.path());
    let output = folder.path().join("out.onnx").display().to_string();
    let resnet = "fixtures/models/resnet20_fmnist_bn.onnx";
    let arguments = |feature: &'static str| {
        let models = ["--student", &student, "--teacher", VGG, "--teacher", resnet];
        let mean = ["--teacher-mean", "geometric", "--teacher-weights", "1,2"];
        let pair = ["--feature", feature, "--feature-loss", "attention:weight=10"];
        let files = ["--data", DATA, "-o", &output, "--json"];
        kerf(&[&["distill"][..], &models, &mean, &pair, &files, &RUN].concat())
    };
    let document = arguments("pool2=/layers/layers.8/relu2/Relu_output_0").success().json();
    assert_eq!(document["result"]["distillation"]["features"][0]["student"], "pool2");
    assert!(document["result"]["verified"]["engine"].is_string());
    fs::remove_file(&output).unwrap();
    let run = arguments("pool2=/layers/layers.8").exits(2);
    assert_eq!(run.json()["error"]["code"], "E0407");
}

#[test]
fn wrong_arguments_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let student = student(folder.path());
    let output = folder.path().join("out.onnx").display().to_string();
    let base = ["distill", "--student", &student, "--data", DATA, "-o", &output];
    let with = |more: &[&str]| kerf(&[&base[..], &RUN, more].concat()).exits(2).stderr;
    assert!(with(&[]).contains("--teacher"));
    assert!(with(&["--teacher", VGG, "--kd-loss", "magic"]).contains("soft-targets"));
    assert!(with(&["--teacher", VGG, "--temperature", "0"]).contains("E0421"));
    assert!(with(&["--teacher", VGG, "--hard-weight", "2"]).contains("E0421"));
    assert!(with(&["--teacher", VGG, "--feature", "pool1"]).contains("--feature"));
    // The teacher is an input, and inputs are never overwritten.
    let copy = folder.path().join("teacher.onnx").display().to_string();
    fs::copy(common::root().join(VGG), &copy).unwrap();
    let files = ["distill", "--student", &student, "--data", DATA, "-o", &copy, "--force"];
    let run = kerf(&[&files[..], &RUN, &["--teacher", &copy]].concat()).exits(2);
    assert!(run.stderr.contains("E0021"), "{}", run.stderr);
}
