//! Quantization in training: `--quantize-weights` and what belongs to it.

use super::super::engine;
use super::super::layerwise::{self, Layerwise};
use super::super::{Context, samples};
use crate::args::{Shared, parse_pin, warn_of_unnamed};
use crate::{flags, input, units};
use clap::Args;
use quant_mixed::model::{QuantizeParams, layer_keys};
use quant_mixed::train::{Exported, FakeQuantizer, METHODS, QatParams, QatReport, method};
use quant_mixed::{Assignment, LayerBits, Plan};
use serde::Serialize;
use serde_json::{Value, json};
use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tensor_core::data::Dataset;
use tensor_core::measure::Engine;
use tensor_core::measure::top_k::TopK;
use tensor_core::text::counted;
use tensor_core::train::{Plugin, prepare};
use tensor_core::{Error, ErrorKind, Graph, Result, onnx};

/// Bits of what has no bits of its own: activations that no layer reads, such as sums.
const OTHERS: u8 = 8;

/// Flags of quantization in training.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Quantization")]
pub(super) struct QuantizationArgs {
    /// Train with weights of this many bits, 1 to 8, and write the quantized model; with `finetune` a
    /// rate of 0.005 suits it
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(1..=8))]
    quantize_weights: Option<u8>,
    /// Bits of the activations that layers read, 1 to 8 [default: 8]; what other operators read has 8
    #[arg(long, value_name = "BITS", conflicts_with = "quantize_plan", value_parser = clap::value_parser!(u8).range(1..=8))]
    quantize_activations: Option<u8>,
    /// Bits layer by layer, as `kerf search` writes them; layers that it does not name have 8
    #[arg(long, value_name = "FILE", conflicts_with = "quantize_weights")]
    quantize_plan: Option<PathBuf>,
    /// What learns beside the weights: lsq (steps), pact (clips of activations, steps of weights) or
    /// fixed (nothing)
    #[arg(long, value_name = "NAME", default_value = "lsq", value_parser = flags::read::<MethodArg>)]
    quantize_method: MethodArg,
    /// Training samples for the ranges that training begins with
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    quantize_samples: u32,
    /// Give layers bits of their own, such as `/conv1/Conv=8`; `*` matches any text (repeatable)
    #[arg(long, value_name = "LAYER=BITS", value_parser = parse_pin)]
    pin: Vec<(String, u8)>,
    /// Give the first and the last layer the bits of the others too; without a plan they have 8
    #[arg(long)]
    no_pin_ends: bool,
}

/// `--quantize-method`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
struct MethodArg(&'static str);

impl FromStr for MethodArg {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        method(text).map(|method| Self(method.name))
    }
}

impl QuantizationArgs {
    /// Is anything asked for?
    pub(super) fn is_used(&self) -> bool {
        self.quantize_weights.is_some()
            || self.quantize_activations.is_some()
            || self.quantize_plan.is_some()
    }

    /// Refuses what quantization is not trained together with.
    pub(super) fn check(&self, others: &[(&str, bool)]) -> Result<()> {
        if !self.is_used() {
            let is_plain = self.quantize_method.0 == METHODS[0].name
                && self.pin.is_empty()
                && !self.no_pin_ends;
            return match is_plain {
                true => Ok(()),
                false => Err(Error::new(
                    ErrorKind::Invalid,
                    "E0010",
                    "how to quantize is given, but not to how many bits",
                )
                .hint("say it, such as `--quantize-weights 4`")),
            };
        }
        match others.iter().find(|(_, is_used)| *is_used) {
            Some((flag, _)) => Err(Error::new(
                ErrorKind::Invalid,
                "E0507",
                format!("{flag} and quantization cannot be trained at once"),
            )
            .hint("do that first, then train its result with `--quantize-weights`")),
            None => Ok(()),
        }
    }

    /// Bits by layer.
    fn bits(&self, graph: &Graph, (shared, cx): (&Shared, &Context)) -> Result<Assignment> {
        let keys = layer_keys(graph, &shared.shapes(), &[])?;
        let mut bits = match &self.quantize_plan {
            Some(path) => {
                let others = LayerBits { weights: OTHERS, activations: OTHERS };
                Assignment::of_plan(&Plan::read(path)?, others)
            }
            None => {
                let mut bits = Assignment::uniform(OTHERS, OTHERS);
                let own = LayerBits {
                    weights: self.quantize_weights.unwrap_or(OTHERS),
                    activations: self.quantize_activations.unwrap_or(OTHERS),
                };
                bits.layers = keys.iter().map(|key| (key.clone(), own)).collect();
                bits
            }
        };
        let ends = self.quantize_plan.is_none() && !self.no_pin_ends;
        bits.pin(&keys, ends, &self.pin)?;
        if let Some(path) = &self.quantize_plan {
            warn_of_unnamed(&bits, &keys, path, cx.console);
        }
        Ok(bits)
    }

