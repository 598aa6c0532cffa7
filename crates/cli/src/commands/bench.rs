//! `kerf bench`: is it actually faster here?

use super::engine::EngineArg;
use super::latency::{self, Plan, Timed};
use super::model::file_name;
use super::{Context, Outcome, Task, Verdict, sparse_bench};
use crate::alignment;
use crate::args::Shared;
use crate::report::{self, Weight};
use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tensor_core::measure::Choice;
use tensor_core::measure::latency::Report;
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Result, onnx};

/// Arguments of `kerf bench`.
#[derive(Debug, Args, Serialize)]
#[command(group = ArgGroup::new("compared").args(["against", "sparse"]))]
pub(crate) struct BenchArgs {
    /// The model; with `--against`, the base of the comparison
    model: PathBuf,
    /// The model that may be faster
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// What runs the models
    #[arg(long, value_enum, default_value_t = EngineArg::Auto)]
    engine: EngineArg,
    /// Batch sizes, separated by commas
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Vec<u32>,
    /// Timed runs per model and batch size
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Seconds per batch size, after which timing stops early
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86400))]
    limit: u64,
    /// Exit 1 when the speed-up is below this at any batch size, such as `1.3`
    #[arg(long, value_name = "RATIO", requires = "compared")]
    assert_speedup: Option<f64>,
    /// Time our own executor instead, with dense weights and without the zeros of sparse ones
    #[arg(long, conflicts_with = "engine")]
    sparse: bool,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for BenchArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn other_model(&self) -> Option<&Path> {
        self.against.as_deref()
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let mut models = vec![Timed::read(&label("A", &self.model), &self.model)?];
        if let Some(other) = &self.against {
            models.push(Timed::read(&label("B", other), other)?);
        }
        let batches: Vec<usize> = self.batch.iter().map(|&batch| batch as usize).collect();
        let plan = Plan {
            engine: self.choice()?,
            batches: &batches,
            runs: self.runs as usize,
            limit: Duration::from_secs(self.limit),
        };
        let shapes = self.shared.shapes();
        let weights = models.iter().map(|m| m.weight(&shapes)).collect::<Result<Vec<_>>>()?;
        if self.sparse
            && let ([model], [weight]) = (&models[..], &weights[..])
        {
            let graph = model.graph();
            return sparse_bench::time(
                graph,
                *weight,
                &plan,
                self.assert_speedup,
                &self.shared,
                cx,
            );
        }
        let reports = latency::measure(&models, &plan, &self.shared, cx)?;
        let met = self.is_met(&reports);
        let mut text = report::latency(&reports, &weights);
        if let Some(least) = self.assert_speedup {
            let word = if met { "met" } else { "not met" };
            text.push_str(&format!("goal  speed-up of at least {least:.2}x: {word}\n"));
        }
        let macs: Vec<u64> = weights.iter().map(|weight| weight.macs).collect();
        let result = json!({ "latency": reports, "macs": macs });
        let verdict = if met { Verdict::Pass } else { Verdict::Fail };
        let hint = self.hint(&reports, &weights, cx)?;
        Ok(Outcome { hint, ..Outcome::new(text, result, verdict) })
    }
}

impl BenchArgs {
    fn choice(&self) -> Result<Choice> {
        match self.engine {
            EngineArg::Auto => Ok(Choice::Auto),
            EngineArg::Ort => Ok(Choice::OnnxRuntime),
            EngineArg::Rten => Ok(Choice::Rten),
            EngineArg::Kerf => Err(Error::new(
                ErrorKind::Invalid,
                "E0010",
                "latency is measured by an engine that is not ours",
            )
            .hint("`--engine auto`, `ort` or `rten`")),
        }
    }

    fn is_met(&self, reports: &[Report]) -> bool {
        let least = self.assert_speedup.unwrap_or(0.0);
        let mut speedups = reports.iter().flat_map(|r| &r.models).filter_map(|t| t.speedup);
        speedups.all(|speedup| speedup.median >= least)
    }

    /// Why the speed-up is below the ratio of multiply-accumulates, where widths explain it.
    fn hint(&self, reports: &[Report], weights: &[Weight], cx: &Context) -> Result<Option<String>> {
        let Some(other) = &self.against else { return Ok(None) };
        if !report::falls_short(reports, weights) {
            return Ok(None);
        }
        cx.console.warn("the speed-up is lower than the ratio of MACs");
        let multiple = alignment::multiple();
        let count = alignment::misaligned(&onnx::read(other)?, multiple);
        Ok((count > 0).then(|| {
            format!(
                "channel counts of {} in B are no multiple of {multiple}; `kerf prune --round-to \
                 {multiple}` avoids that",
                counted(count, "convolution")
            )
        }))
    }
}

fn label(letter: &str, path: &Path) -> String {
    format!("{letter}  {}", file_name(path))
}
