//! Accuracy under a budget against LASSO pruning, and where the controller lands.

use super::TABLES;
use super::experiment::{Gated, Options};
use crate::fashion_mnist::FashionMnist;
use crate::finetune::{accuracy, summary};
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::{Context, Result};

const SHARES: [&str; 2] = ["50%", "20%"];

/// Learning rate of `kerf gate`; fine-tuning after LASSO pruning has the same.
const RATE: &str = "0.05";

/// Targets of the controller.
const TARGETS: [&str; 4] = ["70%", "50%", "30%", "20%"];

/// Trains under budgets and writes both tables.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    section::write(TABLES, "gates", &against_lasso(options)?)?;
    section::write(TABLES, "controller", &landings(options)?)
}

fn against_lasso(options: &Options) -> Result<String> {
    let mut table = format!(
        "Written by `cargo xtask gates {}`: the folded fixture models. Gates: `kerf gate --round-to 1` with its defaults. LASSO: \
         `kerf prune --round-to 1`\non 1,000 images, then `kerf finetune --lr {RATE}` for as many epochs. Top-1 on the 10,000 test images \
         for each seed; lost is against the original.\n\n\
         | network | original | MACs wanted | by | MACs kept | seeds | mean | spread | lost |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        options.flags()
    );
    for network in ["resnet20", "vgg7"].into_iter().filter(|name| name.contains(&options.only)) {
        let model = format!("fixtures/models/{network}_fmnist_folded.onnx");
        let original = kerf::evaluate(&model, &options.data)?;
        for share in SHARES {
            let mut rows: [(&str, f64, Vec<f64>); 2] =
                [("gates", 0.0, Vec::new()), ("LASSO", 0.0, Vec::new())];
            for seed in 0..options.seeds {
                let more = ["--macs", share, "--round-to", "1", "--lr", RATE];
                let gated = Gated::read(&options.train("gate", &model, seed, &more)?)?;
                rows[0].1 = gated.share;
                rows[0].2.push(gated.after);
                let (kept, tuned) = options.lasso(&model, share, seed, RATE)?;
                rows[1].1 = kept;
                rows[1].2.push(accuracy(&tuned)?);
            }
            for (by, kept, found) in rows {
                let mean = found.iter().sum::<f64>() / found.len().max(1) as f64;
                let row = format!(
                    "| {network} | {original:.2} | {share} | {by} | {:.1} % | {} | {:.2} |",
                    100.0 * kept,
                    summary(&found),
                    original - mean
                );
                say(&row);
                table.push_str(&row);
                table.push('\n');
            }
        }
    }
    Ok(table)
}

/// Where the controller lands, on networks that differ; accuracy is not of interest.
fn landings(options: &Options) -> Result<String> {
    let mut table = format!(
        "Written by `cargo xtask gates {}`: `kerf gate --macs ... --steps 60 --batch 32` on 2,000 images, no other flag.\n\
         Shares of the multiply-accumulates of the written model, and the distance from the target relative to it.\n\n\
         | network | {} |\n|---|{}\n",
        options.flags(),
        TARGETS.join(" | "),
        "---|".repeat(TARGETS.len())
    );
    let mobilenet = "target/gates_mobilenet.onnx";
    let new = ["new", "mobilenet-v2", "--input", "1x28x28", "--classes", "10", "--width", "0.5"];
    kerf::run(kerf::command(&new).args(["-o", mobilenet]))?;
    let networks = [
        ("resnet20", "fixtures/models/resnet20_fmnist_folded.onnx"),
        ("vgg7", "fixtures/models/vgg7_fmnist_folded.onnx"),
        ("mobilenet-v2", mobilenet),
    ];
    for (name, model) in networks {
        let mut row = format!("| {name} |");
        for target in TARGETS {
            let share = landing(options, model, target)?;
            let wanted: f64 = target.trim_end_matches('%').parse::<f64>()? / 100.0;
            row.push_str(&format!(
                " {:.2} % ({:+.1} %) |",
                100.0 * share,
                100.0 * (share - wanted) / wanted
            ));
        }
        say(&row);
        table.push_str(&row);
        table.push('\n');
    }
    Ok(table)
}

fn landing(options: &Options, model: &str, target: &str) -> Result<f64> {
    let mut command = kerf::command(&["gate", model, "--macs", target, "--steps", "60"]);
    command.args(["--batch", "32", "--samples", "2000", "--no-verify"]);
    command.args(["-o", "target/gated.onnx"]);
    let report = kerf::run(FashionMnist::reads(&mut command, options.data.train()))?;
    let resource = &report["result"]["gates"]["resource"];
    let number = |name: &str| resource[name].as_f64().context("the report has no resource");
    Ok(number("by_model")? / number("original")?)
}
