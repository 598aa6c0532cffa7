//! What training with quantization gave.

use super::Method;
use crate::model::{Built, Learned, Left, QuantizedActivation, Trainable};
use serde::Serialize;
use tensor_core::Result;
use tensor_core::graph::Graph;

/// A quantized model.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The model, with pairs of QuantizeLinear and DequantizeLinear.
    pub graph: Graph,
    /// How it is quantized.
    pub report: QatReport,
}

/// One layer after training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainedLayer {
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
    /// Bits of the activations that it reads.
    pub activation_bits: u8,
    /// The type that stores the weights.
    pub storage: &'static str,
    /// Steps of the weights over those before training, their geometric mean.
    pub step_ratio: f64,
}

/// How a trained model is quantized.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QatReport {
    /// What learned beside the weights.
    pub method: &'static str,
    /// The quantized layers, in execution order.
    pub layers: Vec<TrainedLayer>,
    /// Layers that stay float.
    pub left: Vec<Left>,
    /// Quantized activations, in execution order.
    pub activations: Vec<QuantizedActivation>,
    /// BatchNormalizations that were folded.
    pub folded_batch_norms: usize,
    /// Quantized weights of all layers.
    pub weights: usize,
    /// Bits of a quantized weight, on average.
    pub effective_bits: f64,
    /// Bits that a quantized weight takes in the file, on average.
    pub stored_bits: f64,
    /// Calibration samples.
    pub samples: usize,
}

pub(super) fn exported(
    method: &Method,
    model: &Trainable,
    built: Built,
    starts: &[&[f32]],
    learned: &Learned,
) -> Result<Exported> {
    let prepared = &model.prepared;
    let all = prepared.layers.iter().zip(&model.weights).zip(starts.iter().zip(&learned.weights));
    let layers: Vec<TrainedLayer> = all
        .map(|((layer, weight), (start, end))| {
            let logs = start.iter().zip(end).map(|(&a, &b)| (f64::from(b) / f64::from(a)).ln());
            TrainedLayer {
                key: layer.key.clone(),
                op: prepared.graph.node(layer.node).op.clone(),
                weight: layer.weight.clone(),
                weights: layer.count(),
                weight_bits: weight.bits,
                activation_bits: model.bits.of(&layer.key).activations,
                storage: if weight.bits <= 4 { "int4" } else { "int8" },
                step_ratio: (logs.sum::<f64>() / start.len().max(1) as f64).exp(),
            }
        })
        .collect();
    let count: usize = layers.iter().map(|layer| layer.weights).sum();
    let mean = |bits: fn(&TrainedLayer) -> u8| {
        let sum: f64 = layers.iter().map(|l| f64::from(bits(l)) * l.weights as f64).sum();
        sum / count.max(1) as f64
    };
    let report = QatReport {
        method: method.name,
        effective_bits: mean(|layer| layer.weight_bits),
        stored_bits: mean(|layer| if layer.storage == "int4" { 4 } else { 8 }),
        weights: count,
        layers,
        left: prepared.left.clone(),
        activations: built.activations,
        folded_batch_norms: prepared.folded_batch_norms,
        samples: prepared.samples,
    };
    Ok(Exported { graph: built.graph, report })
}
