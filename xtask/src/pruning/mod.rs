//! What the parts of pruning gain, and what it does to real networks.

mod crops;
mod parts;

use crate::fashion_mnist::FashionMnist;
use crate::step::run_cargo;
use anyhow::Result;
use std::path::PathBuf;

/// Models and data.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// Folder with real networks, such as `efficientnet_lite0.onnx`; without it only the fixtures are
    /// pruned
    #[arg(long, requires = "crops")]
    models: Option<PathBuf>,
    /// Folder with crops of photographs in `calibration` and `evaluation`
    #[arg(long)]
    crops: Option<PathBuf>,
}

/// Runs all and writes the tables.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    parts::run(&options.data)?;
    if let (Some(models), Some(crops)) = (&options.models, &options.crops) {
        crops::run(models, crops)?;
    }
    Ok(())
}
