//! One run of `kerf gate`, and what its report says.

use crate::fashion_mnist::FashionMnist;
use crate::kerf;
use anyhow::{Context, Result};
use serde_json::Value;

/// Size of an experiment.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(super) data: FashionMnist,
    /// Runs per row
    #[arg(long, default_value_t = 3)]
    pub(super) seeds: u64,
    /// Passes over the samples
    #[arg(long, default_value_t = 5)]
    pub(super) epochs: u32,
    /// Training images
    #[arg(long, default_value_t = 60_000)]
    pub(super) samples: u32,
    /// Number format of the products in convolutions, `f32` or `bf16`
    #[arg(long, default_value = "f32")]
    pub(super) precision: String,
    /// Only networks whose name contains this
    #[arg(long, default_value = "")]
    pub(super) only: String,
}

impl Options {
    /// The flags, as a command that repeats the experiment has them.
    pub(super) fn flags(&self) -> String {
        let Self { seeds, epochs, samples, precision, only, .. } = self;
        let mut flags = format!("--precision {precision} --seeds {seeds} --epochs {epochs}");
        if *samples != 60_000 {
            flags.push_str(&format!(" --samples {samples}"));
        }
        if !only.is_empty() {
            flags.push_str(&format!(" --only {only}"));
        }
        flags
    }

    /// A training command of kerf on the training images, judged on the test images.
    pub(super) fn train(
        &self,
        command: &str,
        model: &str,
        seed: u64,
        more: &[&str],
    ) -> Result<Value> {
        let (seed, epochs) = (seed.to_string(), self.epochs.to_string());
        let samples = self.samples.to_string();
        let mut command = kerf::command(&[command, model, "--seed", &seed, "--epochs", &epochs]);
        command.args(["--precision", &self.precision, "--samples", &samples]);
        command.args(["-o", "target/gated.onnx"]).args(more);
        kerf::run(self.data.trains(&mut command))
    }

    /// The same after LASSO pruning to a share of the multiply-accumulates; gives that share, too.
    pub(super) fn lasso(
        &self,
        model: &str,
        macs: &str,
        seed: u64,
        lr: &str,
    ) -> Result<(f64, Value)> {
        let pruned = "target/gates_lasso.onnx";
        let mut command = kerf::command(&["prune", model, "--macs", macs, "--round-to", "1"]);
        command.args(["--no-bench", "-o", pruned]);
        let report = kerf::run(self.data.calibrates(&mut command))?;
        let sizes = &report["result"]["sizes"];
        let macs = |which: &str| sizes[which]["macs"].as_f64().context("the report has no MACs");
        let share = macs("after")? / macs("before")?;
        Ok((share, self.train("finetune", pruned, seed, &["--lr", lr])?))
    }
}

/// What a report of `kerf gate` says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gated {
    /// Accuracy before the cut, in percent.
    pub(super) before: f64,
    /// Accuracy after it.
    pub(super) after: f64,
    /// Share of the multiply-accumulates.
    pub(super) share: f64,
    /// Gates between 0.001 and 0.5, of all.
    pub(super) between: f64,
    /// Factors that weights were multiplied by in that interval, of all.
    pub(super) factors_between: f64,
    /// Gates by value at the end: closed ones, then equal intervals of 0 to 1.
    pub(super) histogram: Vec<f64>,
}

impl Gated {
    /// Reads a report.
    pub(super) fn read(report: &Value) -> Result<Self> {
        let gates = &report["result"]["gates"];
        let top1 = &gates["cut_against_gated"]["comparison"]["outputs"][0]["top1"];
        let number = |value: &Value| value.as_f64().context("the report lacks a number");
        let lists = gates["lists"].as_array().context("the report has no gates")?;
        let between = |key: &str| {
            let values = lists.iter().filter_map(|list| list[key].as_array()).flatten();
            let values: Vec<f64> = values.filter_map(Value::as_f64).collect();
            let between = values.iter().filter(|value| **value > 0.001 && **value < 0.5).count();
            between as f64 / values.len().max(1) as f64
        };
        let last = gates["history"]["histogram"].as_array().and_then(|rows| rows.last());
        let last = last.and_then(Value::as_array).context("the report has no histogram")?;
        let resource = &gates["resource"];
        Ok(Self {
            before: 100.0 * number(&top1["reference_accuracy"])?,
            after: 100.0 * number(&top1["candidate_accuracy"])?,
            share: number(&resource["by_model"])? / number(&resource["original"])?,
            between: between("values"),
            factors_between: between("factors"),
            histogram: last.iter().filter_map(Value::as_f64).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_read() {
        let report = json!({ "result": { "gates": {
            "resource": { "by_model": 20, "original": 80.0 },
            "lists": [
                { "values": [0.0, 1.0], "factors": [0.0, 0.2] },
                { "values": [0.4, 0.0005], "factors": [0.4, 1.1] },
            ],
            "history": { "histogram": [[4, 0], [1, 3]] },
            "cut_against_gated": { "comparison": { "outputs": [
                { "top1": { "reference_accuracy": 0.5, "candidate_accuracy": 0.25 } }
            ] } },
        } } });
        let expected = Gated {
            before: 50.0,
            after: 25.0,
            share: 0.25,
            between: 0.25,
            factors_between: 0.5,
            histogram: vec![1.0, 3.0],
        };
        assert_eq!(Gated::read(&report).ok(), Some(expected));
        assert!(Gated::read(&json!({})).is_err());
    }
}
