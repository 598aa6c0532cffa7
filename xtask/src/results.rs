//! Fills the README's results table by running every prune in it.

use crate::section;
use crate::step::{run_cargo, say};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Network, and the shares of multiply-accumulates to keep.
const ROWS: [(&str, &str); 4] =
    [("vgg7", "50%"), ("vgg7", "25%"), ("resnet20", "60%"), ("resnet20", "50%")];

/// Heading, and flags.
const COLUMNS: [(&str, &[&str]); 6] = [
    ("first-k", &["--method", "first-k", "--widths", "uniform", "--round-to", "1"]),
    ("max-response", &["--method", "max-response", "--widths", "uniform", "--round-to", "1"]),
    ("LASSO", &["--method", "lasso", "--widths", "uniform", "--round-to", "1"]),
    ("OBS", &["--method", "obs", "--widths", "uniform", "--round-to", "1"]),
    ("OBS, automatic widths", &["--round-to", "1"]),
    ("the default: rounded too", &[]),
];

/// Which networks.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder of other `vgg7_fmnist_folded.onnx` and `resnet20_fmnist_folded.onnx`, whose table is
    /// printed instead of written to the README
    #[arg(long)]
    models: Option<PathBuf>,
}

/// Runs all prunes and rewrites the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    let test = Path::new("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz");
    if !test.exists() {
        bail!("{} is missing: install the package dataset-fashion-mnist", test.display());
    }
    run_cargo("build --release --bin kerf")?;
    let mut table = String::from("| network | MACs kept |");
    for (heading, _) in COLUMNS {
        table.push_str(&format!(" {heading} |"));
    }
    table.push_str(" speed-up of the default |\n|---|---|");
    table.push_str(&"---|".repeat(COLUMNS.len() + 1));
    table.push('\n');
    let models = options.models.as_deref().unwrap_or(Path::new("fixtures/models"));
    for (network, macs) in ROWS {
        let model = models.join(format!("{network}_fmnist_folded.onnx"));
        let mut base = String::new();
        let mut cells = String::new();
        let mut speed = String::new();
        for (heading, flags) in COLUMNS {
            let is_default = flags.is_empty();
            let document = prune(&model, macs, test, flags, !is_default)?;
            let cell = cell(&document, &mut base);
            say(&format!("{network} {macs} {heading}: {cell}"));
            cells.push_str(&format!(" {cell} |"));
            if is_default {
                speed = speed_up(&document);
            }
        }
        table.push_str(&format!("| {network}, base {base} | {macs} |{cells} {speed} |\n"));
    }
    if options.models.is_some() {
        say(&table);
        return Ok(());
    }
    section::write("README.md", "results", &table)
}

/// One prune; its JSON document, which is an error document when the budget is infeasible.
fn prune(model: &Path, macs: &str, test: &Path, flags: &[&str], quick: bool) -> Result<Value> {
    let mut command = Command::new("target/release/kerf");
    command
        .arg("prune")
        .arg(model)
        .args(["--data", "fixtures/data/train-1k-images-idx3-ubyte.gz"])
        .args(["--preprocess", "fixtures/preprocess/fmnist.json"])
        .args(["--macs", macs, "-o", "target/results.onnx", "--force", "--json"])
        .arg("--eval-data")
        .arg(test)
        .args(flags);
    if quick {
        command.arg("--no-bench");
    }
    let output = command.output().context("starting kerf")?;
    let document: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let infeasible = document["error"]["code"] == "E0140";
    if !output.status.success() && !infeasible {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(document)
}

/// Accuracy in percent and the share of multiply-accumulates that is left.
fn cell(document: &Value, base: &mut String) -> String {
    let result = &document["result"];
    let top1 = &result["proof"]["evaluation"]["comparison"]["outputs"][0]["top1"];
    let (Some(before), Some(after)) =
        (top1["reference_accuracy"].as_f64(), top1["candidate_accuracy"].as_f64())
    else {
        return "infeasible".to_owned();
    };
    let macs = |side: &str| result["sizes"][side]["macs"].as_f64().unwrap_or(f64::NAN);
    *base = format!("{:.2}", before * 100.0);
    format!("{:.2} ({:.1} %)", after * 100.0, 100.0 * macs("after") / macs("before"))
}

fn speed_up(document: &Value) -> String {
    let reports = document["result"]["proof"]["latency"].as_array();
    let ratios = reports.into_iter().flatten().filter_map(|report| {
        let median = report["models"][1]["speedup"]["median"].as_f64()?;
        Some(format!("{median:.2}x"))
    });
    let ratios: Vec<_> = ratios.collect();
    if ratios.is_empty() { "-".to_owned() } else { ratios.join(" / ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_come_from_the_document() {
        let top1 = json!({ "reference_accuracy": 0.9355, "candidate_accuracy": 0.931 });
        let document = json!({ "result": {
            "sizes": { "before": { "macs": 200 }, "after": { "macs": 100 } },
            "proof": {
                "evaluation": { "comparison": { "outputs": [{ "top1": top1 }] } },
                "latency": [{ "models": [{}, { "speedup": { "median": 1.5 } }] }],
            },
        } });
        let mut base = String::new();
        assert_eq!(cell(&document, &mut base), "93.10 (50.0 %)");
        assert_eq!((base.as_str(), speed_up(&document).as_str()), ("93.55", "1.50x"));
        assert_eq!(cell(&json!({ "error": {} }), &mut base), "infeasible");
    }
}
