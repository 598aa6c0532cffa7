//! Pruned networks, fine-tuned by labels and by the original, with several seeds.

use crate::fashion_mnist::FashionMnist;
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::{Context, Result};
use serde_json::Value;

/// Network, and the share of multiply-accumulates to keep.
const NETWORKS: [(&str, &str); 2] = [("vgg7", "25%"), ("resnet20", "50%")];

const PRUNED: &str = "target/finetune_pruned.onnx";
/// Weight of the labels beside a teacher. It is hardly better than the student, which is almost what
/// it was before, so labels count as much.
const HARD_WEIGHT: &str = "0.5";

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

/// Prunes, fine-tunes and writes the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut table = format!(
        "Written by `cargo xtask finetune --precision {} --seeds {}`: the folded fixture models, pruned with\n\
         `--round-to 1`, then `kerf finetune` with its defaults (2 epochs of the 60,000 training images, not augmented);\n\
         with `--hard-weight {HARD_WEIGHT}` where the original is the teacher. Top-1 on the 10,000 test images for each seed.\n\n\
         | network | original | MACs kept | pruned | taught by | seeds | mean | spread |\n\
         |---|---|---|---|---|---|---|---|\n",
        options.precision, options.seeds
    );
    for (network, macs) in NETWORKS {
        let original = format!("fixtures/models/{network}_fmnist_folded.onnx");
        let (before, after) = prune(options, &original, macs)?;
        for (name, teacher) in [("labels", None), ("labels and the original", Some(&original))] {
            let seeds = 0..options.seeds;
            let found = seeds
                .map(|seed| finetune(options, teacher.map(String::as_str), seed))
                .collect::<Result<Vec<_>>>()?;
            let row = format!(
                "| {network} | {before:.2} | {macs} | {after:.2} | {name} | {} |",
                summary(&found)
            );
            say(&row);
            table.push_str(&row);
            table.push('\n');
        }
    }
    section::write("benches/distillation.md", "finetune", &table)
}

/// Accuracy in percent before and after pruning.
fn prune(options: &Options, original: &str, macs: &str) -> Result<(f64, f64)> {
    let start = ["prune", original, "--macs", macs, "--round-to", "1", "--no-bench"];
    let mut command = kerf::command(&start);
    command.args(["-o", PRUNED]);
    proved(&kerf::run(options.data.calibrates(&mut command))?)
}

/// Accuracy in percent before and after, from the report of a command that proves its result.
pub(crate) fn proved(report: &Value) -> Result<(f64, f64)> {
    let top1 = &report["result"]["proof"]["evaluation"]["comparison"]["outputs"][0]["top1"];
    let percent = |name: &str| top1[name].as_f64().map(|accuracy| 100.0 * accuracy);
    percent("reference_accuracy")
        .zip(percent("candidate_accuracy"))
        .context("the report has no accuracy")
}

/// Accuracy in percent after fine-tuning.
fn finetune(options: &Options, teacher: Option<&str>, seed: u64) -> Result<f64> {
    let seed = seed.to_string();
    let mut command = kerf::command(&["finetune", PRUNED, "--seed", &seed]);
    command.args(["--precision", &options.precision, "-o", "target/finetuned.onnx"]);
    if let Some(teacher) = teacher {
        command.args(["--teacher", teacher, "--hard-weight", HARD_WEIGHT]);
    }
    accuracy(&kerf::run(options.data.trains(&mut command))?)
}

/// The accuracy at the end of a training run, in percent.
pub(crate) fn accuracy(report: &Value) -> Result<f64> {
    let points = report["result"]["training"]["points"].as_array();
    points
        .and_then(|points| points.last()?["evaluation"]["accuracy"].as_f64())
        .map(|accuracy| 100.0 * accuracy)
        .context("the report has no accuracy")
}

/// Cells for the results of each seed, their mean and their spread.
pub(crate) fn summary(found: &[f64]) -> String {
    let mean = found.iter().sum::<f64>() / found.len().max(1) as f64;
    let most = found.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = found.iter().copied().fold(f64::INFINITY, f64::min);
    let each: Vec<String> = found.iter().map(|top1| format!("{top1:.2}")).collect();
    format!("{} | {mean:.2} | {:.2}", each.join(", "), most - least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_come_from_the_last_evaluation() {
        let point = |accuracy: f64| json!({ "evaluation": { "accuracy": accuracy } });
        let points = [point(0.5), point(0.925)];
        let report = json!({ "result": { "training": { "points": points } } });
        assert_eq!(accuracy(&report).ok(), Some(92.5));
        assert!(accuracy(&json!({})).is_err());
        assert_eq!(summary(&[92.5, 92.0]), "92.50, 92.00 | 92.25 | 0.50");
    }
}
