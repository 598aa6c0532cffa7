//! Which parts of gates matter: one table.

use super::TABLES;
use super::experiment::{Gated, Options};
use crate::finetune::summary;
use crate::section;
use crate::step::{run_cargo, say};
use anyhow::Result;

/// What is changed, and the flags.
const VARIANTS: [(&str, &[&str]); 10] = [
    ("as it is", &[]),
    ("polarization regularizer on BatchNormalization", &["--method", "polarization"]),
    ("hard threshold (L0)", &["--prox", "l0"]),
    ("uniform penalty", &["--penalty", "uniform"]),
    ("gates not trained by the loss", &["--gate-lr", "0"]),
    ("eps 0.1 throughout", &["--eps", "0.1"]),
    ("eps only down to 0.0001", &["--eps", "0.1:0.0001"]),
    ("eps 0.0001 throughout", &["--eps", "0.0001"]),
    ("eps falls from the begin", &["--eps", "0.1:0.00000001@0%-75%"]),
    ("from scratch", &["--reinit", "--lr", "0.15"]),
];

/// Trains every variant, and writes the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut table = format!(
        "Written by `cargo xtask gate-ablation {}`: `kerf gate --macs 50% --round-to 1` on the fixture models with\n\
         BatchNormalization. Top-1 on the 10,000 test images after the cut for each seed; lost is by the cut.\n\n\
         | network | variant | gates in (0.001, 0.5) | seeds | mean | spread | lost |\n|---|---|---|---|---|---|---|\n",
        options.flags()
    );
    for network in ["resnet20", "vgg7"].into_iter().filter(|name| name.contains(&options.only)) {
        let model = format!("fixtures/models/{network}_fmnist_bn.onnx");
        for (name, flags) in VARIANTS {
            let more = [&["--macs", "50%", "--round-to", "1"][..], flags].concat();
            let runs = (0..options.seeds)
                .map(|seed| Gated::read(&options.train("gate", &model, seed, &more)?))
                .collect::<Result<Vec<_>>>()?;
            let count = runs.len().max(1) as f64;
            let after: Vec<f64> = runs.iter().map(|run| run.after).collect();
            let row = format!(
                "| {network} | {name} | {:.1} % | {} | {:.2} |",
                100.0 * runs.iter().map(|run| run.between).sum::<f64>() / count,
                summary(&after),
                runs.iter().map(|run| run.before - run.after).sum::<f64>() / count
            );
            say(&row);
            table.push_str(&row);
            table.push('\n');
        }
    }
    section::write(TABLES, "ablation", &table)
}
