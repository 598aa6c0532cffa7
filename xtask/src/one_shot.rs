//! Zeros without labels and without training: compensated, and by magnitude alone.

use crate::finetune::proved;
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::Result;
use std::path::PathBuf;

const NETWORKS: [&str; 2] = ["vgg7", "resnet20"];

/// Flags that say which weights become zero.
const ZEROS: [[&str; 2]; 5] = [
    ["--sparsity", "50%"],
    ["--sparsity", "70%"],
    ["--sparsity", "80%"],
    ["--pattern", "2:4"],
    ["--pattern", "1:4"],
];

/// Where the images are.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the Debian package `dataset-fashion-mnist` puts it
    #[arg(long, default_value = "/usr/share/datasets/fashion-mnist")]
    from: PathBuf,
}

/// Sparsifies and writes the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut table = String::from(
        "Written by `cargo xtask one-shot`: `kerf sparsify` on the folded fixture models with 1,000 training images, no\n\
         labels, no training. Top-1 on the 10,000 test images.\n\n\
         | network | dense | zeros | `--method obs` | `--method magnitude` |\n|---|---|---|---|---|\n",
    );
    for network in NETWORKS {
        for zeros in ZEROS {
            let (dense, compensated) = sparsify(options, network, zeros, "obs")?;
            let (_, plain) = sparsify(options, network, zeros, "magnitude")?;
            let row = format!(
                "| {network} | {dense:.2} | {} | {compensated:.2} | {plain:.2} |",
                zeros[1]
            );
            say(&row);
            table.push_str(&row);
            table.push('\n');
        }
    }
    section::write("benches/sparsity.md", "one-shot", &table)
}

/// Accuracy in percent before and after.
fn sparsify(
    options: &Options,
    network: &str,
    zeros: [&str; 2],
    method: &str,
) -> Result<(f64, f64)> {
    let model = format!("fixtures/models/{network}_fmnist_folded.onnx");
    let test = options.from.join("t10k-images-idx3-ubyte.gz").display().to_string();
    let mut command = kerf::command(&["sparsify", &model, "--method", method]);
    command.args(zeros).args(["--data", "fixtures/data/train-1k-images-idx3-ubyte.gz"]);
    command.args(["--preprocess", "fixtures/preprocess/fmnist.json", "--eval-data", &test]);
    proved(&kerf::run(command.args(["-o", "target/one_shot.onnx"]))?)
}
