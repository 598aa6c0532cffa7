//! Pruning side by side with Torch-Pruning, at equal multiply-accumulates.

use crate::fashion_mnist::FashionMnist;
use crate::finetune::proved;
use crate::step::{run_cargo, say};
use crate::three_c::kept;
use crate::{kerf, section};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::Command;

/// Models and data.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// A Python with torch, torch-pruning and onnx
    #[arg(long, default_value = "python3")]
    python: String,
}

const NETWORKS: [&str; 2] = ["vgg7", "resnet20"];
const SHARES: [&str; 2] = ["0.5", "0.25"];
const CALIBRATION: &str = "fixtures/data/train-1k-images-idx3-ubyte.gz";

/// Runs both in turn and writes the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut table = String::from(
        "Written by `cargo xtask torch-prune`: the same 1,000 training images, no labels, no tuning; channel counts are\n\
         not rounded. Top-1 on the 10,000 test images, in brackets the multiply-accumulates that remain and the\n\
         seconds of pruning alone. Torch-Pruning: L2 norm over groups, local and global ranking, with BatchNormalization\n\
         re-estimated on the calibration images (before that in square brackets).\n\n\
         | network | dense | MACs kept | Torch-Pruning, local | Torch-Pruning, global | kerf prune |\n|---|---|---|---|---|---|\n",
    );
    for network in NETWORKS {
        for share in SHARES {
            let model = format!("fixtures/models/{network}_fmnist_bn.onnx");
            let mut row = String::new();
            for scope in ["local", "global"] {
                row.push_str(&format!(" {} |", theirs(options, &model, share, scope)?));
            }
            let (dense, cell) = ours(options, &model, share)?;
            let row = format!("| {network} | {dense:.2} | {share} |{row} {cell} |");
            say(&row);
            table.push_str(&format!("{row}\n"));
        }
    }
    section::write("benches/pruning.md", "torch-pruning", &table)
}

fn theirs(options: &Options, model: &str, share: &str, scope: &str) -> Result<String> {
    let mut command = Command::new(&options.python);
    command.args(["benches/python/torch_prune.py", model, CALIBRATION]).arg(options.data.test());
    command.arg(options.data.test_labels()).args([share, scope]);
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let number = |key: &str| found[key].as_f64().with_context(|| format!("no {key}"));
    Ok(format!(
        "{:.2} [{:.2}] ({:.1} %, {:.1} s)",
        100.0 * number("re_estimated")?,
        100.0 * number("plain")?,
        100.0 * number("macs")?,
        number("seconds")? + number("re_estimation_seconds")?
    ))
}

fn ours(options: &Options, model: &str, share: &str) -> Result<(f64, String)> {
    let percent = format!("{}%", 100.0 * share.parse::<f64>()?);
    let mut command = kerf::command(&["prune", model]);
    command.args(["--macs", &percent, "--round-to", "1", "--no-bench"]);
    command.args(["-o", "target/torch_prune.onnx"]);
    let document = kerf::run(options.data.calibrates(&mut command))?;
    let (before, after) = proved(&document)?;
    let seconds = document["result"]["seconds"].as_f64().context("no seconds")?;
    let cell = format!("{after:.2} ({:.1} %, {seconds:.1} s)", 100.0 * kept(&document)?);
    Ok((before, cell))
}
