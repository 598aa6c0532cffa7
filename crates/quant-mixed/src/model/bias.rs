//! Biases that make up for the mean error of their layers.

use super::build::Built;
use super::layers::Layer;
use super::params::{BiasCorrection, QuantizeParams};
use super::prepared::Prepared;
use super::rounding::{Rounded, linear_map};
use rayon::prelude::*;
use std::sync::Arc;
use tensor_core::calibrate::Replay;
use tensor_core::graph::Index;
use tensor_core::progress::{self, Progress};
use tensor_core::run::{self, Array, Session};
use tensor_core::{Error, NodeId, Result, ValueId};

/// Networks that hold activations: the float and the quantized one.
const NETWORKS: usize = 2;

/// Samples that tell a mean well enough.
const ENOUGH: usize = 256;

/// Batches that run side by side.
const WAVE: usize = 8;

/// Corrects the biases in place.
pub(super) fn correct(
    prepared: &Prepared,
    batches: &[Vec<Array>],
    rounded: &mut Rounded,
    params: &QuantizeParams,
    progress: &dyn Progress,
) -> Result<()> {
    match params.bias_correction {
        BiasCorrection::None => Ok(()),
        BiasCorrection::Analytic => analytic(prepared, batches, rounded, progress),
        BiasCorrection::Empirical => empirical(prepared, batches, rounded, params, progress),
    }
}

/// `b += (W - W_q) E[x]` (Nagel et al., "Data-free quantization", 2019, Eq. 17), with the means of
/// the float network; what padding takes from them is left out.
fn analytic(
    prepared: &Prepared,
    batches: &[Vec<Array>],
    rounded: &mut Rounded,
    progress: &dyn Progress,
) -> Result<()> {
    let inputs: Vec<ValueId> = prepared.layers.iter().map(|layer| layer.input).collect();
    let session = Session::until(&prepared.graph, &inputs)?;
    let mut means: Vec<Means> = inputs.iter().map(|_| Means::default()).collect();
    progress.stage("mean inputs", batches.len());
    for batch in batches {
        progress::check(progress)?;
        let named: Vec<_> =
            prepared.graph.inputs.iter().copied().zip(batch.iter().cloned()).collect();
        let arrays = session.fetch(&named, &inputs)?;
        for ((layer, array), means) in prepared.layers.iter().zip(&arrays).zip(&mut means) {
            means.add(array, channel_axis(prepared, layer))?;
        }
        progress.item("batch");
    }
    for (number, layer) in prepared.layers.iter().enumerate() {
        // What rounding has made up for, with the inputs of the rounded network, is not done twice.
        let is_open = layer.takes_bias && !rounded.is_shifted[number];
        let Some(map) = linear_map(prepared, layer)?.filter(|_| is_open) else { continue };
        let shape = map.shape();
        let float = map.rows_of_weight(&prepared.weight(layer)?);
        let now = map.rows_of_weight(&rounded.weights[number].values(layer)?);
        let means = means[number].means();
        let p = shape.columns();
        for (o, bias) in rounded.biases[number].iter_mut().enumerate() {
            let first = o / shape.group_outputs() * (shape.channels / shape.groups);
            let lost: f64 = (0..p)
                .map(|j| {
                    let error = f64::from(float[o * p + j]) - f64::from(now[o * p + j]);
                    error * means.get(first + j / shape.taps).copied().unwrap_or_default()
                })
                .sum();
            *bias += lost as f32;
        }
    }
    Ok(())
}

/// The line `g y' + d` that is nearest to `y`, channel by channel, for one layer after the other,
/// where `y'` is the response in the quantized network with everything before it corrected: so
/// activations that were cut off count too. The gain goes into the scale of the weights and the bias,
/// the shift into the bias; with one scale for all outputs the gain is one, which leaves
/// `b += E[y] - E[y']`.
fn empirical(
    prepared: &Prepared,
    batches: &[Vec<Array>],
    rounded: &mut Rounded,
    params: &QuantizeParams,
    progress: &dyn Progress,
) -> Result<()> {
    let memory = params.memory / NETWORKS;
    let all = Replay::new(&prepared.graph, batches.to_vec(), memory)?;
    let mut original = all.thinned(ENOUGH);
    let mut current = original.clone();
    let mut built = rounded.build(prepared, &params.bits)?;
    let facts = run::infer(&built.graph, &prepared.shapes)?;
    progress.stage("correct biases", prepared.layers.len());
    for (number, layer) in prepared.layers.iter().enumerate() {
        progress::check(progress)?;
        if !layer.takes_bias {
            progress.item(&layer.key);
            continue;
        }
        let (node, output) = place(&built, layer)?;
        let graph = &built.graph;
        let first =
            original.prepare_past(&prepared.graph, &prepared.facts, layer.node, &[layer.output])?;
        let second = current.prepare(graph, &facts, node, &[output])?;
        let axis = channel_axis(prepared, layer);
        let mut lines = Lines::default();
        for start in (0..original.batches()).step_by(WAVE) {
            let wave = start..(start + WAVE).min(original.batches());
            let moved: Vec<_> = wave
                .clone()
                .into_par_iter()
                .map(|batch| Ok((original.run(&first, batch)?, current.run(&second, batch)?)))
                .collect::<Result<_>>()?;
            for (batch, (then, now)) in wave.zip(moved) {
                let (then, held) = then.split();
                original.advance(&first, batch, held);
                let (now, held) = now.split();
                current.advance(&second, batch, held);
                then.iter().zip(&now).try_for_each(|(then, now)| lines.add(then, now, axis))?;
            }
        }
        original.settle(&first);
        current.settle(&second);
        drop(second);
        let weight = &mut rounded.weights[number];
        let gains: Vec<f64> = match weight.outputs(layer) {
            Some(_) => lines.gains(),
            None => vec![1.0; lines.channels()],
        };
        let shifts = lines.shifts(&gains);
        *weight = Arc::new(weight.scaled(layer, &gains));
        for (bias, (gain, shift)) in rounded.biases[number].iter_mut().zip(gains.iter().zip(shifts))
        {
            *bias = (f64::from(*bias) * gain + shift) as f32;
        }
        built = rounded.build(prepared, &params.bits)?;
        progress.item(&layer.key);
    }
    Ok(())
}

