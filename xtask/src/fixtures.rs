//! Makes files under fixtures/ again from their sources.

use crate::data;
use crate::step::say;
use anyhow::{Context, Result};
use clap::Subcommand;
use std::fs;
use std::path::{Path, PathBuf};

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
        Fixture::Models { from } => models(from, Path::new("fixtures/models")),
    }
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