    /// The plug-in after quantization without training, where quantization is asked for.
    pub(super) fn plugin(
        &self,
        graph: &Graph,
        set: &Dataset,
        batch: usize,
        (shared, cx): (&Shared, &Context),
    ) -> Result<Option<Box<FakeQuantizer>>> {
        if !self.is_used() {
            return Ok(None);
        }
        let graph = prepare(graph);
        let bits = self.bits(&graph, (shared, cx))?;
        // The order of a folder is that of its classes.
        let few = set.subset((self.quantize_samples as usize).next_multiple_of(batch), shared.seed);
        let batches = samples::arrays(&graph, &few, batch, &cx.progress)?;
        let quantize = QuantizeParams { bits, seed: shared.seed, ..QuantizeParams::default() };
        let params =
            QatParams { quantize, method: method(self.quantize_method.0)?, ..QatParams::default() };
        let made = FakeQuantizer::new(&graph, &shared.shapes(), &batches, params, &cx.progress)?;
        Ok(Some(Box::new(made)))
    }

    /// What a run depends on beside the model and the data.
    pub(super) fn identity(&self) -> Result<Value> {
        let mut identity = json!(self);
        if let Some(path) = &self.quantize_plan {
            identity["quantize_plan"] = json!(input::sha256(path)?);
        }
        Ok(identity)
    }
}

/// The quantized graph of what was trained, where the run quantized.
pub(super) fn export(plugins: &[Box<dyn Plugin>], trained: &Graph) -> Result<Option<Exported>> {
    let found =
        plugins.iter().find_map(|plugin| (&**plugin as &dyn Any).downcast_ref::<FakeQuantizer>());
    found.map(|quantizer| quantizer.export(trained)).transpose()
}

/// The written file in another engine.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    engine: String,
    /// Its quantized activations against ours.
    activations: Layerwise,
    /// Its accuracy on the held-out samples, where there are any.
    top1: Option<f64>,
}

impl Checked {
    /// Compares activations on some samples and takes the accuracy on the held-out ones, each in
    /// batches of that size.
    pub(super) fn new(
        file: &Path,
        engine: &dyn Engine,
        (some, held_out): (&Dataset, Option<&Dataset>),
        batch: usize,
        (shared, cx): (&Shared, &Context),
    ) -> Result<Self> {
        let graph = onnx::read(file)?;
        let batches = samples::labelled(some, batch, "verify layers", &cx.progress);
        let activations = layerwise::compare(&graph, engine, batches, shared)?;
        let mut top1 = None;
        if let Some(set) = held_out {
            let mut runner = engine.load_file(file, engine::threads(shared))?;
            let mut top = TopK::new(1);
            for batch in samples::labelled(set, batch, "evaluate the file", &cx.progress) {
                let (inputs, labels) = batch?;
                top.add(&runner.run(&inputs)?, labels.as_deref().unwrap_or_default())?;
            }
            top1 = Some(top.finish()?.top1);
        }
        Ok(Self { engine: engine.name(), activations, top1 })
    }

    /// What differs by more than rounding, in words.
    pub(super) fn failures(&self) -> Vec<String> {
        self.activations.failures()
    }
}

/// For people.
pub(super) fn text(report: &QatReport, checked: Option<&Checked>) -> String {
    let mut by_bits: BTreeMap<(u8, u8), usize> = BTreeMap::new();
    for layer in &report.layers {
        *by_bits.entry((layer.weight_bits, layer.activation_bits)).or_default() += 1;
    }
    let groups: Vec<String> = by_bits
        .iter()
        .map(|((weights, inputs), count)| {
            format!("{} W{weights}A{inputs}", counted(*count, "layer"))
        })
        .collect();
    let mut text = format!(
        "quantized  {} by {}: {} of {:.2} bits, stored in {:.2}\n",
        groups.join(", "),
        report.method,
        counted(report.weights, "weight"),
        report.effective_bits,
        report.stored_bits,
    );
    for left in &report.left {
        text.push_str(&format!("float  {} ({}): {}\n", left.key, left.op, left.reason));
    }
    if let Some(checked) = checked {
        if let Some(top1) = checked.top1 {
            let top1 = units::percent_fine(top1);
            text.push_str(&format!("top-1 of the written file in {}  {top1}\n", checked.engine));
        }
        text.push_str(&checked.activations.text());
    }
    text
}
