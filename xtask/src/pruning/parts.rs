//! The fixtures with one part of pruning changed at a time.

use crate::fashion_mnist::FashionMnist;
use crate::finetune::proved;
use crate::step::say;
use crate::{kerf, section};
use anyhow::Result;
use std::time::Instant;

const NETWORKS: [&str; 2] = ["vgg7", "resnet20"];
const SHARES: [&str; 3] = ["75%", "50%", "25%"];
const STATISTICS: &str = "target/pruning.stats";

/// Heading and flags; the statistics stand in place of the samples where flags name them.
const COLUMNS: [(&str, &[&str]); 5] = [
    ("default", &[]),
    ("`--widths layerwise`", &["--widths", "layerwise"]),
    ("`--widths uniform`", &["--widths", "uniform"]),
    ("`--refine 200`", &["--refine", "200"]),
    ("`--statistics` alone", &["--statistics", STATISTICS]),
];

/// Runs all and writes the table.
pub(super) fn run(data: &FashionMnist) -> Result<()> {
    let mut table = String::from(
        "Written by `cargo xtask pruning`: folded fixture models, 1,000 training images, no labels, no training, counts not\n\
         rounded. Top-1 on the 10,000 test images, in brackets the seconds of pruning; `--statistics`: those of the\n\
         refit alone, on original inputs, after one `kerf calibrate`; `--refine`: 900 images prune and train, 100 judge.\n\n\
         | network | dense | MACs kept |",
    );
    for (heading, _) in COLUMNS {
        table.push_str(&format!(" {heading} |"));
    }
    table.push_str(&format!("\n|---|---|---|{}\n", "---|".repeat(COLUMNS.len())));
    for network in NETWORKS {
        let model = format!("fixtures/models/{network}_fmnist_folded.onnx");
        let mut calibrate = kerf::command(&["calibrate", &model, "-o", STATISTICS]);
        let start = Instant::now();
        kerf::run(FashionMnist::reads(&mut calibrate, FashionMnist::calibration()))?;
        say(&format!("{network}: calibrated in {:.1} s", start.elapsed().as_secs_f64()));
        for share in SHARES {
            let (mut dense, mut cells) = (0.0, String::new());
            for (_, flags) in COLUMNS {
                let mut command = kerf::command(&["prune", &model, "--macs", share]);
                command.args(["--round-to", "1", "--no-bench", "-o", "target/pruning.onnx"]);
                let command = match flags.contains(&"--statistics") {
                    true => data.judges(&mut command),
                    false => data.calibrates(&mut command),
                };
                let document = kerf::run(command.args(flags))?;
                let (before, after) = proved(&document)?;
                let seconds = document["result"]["seconds"].as_f64().unwrap_or(f64::NAN);
                dense = before;
                cells.push_str(&format!(" {after:.2} ({seconds:.1}) |"));
            }
            let row = format!("| {network} | {dense:.2} | {share} |{cells}");
            say(&row);
            table.push_str(&format!("{row}\n"));
        }
    }
    section::write("benches/pruning.md", "parts", &table)
}
