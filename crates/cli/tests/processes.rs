//! A command that was started several times does not do its work several times.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, TRAIN, VGG, command, finish};

const LAUNCHERS: [[&str; 2]; 2] =
    [["OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"], ["PMI_SIZE", "PMI_RANK"]];

#[test]
fn what_processes_cannot_share_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let output = output.to_str().unwrap();
    let data = ["--data", TRAIN, "--preprocess", PREPROCESS, "--samples", "8"];
    let commands: [(&[&str], &str); 3] = [
        (&["prune", VGG, "-o", output, "--macs", "50%"], "`kerf prune` was started as 2 processes"),
        (&["quantize", VGG, "-o", output], "`kerf quantize` was started as 2 processes"),
        // Without an MPI library behind it there is nobody to share with.
        (&["sparsify", VGG, "-o", output, "--sparsity", "50%"], "2 processes were started, but "),
    ];
    for [size, rank] in LAUNCHERS {
        for (arguments, message) in commands {
            let arguments = [arguments, &data].concat();
            let mut command = command(&arguments);
            let run = finish(command.env(size, "2").env(rank, "0")).exits(2);
            assert!(run.stderr.contains(&format!("error[E0620]: {message}")), "{}", run.stderr);
            assert!(!std::path::Path::new(output).exists());
        }
    }
}

#[test]
fn one_process_of_a_launcher_works_alone() {
    for [size, rank] in LAUNCHERS {
        let mut command = command(&["inspect", VGG]);
        let run = finish(command.env(size, "1").env(rank, "0")).success();
        assert!(run.stdout.contains("vgg7_fmnist_folded.onnx"), "{}", run.stdout);
    }
}

/// Of several processes one speaks.
#[test]
fn other_processes_are_silent_about_usage() {
    for (arguments, code) in [(["prune", "--unknown"], 2), (["prune", "--help"], 0)] {
        let mut command = command(&arguments);
        let run = finish(command.env("PMI_SIZE", "2").env("PMI_RANK", "1")).exits(code);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    }
}
