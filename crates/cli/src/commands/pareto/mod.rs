//! `kerf pareto`: the front of cost against accuracy from one calibration.

mod front;
mod plot;

use super::model::{Model, file_name};
use super::proof::Judge;
use super::statistics::{self, StatisticsArgs};
use super::{Context, Outcome, Task, engine, samples};
use crate::args::{
    DataArgs, EvaluationArgs, HardwareArgs, OnUnsupported, RoundTo, SamplingArgs, Shared,
};
use crate::output::Target;
use crate::units;
use clap::{Args, ValueEnum};
use front::Point;
use lasso_prune::{Budget, Limit, PruneParams, Source, Study};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tensor_core::cost::{Price, Resource};
use tensor_core::measure::Choice;
use tensor_core::measure::compare;
use tensor_core::progress;
use tensor_core::{Error, ErrorKind, Result, files, onnx};

/// Arguments of `kerf pareto`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ParetoArgs {
    /// The model
    model: PathBuf,
    /// Folder for the models, `front.json` and `front.svg`
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    data: DataArgs,
    #[command(flatten)]
    #[serde(flatten)]
    known: StatisticsArgs,
    /// Shares to keep, one model each
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', default_value = "80%,65%,50%,35%,25%", value_parser = units::parse_kept)]
    shares: Vec<f64>,
    /// Of what; with `--cost` or `--hardware`, of the time of that device
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = What::Macs)]
    of: What,
    #[command(flatten)]
    #[serde(flatten)]
    device: HardwareArgs,
    /// Channel counts become multiples of N
    #[arg(long, value_name = "N", default_value = "auto")]
    round_to: RoundTo,
    #[command(flatten)]
    #[serde(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    #[serde(flatten)]
    evaluation: EvaluationArgs,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

/// `--of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    /// Multiply-accumulates
    Macs,
    /// Parameters
    Params,
    /// Bytes of constants
    Size,
}

impl Task for ParetoArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![Target::Folder(&self.output)]
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let price = self.price()?;
        let model = Model::load(&self.model, &self.shared)?;
        model.apply_policy(&self.shared, OnUnsupported::Error, cx.console)?;
        let graph = &model.graph;
        let mut params = self.params()?;
        let stored = self.known.open(&self.model, &self.data, &self.sampling, &self.shared)?;
        let alone = stored.as_ref().filter(|_| !self.data.is_given());
        if let Some(calibration) = alone {
            params.positions = params.positions.or(calibration.positions());
        }
        let set = match alone {
            Some(calibration) => statistics::few_samples(calibration, graph)?,
            None => samples::calibration(&self.data, &self.shared, graph, cx)?,
        };
        let batch = samples::batch(&self.data, &model)?;
        let judge = Judge {
            data: &self.data,
            evaluation: &self.evaluation,
            asserts_drop: false,
            shared: &self.shared,
        };
        let judged = judge.samples(graph, &set, cx.console)?;
        let batches = || samples::arrays(graph, &set, batch, &cx.progress);
        let source = match (alone, &stored) {
            (Some(calibration), _) => Source::Statistics(calibration),
            (None, Some(calibration)) => Source::Both(batches()?, calibration),
            (None, None) => Source::Samples(batches()?),
        };
        let engine = engine::foreign(Choice::Auto, cx.console)?;
        let threads = engine::threads(&self.shared);
        let shapes = self.shared.shapes();
        let mut study = Study::new(graph, &shapes, source, params);
        let (mut points, mut refused) = (Vec::new(), Vec::new());
        for &share in &self.shares {
            progress::check(&cx.progress)?;
            let budget = Budget { price: price.clone(), limit: Limit::Keep(share) };
            let pruned = match study.prune(budget, &cx.progress) {
                Ok(pruned) => pruned,
                Err(error) if error.code() == "E0140" => {
                    cx.console.warn(&format!("{} was left out: {error}", units::percent(share)));
                    refused.push(share);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let path = self.output.join(format!("{}.onnx", name(share)));
            onnx::write(&pruned.graph, &path)?;
            let mut before = engine.load_file(&self.model, threads)?;
            let mut after = engine.load_file(&path, threads)?;
            let samples = samples::labelled(&judged, batch, "evaluate", &cx.progress);
            let comparison = compare::compare(&mut *before, &mut *after, samples)?;
            points.push(Point::new(share, path, &pruned, comparison));
        }
        if points.is_empty() {
            return Err(Error::new(ErrorKind::Infeasible, "E0140", "no share can be met").hint(
                "ask for larger `--shares`; `kerf groups MODEL` explains what cannot be pruned",
            ));
        }
        let result = json!({ "of": price.unit(), "points": points, "left_out": refused });
        self.write("front.json", &pretty(&result)?)?;
        self.write("front.svg", &plot::front(&points, &front::quality(&points))?)?;
        let text = format!(
            "{} -> {}\n{}\nreplay  {}\n",
            file_name(&self.model),
            self.output.display(),
            front::table(&points),
            cx.replay
        );
        Ok(Outcome::answer(text, result))
    }
}

/// The name of a model without its suffix.
fn name(share: f64) -> String {
    // Shares come as percentages; 12.5 % is not to become 12 or 13.
    format!("keep-{}", (1000.0 * share).round() / 10.0)
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Error::internal(error.to_string()))
}

impl ParetoArgs {
    /// What the shares are of.
    fn price(&self) -> Result<Price> {
        if self.device.hardware.is_some() || self.device.cost.is_some() {
            return Ok(Price::Latency(Arc::from(self.device.open()?)));
        }
        Ok(Price::Count(match self.of {
            What::Macs => Resource::Macs,
            What::Params => Resource::Parameters,
            What::Size => Resource::Bytes,
        }))
    }

    fn params(&self) -> Result<PruneParams> {
        Ok(PruneParams {
            inputs: self.known.inputs(&self.data)?,
            round_to: self.round_to.channels(),
            may_round_less: self.round_to == RoundTo::Auto,
            positions: self.sampling.positions(),
            seed: self.shared.seed,
            memory: self.sampling.memory(),
            ..PruneParams::default()
        })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        files::write_whole(&self.output.join(name), |part| std::fs::write(part, text))
    }
}
