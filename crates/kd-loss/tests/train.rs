//! The plug-in in the training loop.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, reason = "tests")]

use kd_loss::Mean;
use kd_loss::train::{DistillParams, Distiller, FeatureTerm};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tensor_core::data::{self, Dataset, InputSpec, Options, Preprocess};
use tensor_core::group::Group;
use tensor_core::journal::Identity;
use tensor_core::progress::{Progress, Silent};
use tensor_core::run::Session;
use tensor_core::train::{Augment, Job, Length, Params, Plugin, Trained, train};
use tensor_core::{ErrorKind, Graph, Result, onnx, zoo};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn network(name: &str, classes: usize, width: f64, seed: u64) -> Graph {
    let input = Some([1, 28, 28]);
    let options = zoo::Options { classes, input, width, seed, ..zoo::Options::default() };
    zoo::architecture(name).unwrap().build(&options).unwrap()
}

fn teacher() -> Graph {
    onnx::read(&fixture("models/vgg7_fmnist_bn.onnx")).unwrap()
}

/// Images of Fashion-MNIST, with their labels or without.
fn images(labelled: bool) -> Dataset {
    let preprocess = Preprocess::read(&fixture("preprocess/fmnist.json")).unwrap();
    let inputs = InputSpec::of(&teacher());
    let options = Options { preprocess, inputs, ..Options::default() };
    let path = fixture("data/train-1k-images-idx3-ubyte.gz");
    if labelled {
        return data::open(&path, &options).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("images-idx3-ubyte.gz");
    std::fs::copy(path, &alone).unwrap();
    let set = data::open(&alone, &options).unwrap();
    assert!(!set.has_labels());
    set
}

fn params(steps: u64) -> Params {
    let augment = Augment { flip: true, shift: 1 };
    Params { length: Length::Steps(steps), batch: 50, rate: 0.02, augment, ..Params::default() }
}

fn run(
    student: &Graph,
    set: &Dataset,
    params: &Params,
    distiller: Distiller,
    (folder, progress): (Option<&Path>, &dyn Progress),
) -> Result<Trained> {
    let mut plugins: Vec<Box<dyn Plugin>> = vec![Box::new(distiller)];
    train(Job {
        graph: student,
        data: set,
        evaluation: None,
        params,
        plugins: &mut plugins,
        folder,
        identity: Identity::new(),
        progress,
        group: Group::alone(),
    })
}

/// Share of samples for which two networks name the same class.
fn agreement(a: &Graph, b: &Graph, set: &Dataset) -> f64 {
    let batch = set.batch(0..set.len()).unwrap();
    let classes = |graph: &Graph| -> Vec<u32> {
        let outputs =
            Session::new(graph).unwrap().run_one(batch.single().unwrap().clone()).unwrap();
        outputs[0].tensor.argmax(1).unwrap().to_vec1().unwrap()
    };
    let (a, b) = (classes(a), classes(b));
    a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64
}

#[test]
fn a_teacher_alone_is_enough() {
    let set = images(false).first(500);
    let student = network("lenet", 10, 0.5, 3);
    let distill = DistillParams { hard_weight: 0.0, ..DistillParams::default() };
    let distiller = Distiller::new(distill, vec![teacher()]).unwrap();
    let trained = run(&student, &set, &params(80), distiller, (None, &Silent)).unwrap();
    let before = agreement(&student, &teacher(), &set);
    let after = agreement(&trained.graph, &teacher(), &set);
    // Chance is 0.1; the margin is far beyond what eight epochs scatter.
    assert!(before < 0.4 && after > 0.6, "{before} to {after}");
}

/// Labels, two teachers, and features through every kind of loss.
fn everything() -> Distiller {
    let feature = |student: &str, teacher: &str, loss: &str| FeatureTerm {
        student: student.to_owned(),
        teacher: teacher.to_owned(),
        loss: loss.parse().unwrap(),
    };
    let distill = DistillParams {
        logits: "dkd:beta=1,temperature=2".parse().unwrap(),
        hard_weight: 0.3,
        mean: Mean::Geometric,
        teacher_weights: vec![2.0, 1.0],
        features: vec![
            feature("pool1", "/features/features.6/MaxPool_output_0", "hint:weight=0.1"),
            feature("pool2", "layer3.2", "attention:weight=1"),
            feature("fc1.relu", "/flat/Flatten_output_0", "relational:angle=1,weight=0.1"),
        ],
        seed: 5,
        ..DistillParams::default()
    };
    let second = network("resnet20", 10, 0.5, 9);
    Distiller::new(distill, vec![teacher(), second]).unwrap()
}

/// Asks to stop after some steps.
struct StopAfter {
    steps: usize,
    seen: AtomicUsize,
}

impl Progress for StopAfter {
    fn advance(&self, items: usize, _state: &str) {
        self.seen.fetch_add(items, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.seen.load(Ordering::Relaxed) >= self.steps
    }
}

#[test]
fn an_interrupted_run_gives_the_same_bytes() {
    let set = images(true).first(200);
    let student = network("lenet", 10, 0.25, 3);
    let params = Params { batch: 20, ..params(12) };
    let whole = run(&student, &set, &params, everything(), (None, &Silent)).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let stop = StopAfter { steps: 7, seen: AtomicUsize::new(0) };
    let stopped = run(&student, &set, &params, everything(), (Some(folder.path()), &stop));
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
    let rest = run(&student, &set, &params, everything(), (Some(folder.path()), &Silent)).unwrap();
    assert_eq!(rest.report.resumed_from, Some(7));
    assert!(onnx::encode(&whole.graph).unwrap() == onnx::encode(&rest.graph).unwrap());
    assert_ne!(onnx::encode(&whole.graph).unwrap(), onnx::encode(&student).unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let code = |distill: DistillParams, teachers: Vec<Graph>, student: &Graph, labelled| {
        let distiller = match Distiller::new(distill, teachers) {
            Ok(distiller) => distiller,
            Err(error) => return error.code(),
        };
        let set = images(labelled).first(50);
        run(student, &set, &params(1), distiller, (None, &Silent)).unwrap_err().code()
    };
    let student = network("lenet", 10, 0.25, 1);
    let preset = DistillParams::default;
    let pair = |student: &str, teacher: &str, loss: &str| DistillParams {
        features: vec![FeatureTerm {
            student: student.to_owned(),
            teacher: teacher.to_owned(),
            loss: loss.parse().unwrap(),
        }],
        ..preset()
    };
    let features = "/features/features.6/MaxPool_output_0";
    for (expected, distill) in [
        ("E0421", DistillParams { hard_weight: 1.5, ..preset() }),
        ("E0421", DistillParams { hard_weight: f64::NAN, ..preset() }),
        ("E0421", DistillParams { teacher_weights: vec![1.0, 2.0], ..preset() }),
        ("E0421", DistillParams { logits: "hint".parse().unwrap(), ..preset() }),
        ("E0421", pair("pool1", features, "dkd")),
        ("E0407", pair("pool9", features, "hint")),
        ("E0407", pair("pool1", "nothing", "hint")),
    ] {
        assert_eq!(code(distill.clone(), vec![teacher()], &student, true), expected, "{distill:?}");
    }
    assert_eq!(code(preset(), vec![], &student, true), "E0420");
    assert_eq!(code(preset(), vec![network("lenet", 7, 0.25, 1)], &student, true), "E0420");
    // The same classes of other images.
    let input = Some([3, 28, 28]);
    let options = zoo::Options { classes: 10, input, width: 0.25, ..zoo::Options::default() };
    let colourful = zoo::architecture("lenet").unwrap().build(&options).unwrap();
    assert_eq!(code(preset(), vec![colourful], &student, true), "E0420");
    let needy = DistillParams { logits: "dkd".parse().unwrap(), hard_weight: 0.0, ..preset() };
    assert_eq!(code(needy, vec![teacher()], &student, false), "E0422");
    for wrong in ["magic", "dkd:delta=1", "dkd:beta", "dkd:temperature=0", "dkd:weight=-1"] {
        let error = wrong.parse::<kd_loss::train::Choice>().unwrap_err();
        assert_eq!(error.code(), "E0421", "{wrong}");
    }
}
