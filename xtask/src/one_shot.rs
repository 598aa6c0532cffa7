//! Zeros without labels and without training: compensated, and by magnitude alone.

use crate::fashion_mnist::FashionMnist;
use crate::finetune::proved;
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::Result;

const NETWORKS: [&str; 2] = ["vgg7", "resnet20"];

/// Flags that say which weights become zero.
const ZEROS: [[&str; 2]; 5] = [
    ["--sparsity", "50%"],
    ["--sparsity", "70%"],
    ["--sparsity", "80%"],
    ["--pattern", "2:4"],
    ["--pattern", "1:4"],
];

/// Sparsifies and writes the table.
pub(crate) fn run(data: &FashionMnist) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut table = String::from(
        "Written by `cargo xtask one-shot`: `kerf sparsify` on the folded fixture models with 1,000 training images, no\n\
         labels, no training. Top-1 on the 10,000 test images.\n\n\
         | network | dense | zeros | `--method obs` | `--method magnitude` |\n|---|---|---|---|---|\n",
    );
    for network in NETWORKS {
        for zeros in ZEROS {
            let (dense, compensated) = sparsify(data, network, zeros, "obs")?;
            let (_, plain) = sparsify(data, network, zeros, "magnitude")?;
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
    data: &FashionMnist,
    network: &str,
    zeros: [&str; 2],
    method: &str,
) -> Result<(f64, f64)> {
    let model = format!("fixtures/models/{network}_fmnist_folded.onnx");
    let mut command = kerf::command(&["sparsify", &model, "--method", method]);
    command.args(zeros).args(["-o", "target/one_shot.onnx"]);
    proved(&kerf::run(data.calibrates(&mut command))?)
}
