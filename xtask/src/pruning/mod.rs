//! What the parts of pruning gain, and what it does to real networks.

mod crops;
mod latency;
mod parts;

use crate::fashion_mnist::FashionMnist;
use crate::step::run_cargo;
use anyhow::{Result, bail};
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
    /// The same with text on them, as `benches/python/text_crops.py` makes it
    #[arg(long, requires = "crops")]
    text: Option<PathBuf>,
    /// Tables to write
    #[arg(long, value_delimiter = ',', default_value = "parts,latency,models")]
    only: Vec<String>,
}

/// Runs all and writes the tables.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let real = options.models.as_deref().zip(options.crops.as_deref());
    for table in &options.only {
        match (table.as_str(), real) {
            ("parts", _) => parts::run(&options.data)?,
            ("latency", _) => latency::run(&options.data, real)?,
            ("models", Some((models, crops))) => {
                crops::run(models, crops, options.text.as_deref().unwrap_or(crops))?;
            }
            ("models", None) => {}
            _ => bail!("there is no table `{table}`: parts, latency, models"),
        }
    }
    Ok(())
}
