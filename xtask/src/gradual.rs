//! Zeros that come while the network trains on, taught by what it was (Zhu and Gupta 2017).

use crate::fashion_mnist::FashionMnist;
use crate::finetune::{accuracy, summary};
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::Result;

const NETWORKS: [&str; 2] = ["resnet20", "vgg7"];
const SPARSITIES: [&str; 2] = ["80%", "90%"];
const DISTRIBUTIONS: [&str; 2] = ["uniform", "erk"];

/// Size of the experiment.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// Runs per row
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Number format of the products in convolutions, `f32` or `bf16`
    #[arg(long, default_value = "f32")]
    precision: String,
    /// Only networks whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

/// Trains and writes the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let Options { seeds, precision, only, .. } = options;
    let only_flag = if only.is_empty() { String::new() } else { format!(" --only {only}") };
    let mut table = format!(
        "Written by `cargo xtask gradual --precision {precision} --seeds {seeds}{only_flag}`: `kerf finetune --epochs 3 \
         --lr 0.05 --sparsity ...` on\nthe folded networks of the fixtures, each its own teacher. Top-1 on the 10,000 test \
         images for each seed; lost is what the mean has less than the original.\n\n\
         | network | original | zeros | `--distribution` | seeds | mean | spread | lost |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for network in NETWORKS.into_iter().filter(|name| name.contains(only)) {
        let model = format!("fixtures/models/{network}_fmnist_folded.onnx");
        let original = kerf::evaluate(&model, &options.data)?;
        for sparsity in SPARSITIES {
            for distribution in DISTRIBUTIONS {
                let zeros = ["--sparsity", sparsity, "--distribution", distribution];
                let found = (0..*seeds).map(|seed| train(options, &model, zeros, seed));
                let found = found.collect::<Result<Vec<_>>>()?;
                let lost = original - found.iter().sum::<f64>() / found.len().max(1) as f64;
                let results = summary(&found);
                let row = format!(
                    "| {network} | {original:.2} | {sparsity} | {distribution} | {results} | {lost:.2} |"
                );
                say(&row);
                table.push_str(&row);
                table.push('\n');
            }
        }
    }
    section::write("benches/sparsity.md", "gradual", &table)
}

/// Accuracy in percent.
fn train(options: &Options, model: &str, zeros: [&str; 4], seed: u64) -> Result<f64> {
    let seed = seed.to_string();
    let mut command = kerf::command(&["finetune", model, "--teacher", model, "--epochs", "3"]);
    command.args(["--lr", "0.05", "--seed", &seed]).args(zeros);
    command.args(["--precision", &options.precision, "-o", "target/gradual.onnx"]);
    accuracy(&kerf::run(options.data.trains(&mut command))?)
}
