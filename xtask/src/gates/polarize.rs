//! Do gates polarize, and does the cut cost accuracy? Against a sigmoid gate, and L1 on the scales of
//! BatchNormalization.

use super::experiment::{Gated, Options};
use super::{TABLES, plot};
use crate::section;
use crate::step::{run_cargo, say};
use anyhow::{Context, Result};

/// Name and flag of each method.
const METHODS: [(&str, &str); 3] =
    [("gates (ours)", "gdp"), ("sigmoid gates", "sigmoid"), ("network slimming", "slimming")];

const PLOT: &str = "benches/polarization.svg";

/// Trains by each method, and writes table and plot.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut table = format!(
        "Written by `cargo xtask polarize {}`: `kerf gate --macs 50% --round-to 1` with its defaults on the fixture models\n\
         with BatchNormalization, by each `--method` with its default `--strength`, which is not tuned. A gate is g(alpha), the sigmoid, or |gamma| over the largest of the network.\n\
         A factor is what\n\
         the weights behind were multiplied by: of our gates g(alpha) and the gain, which keeps what eps had made of open gates while it fell.\n\
         Top-1 on the test images just before the weakest channels are cut and just after, means over the seeds; drawn in \
         `polarization.svg`.\n\n\
         | network | method | gates in (0.001, 0.5) | factors in it | before the cut | after | lost |\n|---|---|---|---|---|---|---|\n",
        options.flags()
    );
    let mut panels = Vec::new();
    for network in ["resnet20", "vgg7"].into_iter().filter(|name| name.contains(&options.only)) {
        let model = format!("fixtures/models/{network}_fmnist_bn.onnx");
        for (name, method) in METHODS {
            let more = ["--macs", "50%", "--round-to", "1", "--method", method];
            let runs = (0..options.seeds)
                .map(|seed| Gated::read(&options.train("gate", &model, seed, &more)?))
                .collect::<Result<Vec<_>>>()?;
            let mean =
                |of: fn(&Gated) -> f64| runs.iter().map(of).sum::<f64>() / runs.len().max(1) as f64;
            let row = format!(
                "| {network} | {name} | {:.1} % | {:.1} % | {:.2} | {:.2} | {:.2} |",
                100.0 * mean(|run| run.between),
                100.0 * mean(|run| run.factors_between),
                mean(|run| run.before),
                mean(|run| run.after),
                mean(|run| run.before - run.after)
            );
            say(&row);
            table.push_str(&row);
            table.push('\n');
            let first = runs.into_iter().next().context("no runs: `--seeds` is 0")?;
            panels.push((format!("{network}, {name}"), first.histogram));
        }
    }
    std::fs::write(PLOT, plot::histograms(&panels)?).context(PLOT)?;
    section::write(TABLES, "polarize", &table)
}
