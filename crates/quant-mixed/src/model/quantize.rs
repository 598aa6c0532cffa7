//! The whole procedure.

use super::bias;
use super::equalize::{Equalization, equalize};
use super::layers::{Left, find_layers};
use super::measure::{Kept, measure};
use super::params::{QuantizeParams, ValidQuantizeParams};
use super::prepared::Prepared;
use super::report::{Copied, QuantizeReport, QuantizedLayer};
use super::rounding::{Rounded, round_weights};
use super::weights::lacks_blocks;
use std::collections::BTreeMap;
use std::time::Instant;
use tensor_core::Result;
use tensor_core::graph::Graph;
use tensor_core::progress::Progress;
use tensor_core::rewrite::{self, fold_batch_norm};
use tensor_core::run::{self, Array};

/// A quantized model.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The model, with pairs of QuantizeLinear and DequantizeLinear.
    pub graph: Graph,
    /// What was done.
    pub report: QuantizeReport,
}

/// Quantizes a model on calibration data, without labels and without training.
///
/// BatchNormalization is folded, neighbouring layers are equalized where that is exact, one run of
/// the data gives the ranges, weights are rounded from shallow to deep on statistics of their inputs,
/// and biases take up mean errors. The result is a graph of QuantizeLinear and DequantizeLinear that
/// runtimes turn into integer kernels; running it here gives what they compute, but for float rounding.
///
/// `batches` hold the calibration samples; each lists arrays in the order of the graph's inputs.
/// `shapes` are the input shapes for inference, as for [`tensor_core::run::infer`].
///
/// # Errors
/// `E0144` without data, `E0501` when there is no layer to quantize, `E0502` when a name is unknown,
/// `E0503` when a value is not finite, `E0504` when the model is quantized already, `E0505` when its
/// operator set cannot be raised.
pub fn quantize(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    batches: &[Vec<Array>],
    params: &ValidQuantizeParams,
    progress: &dyn Progress,
) -> Result<Quantized> {
    let params = &params.0;
    let Started { prepared, rounded, equalization, calibration_seconds } =
        start(graph, shapes, batches, params, progress)?;
    let built = rounded.build(&prepared, &params.bits)?;
    let kept = measure(&prepared, &built, batches)?;
    let layers = layers(&prepared, params, &rounded, &kept)?;
    let count: usize = layers.iter().map(|layer| layer.weights).sum();
    let mean = |bits: fn(&QuantizedLayer) -> u8| {
        let sum: f64 = layers.iter().map(|l| f64::from(bits(l)) * l.weights as f64).sum();
        sum / count.max(1) as f64
    };
    let mut activations = built.activations;
    for activation in &mut activations {
        activation.seen = prepared.seen(&activation.value, activation.range);
    }
    let report = QuantizeReport {
        rounding: params.rounding,
        bias_correction: params.bias_correction,
        clip: params.ranges.clip,
        weight_clip: params.ranges.weight_clip,
        per_channel: params.ranges.per_channel,
        weight_quantizer: params.ranges.weight_quantizer,
        side_bytes: rounded.weights.iter().map(|weight| weight.side_bytes()).sum(),
        without_blocks: without_blocks(&prepared),
        rounded_to_nearest: rounded_to_nearest(&prepared, &rounded),
        copied: copied(graph, &prepared),
        effective_bits: mean(|layer| layer.weight_bits),
        stored_bits: mean(|layer| if layer.storage.ends_with('4') { 4 } else { 8 }),
        weights: count,
        layers,
        left: prepared.left.clone(),
        activations,
        equalized: equalization.pairs,
        not_equalized: equalization.skipped,
        folded_batch_norms: prepared.folded_batch_norms,
        opset: [graph.opset(), built.graph.opset()],
        samples: prepared.samples,
        calibration_seconds,
    };
    Ok(Quantized { graph: built.graph, report })
}

/// A model with everything that is known before its quantized graph is built.
pub(super) struct Started {
    pub(super) prepared: Prepared,
    pub(super) rounded: Rounded,
    pub(super) equalization: Equalization,
    pub(super) calibration_seconds: f64,
}

