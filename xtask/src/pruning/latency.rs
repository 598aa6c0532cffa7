//! Budgets of time: what the table of a network predicts, and what the pruned file takes.

use super::crops::CASES;
use crate::fashion_mnist::FashionMnist;
use crate::step::say;
use crate::{kerf, section};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The table of a network.
const TABLE: &str = "target/pruning.cost.json";

/// Real networks that are timed too.
const NAMES: [&str; 4] = ["efficientnet_lite0", "mtcnn_onet", "digit_cnn", "fer_mini_xception"];

/// Runs all and writes the table; real networks only where there are some.
pub(super) fn run(data: &FashionMnist, real: Option<(&Path, &Path)>) -> Result<()> {
    let mut table = String::from(
        "Written by `cargo xtask pruning`: a network's layers and some of its widths timed by `kerf cost measure --widths\n\
         25%,50%,75%`, then pruned to 60 % of its time by that table. One thread, batch 1, ONNX Runtime; medians in\n\
         milliseconds. The original is timed anew beside the result: by how much the two predictions are off together is\n\
         the machine's part.\n\n\
         | network | original, predicted | measured | pruned, predicted | measured | error | share, predicted | measured |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for name in ["resnet20", "vgg7"] {
        let model = PathBuf::from(format!("fixtures/models/{name}_fmnist_folded.onnx"));
        let prune = |command: &mut Command| {
            data.calibrates(command);
        };
        table.push_str(&row(name, &model, prune)?);
    }
    if let Some((models, crops)) = real {
        for case in NAMES.iter().filter_map(|name| CASES.iter().find(|case| case.name == *name)) {
            let model = models.join(format!("{}.onnx", case.name));
            let prune = |command: &mut Command| {
                command.arg("--data").arg(crops.join("calibration")).args(case.flags);
            };
            table.push_str(&row(case.name, &model, prune)?);
        }
    }
    section::write("benches/pruning.md", "latency", &table)
}

/// Measures and prunes with the flags that are added.
fn row(name: &str, model: &Path, reads: impl FnOnce(&mut Command)) -> Result<String> {
    let mut measure = kerf::command(&["cost", "measure"]);
    kerf::run(measure.arg(model).args(["--widths", "25%,50%,75%", "-o", TABLE]))?;
    let mut prune = kerf::command(&["prune"]);
    prune.arg(model).args(["--latency", "60%", "--cost", TABLE, "-o", "target/pruning.onnx"]);
    reads(&mut prune);
    let document = kerf::run(&mut prune)?;
    let time = &document["result"]["time"];
    let number = |of: &str, key: &str| {
        let found = time[of][key].as_f64();
        found.with_context(|| format!("{name}: no {key} {of}"))
    };
    let (before, after) = (number("predicted", "before_us")?, number("predicted", "after_us")?);
    let (old, new) = (number("measured", "before_us")?, number("measured", "after_us")?);
    let row = format!(
        "| {name} | {:.3} | {:.3} | {:.3} | {:.3} | {:+.1} % | {:.1} % | {:.1} % |",
        before / 1e3,
        old / 1e3,
        after / 1e3,
        new / 1e3,
        100.0 * number("measured", "error")?,
        100.0 * after / before,
        100.0 * new / old,
    );
    say(&row);
    Ok(row + "\n")
}
