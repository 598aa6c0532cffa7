//! Few bits after training and in training, side by side.

use crate::fashion_mnist::FashionMnist;
use crate::finetune::{proved, summary};
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::{Context, Result};
use quant_mixed::model::layer_keys;
use quant_mixed::{Plan, PlanLayer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tensor_core::onnx;

const PLAN: &str = "target/qat_plan.toml";
const OUTPUT: &str = "target/qat.onnx";

/// Weights and activations of all layers but the first and the last.
const BITS: [(u32, u32); 3] = [(3, 8), (2, 8), (4, 4)];

/// What is compared: key, name, and how `kerf quantize` rounds or what `kerf finetune` learns.
const METHODS: [(&str, &str, How); 5] = [
    ("ptq", "after training", How::Rounding("optimal")),
    ("lsq", "in training, LSQ", How::Learns("lsq")),
    ("pact", "in training, PACT", How::Learns("pact")),
    ("fixed", "in training, calibrated ranges", How::Learns("fixed")),
    ("adaround", "after training, AdaRound", How::Rounding("adaround")),
];

#[derive(Clone, Copy)]
enum How {
    Rounding(&'static str),
    Learns(&'static str),
}

/// Size of the experiment.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// Folder with `resnet20_fmnist_bn.onnx` and `vgg7_fmnist_bn.onnx`
    #[arg(long, default_value = "fixtures/models")]
    models: PathBuf,
    /// Networks
    #[arg(long, value_delimiter = ',', default_value = "resnet20,vgg7")]
    networks: Vec<String>,
    /// What is compared
    #[arg(long, value_delimiter = ',', default_value = "ptq,lsq,pact,fixed,adaround")]
    methods: Vec<String>,
    /// Bits of weights and activations; each pair has a table of its own
    #[arg(long, value_delimiter = ',', default_value = "w3a8,w2a8,w4a4")]
    bits: Vec<String>,
    /// Runs per row
    #[arg(long, default_value_t = 2)]
    seeds: u64,
    /// Training images
    #[arg(long, default_value_t = 60_000)]
    samples: u32,
    /// Passes over the training images
    #[arg(long, default_value_t = 2)]
    epochs: u32,
    /// Peak learning rate
    #[arg(long, default_value = "0.005")]
    lr: String,
    /// Number format of the products in convolutions, `f32` or `bf16`
    #[arg(long, default_value = "f32")]
    precision: String,
}

/// Quantizes and trains, and writes a table after each row.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let Options { seeds, samples, epochs, lr, precision, networks, methods, .. } = options;
    for (weights, activations) in BITS {
        let key = format!("w{weights}a{activations}");
        if !options.bits.contains(&key) {
            continue;
        }
        let mut table = format!(
            "Written by `cargo xtask qat --networks {} --methods {} --bits {key} --seeds {seeds} --samples {samples} --epochs {epochs} --lr {lr} \
             --precision {precision}`.\n\n\
             | network | float | bits | quantized | seeds | mean | spread | below float |\n\
             |---|---|---|---|---|---|---|---|\n",
            networks.join(","),
            methods.join(",")
        );
        for network in networks {
            let model = options.models.join(format!("{network}_fmnist_bn.onnx"));
            let float = kerf::evaluate(&model.display().to_string(), &options.data)?;
            write_plan(&model, weights, activations)?;
            let wanted = METHODS.iter().filter(|(key, ..)| methods.iter().any(|m| m == key));
            for (_, name, how) in wanted {
                let found = (0..*seeds)
                    .map(|seed| top1(options, &model, *how, seed))
                    .collect::<Result<Vec<_>>>()?;
                let mean = found.iter().sum::<f64>() / found.len().max(1) as f64;
                let row = format!(
                    "| {network} | {float:.2} | W{weights}A{activations} | {name} | {} | {:.2} |",
                    summary(&found),
                    float - mean
                );
                say(&row);
                table.push_str(&row);
                table.push('\n');
                section::write("benches/qat.md", &key, &table)?;
            }
        }
    }
    Ok(())
}

/// The same bits for all layers but the first and the last, which have 8.
fn write_plan(model: &Path, weights: u32, activations: u32) -> Result<()> {
    let keys = layer_keys(&onnx::read(model)?, &BTreeMap::new(), &[])?;
    let last = keys.len().saturating_sub(1);
    let layers = keys.into_iter().enumerate().map(|(i, name)| match i == 0 || i == last {
        true => PlanLayer { name, weights: 8, activations: 8 },
        false => PlanLayer { name, weights, activations },
    });
    Plan::new("uniform", "", layers.collect()).write(Path::new(PLAN))?;
    Ok(())
}

/// Accuracy of the written file in another engine, in percent.
fn top1(options: &Options, model: &Path, how: How, seed: u64) -> Result<f64> {
    let (model, seed, epochs) =
        (model.display().to_string(), seed.to_string(), options.epochs.to_string());
    match how {
        How::Rounding(rounding) => {
            let mut command = kerf::command(&["quantize", &model, "-o", OUTPUT, "--plan", PLAN]);
            command.args(["--rounding", rounding, "--seed", &seed, "--samples", "256"]);
            command.args(["--no-bench", "--no-verify"]);
            Ok(proved(&kerf::run(options.data.trains(&mut command))?)?.1)
        }
        How::Learns(method) => {
            let mut command = kerf::command(&["finetune", &model, "-o", OUTPUT]);
            command.args(["--quantize-plan", PLAN, "--quantize-method", method]);
            command.args(["--teacher", &model, "--lr", &options.lr, "--epochs", &epochs]);
            command.args(["--precision", &options.precision, "--seed", &seed]);
            command.args(["--samples", &options.samples.to_string()]);
            let report = kerf::run(options.data.trains(&mut command))?;
            let top1 = report["result"]["quantized_file"]["top1"].as_f64();
            top1.map(|top1| 100.0 * top1).context("the report has no accuracy of the file")
        }
    }
}