/// Folds, equalizes, calibrates, rounds and corrects.
pub(super) fn start(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    batches: &[Vec<Array>],
    params: &QuantizeParams,
    progress: &dyn Progress,
) -> Result<Started> {
    let folded = rewrite::apply(graph, &fold_batch_norm(graph)?)?;
    let folded_batch_norms = graph.nodes.len() - folded.nodes.len();
    let mut equalization = match params.equalize {
        true => {
            let facts = run::infer(&folded, shapes)?;
            let (layers, _) = find_layers(&folded, &facts, &params.ranges.exclude)?;
            equalize(&folded, &layers)?
        }
        false => Equalization { graph: folded, pairs: Vec::new(), skipped: Vec::new() },
    };
    let equalized = std::mem::take(&mut equalization.graph);
    let begin = Instant::now();
    let prepared =
        Prepared::of(equalized, folded_batch_norms, shapes, batches, &params.ranges, progress)?;
    let calibration_seconds = begin.elapsed().as_secs_f64();
    params.bits.check(prepared.layers.iter().map(|layer| layer.key.as_str()))?;
    let mut rounded = round_weights(&prepared, batches, params, progress)?;
    bias::correct(&prepared, batches, &mut rounded, params, progress)?;
    Ok(Started { prepared, rounded, equalization, calibration_seconds })
}

fn rounded_to_nearest(prepared: &Prepared, rounded: &Rounded) -> Vec<Left> {
    let found = rounded.nearest.iter().map(|(number, reason)| {
        let layer = &prepared.layers[*number];
        let op = prepared.graph.node(layer.node).op.clone();
        Left { key: layer.key.clone(), op, reason: reason.clone() }
    });
    found.collect()
}

/// Weights that more than one layer reads in the graph as it was given: folding and equalizing give
/// each layer a weight of its own.
fn copied(graph: &Graph, prepared: &Prepared) -> Vec<Copied> {
    let mut readers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for id in graph.node_ids() {
        let key = graph.key(id);
        if let (Some(weight), Some(_)) = (graph.node(id).input(1), prepared.layer(key)) {
            readers.entry(graph.name(weight)).or_default().push(key.to_owned());
        }
    }
    let shared = readers.into_iter().filter(|(_, layers)| layers.len() > 1);
    shared.map(|(weight, layers)| Copied { weight: weight.to_owned(), layers }).collect()
}

/// Layers without blocks, where blocks were asked for.
fn without_blocks(prepared: &Prepared) -> Vec<Left> {
    let found = prepared.layers.iter().filter_map(|layer| {
        let reason = lacks_blocks(layer, &prepared.params)?;
        let op = prepared.graph.node(layer.node).op.clone();
        Some(Left { key: layer.key.clone(), op, reason })
    });
    found.collect()
}

fn layers(
    prepared: &Prepared,
    params: &QuantizeParams,
    rounded: &Rounded,
    kept: &[Kept],
) -> Result<Vec<QuantizedLayer>> {
    let all = prepared.layers.iter().zip(&rounded.weights).zip(kept);
    all.map(|((layer, weight), kept)| {
        let float = prepared.weight(layer)?;
        let values = weight.values(layer)?;
        let square = |x: f32| f64::from(x) * f64::from(x);
        let signal: f64 = float.iter().map(|&w| square(w)).sum();
        let noise: f64 = float.iter().zip(&values).map(|(a, b)| square(a - b)).sum();
        let bits = params.bits.of(&layer.key);
        Ok(QuantizedLayer {
            key: layer.key.clone(),
            op: prepared.graph.node(layer.node).op.clone(),
            weight: layer.weight.clone(),
            weights: layer.count(),
            weight_bits: weight.bits,
            activation_bits: prepared.sites.class(layer.input).map(|_| bits.activations),
            storage: weight.storage(),
            granularity: weight.quantizer.granularity().into_owned(),
            weight_sqnr_db: (noise > 0.0).then(|| 10.0 * (signal / noise).log10()),
            local_sqnr_db: kept.local,
            accumulated_sqnr_db: kept.accumulated,
        })
    })
    .collect()
}
