//! Makes files under fixtures/ again from their sources.

use crate::data;
use crate::step::{run_cargo, say, succeed};
use anyhow::{Context, Result};
use clap::Subcommand;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tensor_core::{onnx, rewrite};

/// What can be made.
#[derive(Subcommand)]
pub(crate) enum Fixture {
    /// The Fashion-MNIST excerpt, from the folder with the full set
    Data {
        /// Where the Debian package `dataset-fashion-mnist` puts it
        #[arg(long, default_value = "/usr/share/datasets/fashion-mnist")]
        from: PathBuf,
        /// Target folder
        #[arg(long, default_value = "fixtures/data")]
        to: PathBuf,
    },
    /// The networks, trained anew by `kerf train`: some 25 minutes on two cores
    Train {
        /// Where the Debian package `dataset-fashion-mnist` puts the images
        #[arg(long, default_value = "/usr/share/datasets/fashion-mnist")]
        from: PathBuf,
        /// Target folder
        #[arg(long, default_value = "target/fixtures")]
        to: PathBuf,
    },
    /// PyTorch's gradients, optimizer steps and losses; needs the feature `tch`
    Gradients {
        /// Target folder
        #[arg(long, default_value = "fixtures/train")]
        to: PathBuf,
    },
    /// The trained networks
    Models {
        /// The folder that they were trained into
        #[arg(long, env = "KERF_MODELS", default_value = "../shared/models")]
        from: PathBuf,
    },
}

/// Networks trained for this project; fixtures/models/README.md says how.
const MODELS: [&str; 4] = [
    "vgg7_fmnist_bn.onnx",
    "vgg7_fmnist_folded.onnx",
    "resnet20_fmnist_bn.onnx",
    "resnet20_fmnist_folded.onnx",
];

/// Makes one kind of fixture.
pub(crate) fn run(fixture: &Fixture) -> Result<()> {
    match fixture {
        Fixture::Data { from, to } => data::excerpt(from, to),
        Fixture::Train { from, to } => train(from, to),
        Fixture::Gradients { to } => gradients(to),
        Fixture::Models { from } => models(from, Path::new("fixtures/models")),
    }
}

#[cfg(feature = "tch")]
fn gradients(to: &Path) -> Result<()> {
    crate::gradients::run(to)
}

#[cfg(not(feature = "tch"))]
fn gradients(_to: &Path) -> Result<()> {
    anyhow::bail!(
        "this build has no libtorch: make its folder as fixtures/train/README.md says, then \
         `cargo run --package xtask --features tch -- fixtures gradients`"
    )
}

fn models(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for model in MODELS {
        let source = from.join(model);
        let bytes = fs::read(&source).with_context(|| format!("reading {}", source.display()))?;
        let target = to.join(model);
        fs::write(&target, bytes).with_context(|| format!("writing {}", target.display()))?;
        say(&target.display().to_string());
    }
    Ok(())
}

/// Trains each network from random weights, and writes it as trained and with BatchNormalization
/// folded.
fn train(from: &Path, to: &Path) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    fs::create_dir_all(to)?;
    for (name, epochs, rate) in [("vgg7", "6", "0.15"), ("resnet20", "11", "0.3")] {
        let output = to.join(format!("{name}_fmnist_bn.onnx"));
        let mut command = Command::new("target/release/kerf");
        command.arg("train").arg(format!("fixtures/models/{name}_fmnist_bn.onnx"));
        command.args(["--reinit", "--epochs", epochs, "--lr", rate, "--flip", "--shift", "2"]);
        command.args(["--preprocess", "fixtures/preprocess/fmnist.json", "--force"]);
        command.arg("--data").arg(from.join("train-images-idx3-ubyte.gz"));
        command.arg("--eval-data").arg(from.join("t10k-images-idx3-ubyte.gz"));
        succeed(command.arg("-o").arg(&output))?;
        let graph = onnx::read(&output)?;
        let folded = rewrite::apply(&graph, &rewrite::fold_batch_norm(&graph)?)?;
        onnx::write(&folded, &to.join(format!("{name}_fmnist_folded.onnx")))?;
    }
    Ok(())
}
