//! Zeros that come while the network trains on, taught by what it was (Zhu and Gupta 2017).

use crate::fashion_mnist::FashionMnist;
use crate::finetune::{accuracy, summary};
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::Result;

const MODEL: &str = "fixtures/models/resnet20_fmnist_folded.onnx";
const SPARSITIES: [&str; 2] = ["80%", "90%"];

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
}

/// Trains and writes the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let Options { seeds, precision, .. } = options;
    let mut table = format!(
        "Written by `cargo xtask gradual --precision {precision} --seeds {seeds}`: `kerf finetune --epochs 3 --lr 0.05 \
         --sparsity ...` on\nthe folded resnet20 of the fixtures, which is the teacher too. Top-1 on the 10,000 test \
         images for each seed; lost is what the mean has less than the original.\n\n\
         | zeros | seeds | mean | spread | lost |\n|---|---|---|---|---|\n"
    );
    let original = kerf::evaluate(MODEL, &options.data)?;
    let row = format!("| none, the original | | {original:.2} | | |");
    say(&row);
    table.push_str(&row);
    table.push('\n');
    for sparsity in SPARSITIES {
        let found = (0..*seeds).map(|seed| train(options, sparsity, seed));
        let found = found.collect::<Result<Vec<_>>>()?;
        let lost = original - found.iter().sum::<f64>() / found.len().max(1) as f64;
        let row = format!("| {sparsity} | {} | {lost:.2} |", summary(&found));
        say(&row);
        table.push_str(&row);
        table.push('\n');
    }
    section::write("benches/sparsity.md", "gradual", &table)
}

/// Accuracy in percent.
fn train(options: &Options, sparsity: &str, seed: u64) -> Result<f64> {
    let seed = seed.to_string();
    let mut command = kerf::command(&["finetune", MODEL, "--teacher", MODEL, "--epochs", "3"]);
    command.args(["--lr", "0.05", "--sparsity", sparsity, "--seed", &seed]);
    command.args(["--precision", &options.precision, "-o", "target/gradual.onnx"]);
    accuracy(&kerf::run(options.data.trains(&mut command))?)
}
