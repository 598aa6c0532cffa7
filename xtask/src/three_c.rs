//! Factorization and channel pruning under one budget, against each alone.

use crate::fashion_mnist::FashionMnist;
use crate::finetune::proved;
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Instant;

const MODELS: [&str; 3] = ["vgg7_fmnist_bn", "vgg7_fmnist_folded", "resnet20_fmnist_bn"];

/// Shares of the multiply-accumulates that stay: 4 and 5 times fewer, as in table 2 of the paper.
const SHARES: [&str; 2] = ["25%", "20%"];

/// Heading, command and flags. Counts are not rounded, so that only the methods differ.
const METHODS: [(&str, &[&str]); 3] = [
    ("channel pruning", &["prune", "--round-to", "1"]),
    ("factorization", &["factor"]),
    ("3C", &["factor", "--prune", "--round-to", "1"]),
];

/// Runs all and writes the table.
pub(crate) fn run(data: &FashionMnist) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut table = String::from(
        "Written by `cargo xtask three-c`: 1,000 training images, no labels, no training. Top-1 on the 10,000 test\n\
         images, in brackets the multiply-accumulates that remain and the seconds of the whole command.\n\n\
         | model | dense | MACs kept |",
    );
    for (heading, _) in METHODS {
        table.push_str(&format!(" {heading} |"));
    }
    table.push_str(&format!("\n|---|---|---|{}\n", "---|".repeat(METHODS.len())));
    for model in MODELS {
        for share in SHARES {
            let mut cells = String::new();
            let mut dense = String::new();
            for (_, flags) in METHODS {
                let (before, cell) = measure(data, model, share, flags)?;
                dense = before;
                cells.push_str(&format!(" {cell} |"));
            }
            let row = format!("| {model} | {dense} | {share} |{cells}");
            say(&row);
            table.push_str(&format!("{row}\n"));
        }
    }
    section::write("benches/pruning.md", "three-c", &table)
}

/// Accuracy before, and the cell of one run.
fn measure(
    data: &FashionMnist,
    model: &str,
    share: &str,
    flags: &[&str],
) -> Result<(String, String)> {
    let path = format!("fixtures/models/{model}.onnx");
    let mut command = kerf::command(&[flags[0], &path]);
    command.args(&flags[1..]).args(["--macs", share, "--no-bench", "-o", "target/three_c.onnx"]);
    let start = Instant::now();
    let document = kerf::run(data.calibrates(&mut command))?;
    let seconds = start.elapsed().as_secs_f64();
    let (before, after) = proved(&document)?;
    let cell = format!("{after:.2} ({:.1} %, {seconds:.0} s)", 100.0 * kept(&document)?);
    Ok((format!("{before:.2}"), cell))
}

/// The share of the multiply-accumulates that is left.
pub(crate) fn kept(document: &Value) -> Result<f64> {
    let macs = |side: &str| document["result"]["sizes"][side]["macs"].as_f64();
    let kept = macs("after").zip(macs("before")).map(|(after, before)| after / before);
    kept.context("the report has no sizes")
}
