//! What quantizing a model did.

use super::build::QuantizedActivation;
use super::equalize::{Equalized, NotEqualized};
use super::layers::Left;
use super::params::{BiasCorrection, Rounding};
use super::weights::WeightQuantizer;
use crate::clip::ClipChoice;
use serde::Serialize;

/// One quantized layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuantizedLayer {
    /// The key of its node.
    pub key: String,
    /// Its operator.
    pub op: String,
    /// Name of its weight.
    pub weight: String,
    /// Number of weights.
    pub weights: usize,
    /// Bits of each weight.
    pub weight_bits: u8,
    /// Bits of the activations that it reads; `None` where they stay float.
    pub activation_bits: Option<u8>,
    /// The type that stores the weights.
    pub storage: &'static str,
    /// What shares a scale: `tensor`, `channel`, `block of 32`, or a `codebook of 16`.
    pub granularity: String,
    /// Signal over error of the weights in dB; `None` without an error.
    pub weight_sqnr_db: Option<f64>,
    /// Signal over error of the layer's response to inputs of the float network.
    pub local_sqnr_db: Option<f64>,
    /// The same in the quantized network, with the errors of all layers before it.
    pub accumulated_sqnr_db: Option<f64>,
}

/// A weight of which each reader has a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Its name.
    pub weight: String,
    /// The layers that read it.
    pub layers: Vec<String>,
}

/// What was done to a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuantizeReport {
    /// How weights were rounded.
    pub rounding: Rounding,
    /// How biases were corrected.
    pub bias_correction: BiasCorrection,
    /// Where the ranges of activations end.
    pub clip: ClipChoice,
    /// Where the ranges of weights end.
    pub weight_clip: ClipChoice,
    /// A scale for each output of a layer, or one for all.
    pub per_channel: bool,
    /// What weights became.
    pub weight_quantizer: WeightQuantizer,
    /// Bytes of the scales and codebooks of all weights.
    pub side_bytes: usize,
    /// Layers that have a scale per channel though blocks were asked for.
    pub without_blocks: Vec<Left>,
    /// Layers whose weights were rounded to the nearest though more was asked for.
    pub rounded_to_nearest: Vec<Left>,
    /// Weights that several layers read; each layer has integers of its own.
    pub copied: Vec<Copied>,
    /// The quantized layers, in execution order.
    pub layers: Vec<QuantizedLayer>,
    /// Layers that stay float.
    pub left: Vec<Left>,
    /// Quantized activations, in execution order.
    pub activations: Vec<QuantizedActivation>,
    /// Pairs of layers that were equalized.
    pub equalized: Vec<Equalized>,
    /// Layers behind which nothing was scaled though another layer follows.
    pub not_equalized: Vec<NotEqualized>,
    /// BatchNormalizations that were folded.
    pub folded_batch_norms: usize,
    /// Operator set before and after.
    pub opset: [i64; 2],
    /// Quantized weights of all layers.
    pub weights: usize,
    /// Bits of a quantized weight, on average.
    pub effective_bits: f64,
    /// Bits that a quantized weight takes in the file, on average.
    pub stored_bits: f64,
    /// Calibration samples.
    pub samples: usize,
    /// Seconds that the calibration of ranges took.
    pub calibration_seconds: f64,
}

impl QuantizeReport {
    /// The layers with the largest error of their own first.
    pub fn worst_first(&self) -> Vec<&QuantizedLayer> {
        let mut layers: Vec<&QuantizedLayer> = self.layers.iter().collect();
        let kept = |layer: &QuantizedLayer| layer.local_sqnr_db.unwrap_or(f64::INFINITY);
        layers.sort_by(|a, b| kept(a).total_cmp(&kept(b)));
        layers
    }
}
