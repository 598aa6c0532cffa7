//! `kerf calibrate`: what pruning measures on samples, in a file, for any number of budgets.

use super::model::{Model, file_name};
use super::prune::AttentionArg;
use super::statistics::{self, Origin};
use super::{Context, Outcome, Task, samples};
use crate::args::{DataArgs, ModelArgs, OnUnsupported, SamplingArgs, Shared};
use crate::output::Target;
use crate::{input, units};
use clap::{Args, ValueEnum};
use lasso_prune::{PruneParams, SelectionParams, Streams, calibrate};
use serde::Serialize;
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use tensor_core::text::counted;
use tensor_core::{Error, Result};

/// Arguments of `kerf calibrate`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    #[serde(flatten)]
    files: ModelArgs,
    #[command(flatten)]
    #[serde(flatten)]
    data: DataArgs,
    /// How channels will be chosen: obs, lasso, lasso-cd, lasso-linfa, first-k or max-response
    #[arg(long, value_name = "NAME", default_value = "obs", help_heading = "Method")]
    method: String,
    /// What will happen to residual streams: with `auto` they can be kept or pruned
    #[arg(long, value_enum, value_name = "HOW", default_value_t = StreamsArg::Auto, help_heading = "Method")]
    streams: StreamsArg,
    /// What attention will lose: the same dimensions of the values of all heads, or whole heads
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = AttentionArg::Dimensions, help_heading = "Method")]
    attention: AttentionArg,
    #[command(flatten)]
    #[serde(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

/// What will happen to residual streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum StreamsArg {
    /// They are kept or pruned
    Auto,
    /// Each reader samples its input with a Gather
    Sample,
}

impl CalibrateArgs {
    fn params(&self) -> PruneParams {
        PruneParams {
            selection: SelectionParams::new().method(&self.method),
            streams: match self.streams {
                StreamsArg::Auto => Streams::Auto,
                StreamsArg::Sample => Streams::Sample,
            },
            attention: self.attention.into(),
            positions: self.sampling.positions(),
            seed: self.shared.seed,
            memory: self.sampling.memory(),
            ..PruneParams::default()
        }
    }
}

impl Task for CalibrateArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.files.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![self.files.target()]
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        self.params().check().map(|_| ())
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let params = self.params();
        let model = Model::load(&self.files.model, &self.shared)?;
        model.apply_policy(&self.shared, OnUnsupported::Error, cx.console)?;
        let set = samples::calibration(&self.data, &self.shared, &model.graph, cx)?;
        let batch = samples::batch(&self.data, &model)?;
        let batches = samples::shared_arrays(&model.graph, &set, batch, cx)?;
        let origin = Origin::new(&self.files.model, &self.data, &self.sampling, &self.shared)?;
        let start = Instant::now();
        let shapes = self.shared.shapes();
        let made =
            calibrate(&model.graph, &shapes, batches, &params, origin.to_value()?, &cx.progress)?;
        if !cx.group.is_first() {
            return Ok(Outcome::of_another());
        }
        cx.console.note(&format!("calibrated in {:.2} s", start.elapsed().as_secs_f64()));
        let layers: Vec<String> = made.layers().map(str::to_owned).collect();
        let output = &self.files.output;
        made.write(output)?;
        let bytes = std::fs::metadata(output).map_err(|error| Error::io(output, &error))?.len();
        let text = format!(
            "{} -> {}\n{} of {} on {}, {}\n{}\nreplay  {}\n",
            file_name(&self.files.model),
            output.display(),
            "statistics",
            counted(layers.len(), "layer"),
            counted(set.len(), "sample"),
            units::bytes(bytes),
            statistics::NEXT,
            cx.replay,
        );
        let result = json!({
            "output": { "path": output, "sha256": input::sha256(output)?, "bytes": bytes },
            "samples": set.len(),
            "layers": layers,
            "origin": origin.to_value()?,
        });
        Ok(Outcome::answer(text, result))
    }
}
