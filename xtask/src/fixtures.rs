//! Makes files under fixtures/ again from their sources.

use crate::data;
use crate::step::{run_cargo, say, succeed};
use anyhow::Result;
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
    /// The trained networks, as trained and with BatchNormalization folded
    Models {
        /// The folder that they were trained into
        #[arg(long, default_value = "target/fixtures")]
        from: PathBuf,
    },
}

/// Network, epochs and peak learning rate; fixtures/models/README.md says the rest.
const NETWORKS: [(&str, &str, &str); 2] = [("vgg7", "6", "0.15"), ("resnet20", "11", "0.3")];

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

/// Copies each trained network, and writes it with BatchNormalization folded beside it.
fn models(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for (network, ..) in NETWORKS {
        let trained = onnx::read(&from.join(file(network, "bn")))?;
        let folded = rewrite::apply(&trained, &rewrite::fold_batch_norm(&trained)?)?;
        for (form, graph) in [("bn", &trained), ("folded", &folded)] {
            let target = to.join(file(network, form));
            onnx::write(graph, &target)?;
            say(&target.display().to_string());
        }
    }
    Ok(())
}

/// Trains each network from random weights.
fn train(from: &Path, to: &Path) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    fs::create_dir_all(to)?;
    for (network, epochs, rate) in NETWORKS {
        let mut command = Command::new("target/release/kerf");
        command.arg("train").arg(Path::new("fixtures/models").join(file(network, "bn")));
        command.args(["--reinit", "--epochs", epochs, "--lr", rate, "--flip", "--shift", "2"]);
        command.args(["--preprocess", "fixtures/preprocess/fmnist.json", "--force"]);
        command.arg("--data").arg(from.join("train-images-idx3-ubyte.gz"));
        command.arg("--eval-data").arg(from.join("t10k-images-idx3-ubyte.gz"));
        succeed(command.arg("-o").arg(to.join(file(network, "bn"))))?;
    }
    Ok(())
}

/// The name of a network's file: `bn` as trained, `folded` without BatchNormalization.
fn file(network: &str, form: &str) -> String {
    format!("{network}_fmnist_{form}.onnx")
}