/// The node of a layer in the quantized graph, and the value that it writes.
fn place(built: &Built, layer: &Layer) -> Result<(NodeId, ValueId)> {
    let output = built.raw.get(&layer.output).copied().unwrap_or(layer.output);
    let node = Index::new(&built.graph).producer(output);
    node.map(|node| (node, output)).ok_or_else(|| {
        let name = built.graph.name(output);
        Error::internal(format!("nothing writes `{name}` in the quantized graph"))
    })
}

/// The axis of a layer's input and output along which its channels are.
fn channel_axis(prepared: &Prepared, layer: &Layer) -> usize {
    match prepared.graph.node(layer.node).op.as_str() {
        "Conv" | "ConvTranspose" => 1,
        _ => prepared.facts.dims(layer.output).map_or(1, |dims| dims.len().max(1) - 1),
    }
}

/// Sums by channel.
#[derive(Default)]
struct Means {
    sums: Vec<f64>,
    count: f64,
}

impl Means {
    fn add(&mut self, array: &Array, axis: usize) -> Result<()> {
        let dims = array.dims();
        let channels = dims.get(axis).copied().unwrap_or(1);
        let inner: usize = dims.iter().skip(axis + 1).product::<usize>().max(1);
        self.sums.resize(channels, 0.0);
        let values = array.f32s()?;
        for (i, row) in values.chunks_exact(inner).enumerate() {
            self.sums[i % channels] += row.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
        self.count += (values.len() / channels.max(1)) as f64;
        Ok(())
    }

    fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.count.max(1.0)).collect()
    }
}

/// Sums from which a line per channel follows.
#[derive(Default)]
struct Lines {
    count: f64,
    /// By channel: sums of the float responses, of the quantized ones, of the squares of these, and
    /// of the products.
    sums: Vec<[f64; 4]>,
}

impl Lines {
    fn add(&mut self, then: &Array, now: &Array, axis: usize) -> Result<()> {
        let dims = then.dims();
        let channels = dims.get(axis).copied().unwrap_or(1);
        let inner: usize = dims.iter().skip(axis + 1).product::<usize>().max(1);
        self.sums.resize(channels, [0.0; 4]);
        let (then, now) = (then.f32s()?, now.f32s()?);
        let rows = then.chunks_exact(inner).zip(now.chunks_exact(inner));
        for (i, (then, now)) in rows.enumerate() {
            let sums = &mut self.sums[i % channels];
            for (&y, &x) in then.iter().zip(now) {
                let (y, x) = (f64::from(y), f64::from(x));
                for (sum, term) in sums.iter_mut().zip([y, x, x * x, x * y]) {
                    *sum += term;
                }
            }
        }
        self.count += (then.len() / channels.max(1)) as f64;
        Ok(())
    }

    fn channels(&self) -> usize {
        self.sums.len()
    }

    /// The slope of each line; 1 where the responses say nothing about it.
    fn gains(&self) -> Vec<f64> {
        /// Beyond this the responses have little to do with each other.
        const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.5..=2.0;
        let count = self.count.max(1.0);
        let gain = |&[y, x, xx, xy]: &[f64; 4]| {
            let variance = xx - x * x / count;
            // Below this share of the energy the variance is what rounding left of it.
            let is_flat = variance <= 1e-9 * xx;
            let gain = (xy - x * y / count) / variance;
            if !is_flat && PLAUSIBLE.contains(&gain) { gain } else { 1.0 }
        };
        self.sums.iter().map(gain).collect()
    }

    /// Where each line begins.
    fn shifts(&self, gains: &[f64]) -> Vec<f64> {
        let count = self.count.max(1.0);
        self.sums.iter().zip(gains).map(|([y, x, ..], gain)| (y - gain * x) / count).collect()
    }
}
