//! `kerf eval`: accuracy on labelled data.

use super::engine::EngineArg;
use super::model::file_name;
use super::{Context, Outcome, Task, Verdict, samples};
use crate::args::{DataArgs, Shared};
use crate::units;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use tensor_core::measure::top_k::TopK;
use tensor_core::text::counted;
use tensor_core::{Result, onnx};

/// Arguments of `kerf eval`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct EvalArgs {
    /// The model
    model: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    data: DataArgs,
    /// What runs the model
    #[arg(long, value_enum, default_value_t = EngineArg::Kerf)]
    engine: EngineArg,
    /// Also count a sample as right when its class is among the K highest scores
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// Exit 1 when top-1 accuracy is below this, such as `92.5%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_share)]
    assert_top1: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for EvalArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let graph = onnx::read(&self.model)?;
        let set = self.data.open_judged(&graph, self.shared.seed)?;
        for note in set.notes() {
            cx.console.detail(note);
        }
        set.labels()?;
        let set = self.data.whole_batches(set, &graph, cx.console)?;
        let mut loaded = self.engine.load(&self.model, &graph, &self.shared, cx.console)?;
        let mut top = TopK::new(self.top_k as usize);
        for batch in samples::labelled(&set, self.data.batch(&graph), "evaluate", &cx.progress) {
            let (inputs, labels) = batch?;
            top.add(&loaded.runner.run(&inputs)?, labels.as_deref().unwrap_or_default())?;
        }
        let score = top.finish()?;
        let met = self.assert_top1.is_none_or(|least| score.top1 >= least);
        let mut text = format!(
            "{}  {}  {}\ntop-1  {}\n",
            file_name(&self.model),
            counted(score.samples, "sample"),
            loaded.engine,
            units::percent_fine(score.top1),
        );
        if score.k > 1 {
            text.push_str(&format!("top-{}  {}\n", score.k, units::percent_fine(score.top_k)));
        }
        if let Some(least) = self.assert_top1 {
            let word = if met { "met" } else { "not met" };
            text.push_str(&format!("goal   top-1 at least {}: {word}\n", units::percent(least)));
        }
        let result = json!({ "engine": loaded.engine, "accuracy": score });
        let verdict = if met { Verdict::Pass } else { Verdict::Fail };
        Ok(Outcome::new(text, result, verdict))
    }
}
