//! Runs the built binary as a user would.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tensor_core::graph::{Dim, Graph};
use tensor_core::onnx;

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    fn new(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Asserts exit code 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Asserts an exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in stdout:\n{}", self.stdout))
    }
}

/// The command, with an environment that does not depend on the machine.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kerf"));
    command
        .args(arguments)
        .current_dir(root())
        .env_remove("KERF_THREADS")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    command
}

/// Runs the binary in the workspace folder.
pub fn kerf(arguments: &[&str]) -> Run {
    Run::new(&command(arguments).output().unwrap())
}

/// Runs a prepared command.
pub fn finish(command: &mut Command) -> Run {
    Run::new(&command.output().unwrap())
}

/// The workspace folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Replaces what differs from run to run.
pub fn normalised(text: &str, folder: &Path) -> String {
    text.replace(&folder.display().to_string(), "FOLDER")
}

/// A trained fixture network.
pub const RESNET: &str = "fixtures/models/resnet20_fmnist_folded.onnx";
/// Another one.
pub const VGG: &str = "fixtures/models/vgg7_fmnist_folded.onnx";
/// Unlabelled training images.
pub const TRAIN: &str = "fixtures/data/train-1k-images-idx3-ubyte.gz";
/// Labelled test images.
pub const TEST: &str = "fixtures/data/t10k-1k-images-idx3-ubyte.gz";
/// How both are normalised.
pub const PREPROCESS: &str = "fixtures/preprocess/fmnist.json";

/// Writes a changed copy of a model.
pub fn changed(model: &str, path: &Path, change: impl FnOnce(&mut Graph)) {
    let mut graph = onnx::read(&root().join(model)).unwrap();
    change(&mut graph);
    onnx::write(&graph, path).unwrap();
}

/// Fixes the batch of the model's input.
pub fn fix_batch(graph: &mut Graph, batch: usize) {
    let input = graph.inputs[0];
    let mut declared = graph.declared(input).unwrap().clone();
    declared.dims.as_mut().unwrap()[0] = Dim::Known(batch);
    graph.declare(input, Some(declared));
}
