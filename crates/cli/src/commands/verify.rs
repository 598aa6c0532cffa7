//! `kerf verify`: are the outputs of two models close enough?

use super::engine::{self, EngineArg};
use super::layerwise;
use super::model::file_name;
use super::{Context, Outcome, Task, Verdict, samples};
use crate::args::{DataArgs, Shared};
use crate::{report, units};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use tensor_core::measure::compare::{self, Comparison};
use tensor_core::text::counted;
use tensor_core::{Result, onnx};

/// Largest accepted difference, relative to the output range, when nothing else was asked for:
/// what two correct engines differ by.
const TOLERANCE: f64 = 1e-3;

/// Samples on which the quantized activations of the candidate are compared between the engine and
/// kerf.
const LAYERWISE: usize = 32;

/// Arguments of `kerf verify`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct VerifyArgs {
    /// The reference
    reference: PathBuf,
    /// The model to compare with it
    candidate: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    data: DataArgs,
    /// What runs both models
    #[arg(long, value_enum, default_value_t = EngineArg::Auto)]
    engine: EngineArg,
    /// Exit 1 when an output differs by more than this share of its range
    /// [default: 0.001, unless another goal is given]
    #[arg(long, value_name = "RATIO")]
    tolerance: Option<f64>,
    /// Exit 1 when both name the same class for fewer samples than this, such as `95%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_share)]
    assert_agreement: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for VerifyArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.reference)
    }

    fn other_model(&self) -> Option<&Path> {
        Some(&self.candidate)
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let (a, b) = (onnx::read(&self.reference)?, onnx::read(&self.candidate)?);
        let set = self.data.open_judged(&a, self.shared.seed)?;
        let set = self.data.whole_batches(set, &a, cx.console)?;
        let mut first = self.engine.load(&self.reference, &a, &self.shared, cx.console)?;
        let mut second = self.engine.load(&self.candidate, &b, &self.shared, cx.console)?;
        let comparison = compare::compare(
            &mut *first.runner,
            &mut *second.runner,
            samples::labelled(&set, self.data.batch(&a), "compare", &cx.progress),
        )?;
        let mut failures = self.failures(&comparison);
        let layers = match self.engine.choice() {
            Some(choice) if layerwise::is_quantized(&b) => {
                let engine = engine::foreign(choice, cx.console)?;
                let set = set.first(self.data.batch(&a).max(LAYERWISE));
                let batches =
                    samples::labelled(&set, self.data.batch(&a), "verify layers", &cx.progress);
                Some(layerwise::compare(&b, &*engine, batches, &self.shared)?)
            }
            _ => None,
        };
        failures.extend(layers.iter().flat_map(layerwise::Layerwise::failures));
        let mut text = format!(
            "A  {}\nB  {}\n{}  {}\n\n{}",
            file_name(&self.reference),
            file_name(&self.candidate),
            counted(comparison.samples, "sample"),
            first.engine,
            report::comparison(&comparison),
        );
        text.extend(layers.iter().map(layerwise::Layerwise::text));
        for failure in &failures {
            text.push_str(&format!("not met  {failure}\n"));
        }
        let result = json!({
            "engine": first.engine,
            "comparison": comparison,
            "activations": layers,
            "failures": failures,
        });
        let verdict = if failures.is_empty() { Verdict::Pass } else { Verdict::Fail };
        Ok(Outcome::new(text, result, verdict))
    }
}

impl VerifyArgs {
    /// The goals that were not met, in words.
    fn failures(&self, comparison: &Comparison) -> Vec<String> {
        let preset = self.assert_agreement.is_none().then_some(TOLERANCE);
        let mut failures = Vec::new();
        for output in &comparison.outputs {
            failures.extend(report::incomparable(output));
            if let Some(most) = self.tolerance.or(preset)
                && !output.is_void()
                && !output.within(most, report::ROUNDING.min(most))
            {
                failures.push(format!(
                    "{}: differs by {:.2e} of its range, more than {most:.2e}",
                    output.name,
                    report::relative(output)
                ));
            }
        }
        if let Some(least) = self.assert_agreement {
            let agreement = comparison.outputs.first().and_then(|output| output.top1);
            match agreement {
                Some(top1) if top1.agreement >= least => {}
                Some(top1) => failures.push(format!(
                    "top-1 agreement is {}, less than {}",
                    units::percent_fine(top1.agreement),
                    units::percent(least)
                )),
                None => failures.push("the first output is no list of class scores".to_owned()),
            }
        }
        failures
    }
}
