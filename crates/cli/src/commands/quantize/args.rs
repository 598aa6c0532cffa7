//! Flags of `kerf quantize`.

use super::super::Context;
use super::super::model::Model;
use super::super::one_shot::OneShotArgs;
use crate::args::{parse_pin, warn_of_unnamed};
use crate::console::Console;
use crate::flags;
use clap::{Args, ValueEnum};
use quant_mixed::clip::ClipChoice;
use quant_mixed::model::{
    BiasCorrection, QuantizeParams, RangeParams, Rounding, WeightQuantizer, layer_keys,
};
use quant_mixed::{Assignment, LayerBits, Plan};
use serde::Serialize;
use std::path::PathBuf;
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf quantize`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct QuantizeArgs {
    #[command(flatten)]
    #[serde(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) common: OneShotArgs,
    /// Do not measure latency
    #[arg(long, help_heading = "Proof")]
    pub(super) no_bench: bool,
}

/// Which numbers become integers, and how.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Method")]
struct MethodArgs {
    /// Bits of weights, 1 to 8
    #[arg(long, value_name = "BITS", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=8))]
    weights: u8,
    /// Bits of activations, 1 to 8 [default: 8; float with blocks or a codebook]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(1..=8), conflicts_with = "block_size")]
    activations: Option<u8>,
    /// What weights become: linear (integers with scales), or k-means (places in a list of shared numbers
    /// for each layer). With k-means activations stay float
    #[arg(long, value_enum, value_name = "NAME", default_value_t = QuantizerArg::Linear)]
    weight_quantizer: QuantizerArg,
    /// Give each N inputs of an output a scale of their own; activations stay float
    #[arg(long, value_name = "N", conflicts_with = "per_tensor", value_parser = clap::value_parser!(u32).range(2..=65536))]
    block_size: Option<u32>,
    /// Bits layer by layer, as `kerf search` writes them; layers that it does not name have 8, and what no
    /// layer reads has those of `--activations`
    #[arg(long, value_name = "FILE", conflicts_with = "weights")]
    plan: Option<PathBuf>,
    /// Give layers bits of their own, weights and inputs alike, such as `/conv1/Conv=8`; `*` matches any text
    /// (repeatable)
    #[arg(long, value_name = "LAYER=BITS", value_parser = parse_pin)]
    pin: Vec<(String, u8)>,
    /// Layers or weights that stay float; `*` matches any text (repeatable)
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Where the ranges of activations end: mse, min-max, percentile (`percentile:99.99`), kl or kl-cdf
    #[arg(long, value_name = "NAME", default_value = "mse", value_parser = flags::read::<ClipChoice>)]
    clip: ClipChoice,
    /// Where the ranges of weights end, by the same names
    #[arg(long, value_name = "NAME", default_value = "mse", value_parser = flags::read::<ClipChoice>)]
    weight_clip: ClipChoice,
    /// One scale for each weight, not one for each of its outputs
    #[arg(long)]
    per_tensor: bool,
    /// How weights are rounded: nearest, optimal (later weights make up for earlier ones) or adaround
    #[arg(long, value_name = "NAME", default_value = "optimal", value_parser = flags::read::<Rounding>)]
    rounding: Rounding,
    /// Do not scale channels between layers so that weights before and behind have equal ranges
    #[arg(long)]
    no_equalize: bool,
    /// How biases make up for mean errors: none, analytic (by mean inputs) or empirical (by mean
    /// responses of both networks)
    #[arg(long, value_name = "NAME", default_value = "empirical", value_parser = flags::read::<BiasCorrection>)]
    bias_correction: BiasCorrection,
}

/// `--weight-quantizer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum QuantizerArg {
    /// Integers with scales
    Linear,
    /// Places in a list of shared numbers for each layer
    KMeans,
}

impl QuantizeArgs {
    /// Gives layers of this model the bits of `--pin`; those that a plan does not name are named.
    ///
    /// # Errors
    /// `E0502` when a pin matches no layer.
    pub(super) fn pin(
        &self,
        bits: &mut Assignment,
        model: &Model,
        console: &Console,
    ) -> Result<()> {
        let method = &self.method;
        if method.plan.is_none() && method.pin.is_empty() {
            return Ok(());
        }
        let keys = layer_keys(&model.graph, &self.common.shared.shapes(), &method.exclude)?;
        bits.pin(&keys, false, &method.pin)?;
        if let Some(path) = &method.plan {
            warn_of_unnamed(bits, &keys, path, console);
        }
        Ok(())
    }

    /// A flag that would do nothing is a mistake.
    ///
    /// # Errors
    /// `E0010` names it.
    pub(super) fn check_flags(&self, params: &QuantizeParams, cx: &Context) -> Result<()> {
        let quantizer = params.ranges.weight_quantizer;
        let unused = [
            ("clip", quantizer != WeightQuantizer::Linear, "activations stay float"),
            ("weight_clip", quantizer == WeightQuantizer::KMeans, "a codebook has no range"),
        ];
        match unused.iter().find(|(flag, does, _)| *does && cx.given.contains_key(*flag)) {
            Some((flag, _, reason)) => {
                let message = format!("`--{}` does nothing here: {reason}", flag.replace('_', "-"));
                Err(Error::new(ErrorKind::Invalid, "E0010", message))
            }
            None => Ok(()),
        }
    }

    /// The parameters, without pins.
    ///
    /// # Errors
    /// When the plan cannot be read.
    pub(super) fn params(&self) -> Result<QuantizeParams> {
        let method = &self.method;
        let activations = method.activations.unwrap_or(8);
        let others = LayerBits { weights: method.weights, activations };
        let weight_quantizer = match (method.weight_quantizer, method.block_size) {
            (QuantizerArg::Linear, None) => WeightQuantizer::Linear,
            (QuantizerArg::Linear, Some(size)) => WeightQuantizer::Blocks(size as usize),
            (QuantizerArg::KMeans, None) if method.activations.is_none() && !method.per_tensor => {
                WeightQuantizer::KMeans
            }
            (QuantizerArg::KMeans, _) => {
                let message =
                    "a codebook has neither blocks nor one scale, and leaves activations float";
                return Err(Error::new(ErrorKind::Invalid, "E0010", message).hint(
                    "leave out `--block-size`, `--per-tensor` and `--activations` with `--weight-quantizer k-means`",
                ));
            }
        };
        let bits = match &method.plan {
            Some(path) => Assignment::of_plan(&Plan::read(path)?, others),
            None => Assignment::uniform(others.weights, others.activations),
        };
        Ok(QuantizeParams {
            bits,
            ranges: RangeParams {
                clip: method.clip,
                weight_clip: method.weight_clip,
                per_channel: !method.per_tensor,
                weight_quantizer,
                exclude: method.exclude.clone(),
            },
            rounding: method.rounding,
            equalize: !method.no_equalize,
            bias_correction: method.bias_correction,
            positions: self.common.sampling.positions(),
            seed: self.common.shared.seed,
            memory: self.common.sampling.memory(),
        })
    }
}
