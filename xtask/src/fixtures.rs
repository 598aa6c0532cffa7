//! Makes the files under fixtures/ again from their sources.

use crate::step::say;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Networks trained for this project; fixtures/README.md says how.
const MODELS: [&str; 4] = [
    "vgg7_fmnist_bn.onnx",
    "vgg7_fmnist_folded.onnx",
    "resnet20_fmnist_bn.onnx",
    "resnet20_fmnist_folded.onnx",
];

/// Copies the trained networks; `KERF_MODELS` names their folder, else it is beside the checkout.
pub(crate) fn run() -> Result<()> {
    let from = std::env::var_os("KERF_MODELS")
        .map_or_else(|| PathBuf::from("../shared/models"), PathBuf::from);
    let to = Path::new("fixtures/models");
    fs::create_dir_all(to)?;
    for model in MODELS {
        let source = from.join(model);
        let bytes = fs::read(&source).with_context(|| format!("reading {}", source.display()))?;
        fs::write(to.join(model), bytes)?;
        say(&format!("{}", to.join(model).display()));
    }
    Ok(())
}
