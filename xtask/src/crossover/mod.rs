//! At which sparsity sparse convolutions beat dense ones here.

mod cases;
mod measure;
mod plot;
mod table;

use crate::step::say;
use anyhow::{Context, Result};
use cases::{PATTERNS, SHAPES};
use measure::Measured;
use std::fs;
use std::path::PathBuf;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where `sparse.md`, `sparse.csv` and `sparse.svg` go
    #[arg(long, default_value = "benches")]
    output: PathBuf,
    /// Sparsities in percent
    #[arg(long, value_delimiter = ',', default_value = "0,30,50,60,70,75,80,85,90,95,98,99")]
    sparsity: Vec<u32>,
    /// Only shapes whose name contains this; nothing is then written
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Pairs of dense and sparse runs per point
    #[arg(long, default_value_t = 9)]
    pairs: usize,
}

/// Measures all points and writes the table, the data and the plot.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut points = Vec::new();
    let only = options.only.as_deref().unwrap_or_default();
    for shape in SHAPES.iter().filter(|shape| shape.name.contains(only)) {
        for pattern in PATTERNS {
            for &sparsity in &options.sparsity {
                let sparsity = f64::from(sparsity.min(100)) / 100.0;
                let point = Measured::new(shape, pattern, sparsity, options.pairs)?;
                say(&point.text());
                points.push(point);
            }
        }
    }
    if options.only.is_some() {
        return Ok(());
    }
    let write = |name: &str, text: String| {
        let path = options.output.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write("sparse.csv", table::csv(&points))?;
    write("sparse.md", table::markdown(&points))?;
    write("sparse.svg", plot::svg(&points)?)
}
