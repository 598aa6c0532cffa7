//! Rounding weights on calibration statistics, from shallow to deep.

use super::build::{Built, Numbers, build};
use super::layers::Layer;
use super::nearest::Nearest;
use super::params::{BiasCorrection, QuantizeParams, Rounding};
use super::prepared::Prepared;
use super::weights::QuantizedWeight;
use super::{adaptive, optimal};
use crate::bits::Assignment;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use std::collections::BTreeMap;
use std::sync::Arc;
use tensor_core::calibrate::{
    LinearMap, Place, Replay, Sampling, Statistics, Walk, collect, shortcut,
};
use tensor_core::graph::Index;
use tensor_core::ops::{self, Inputs, NodeCx};
use tensor_core::progress::{self, Progress};
use tensor_core::rewrite::{self, Edit};
use tensor_core::run::Array;
use tensor_core::{Constant, Result};

/// Networks that hold activations: the float one and the one with rounded weights.
const NETWORKS: usize = 2;

/// Most input columns of a layer whose `X^T X` is formed; wider ones are rounded to the nearest.
const MAX_COLUMNS: usize = 4608;

/// Rounded weights and what their errors ask of the biases.
pub(super) struct Rounded {
    pub(super) weights: Vec<Arc<QuantizedWeight>>,
    pub(super) biases: Vec<Vec<f32>>,
    /// Layers whose bias has taken up the mean of its error already.
    pub(super) is_shifted: Vec<bool>,
    /// Layers that were rounded to the nearest though more was asked for, with the reason.
    pub(super) nearest: Vec<(usize, String)>,
}

impl Rounded {
    /// The quantized graph.
    pub(super) fn build(&self, prepared: &Prepared, bits: &Assignment) -> Result<Built> {
        let weights: Vec<&QuantizedWeight> = self.weights.iter().map(AsRef::as_ref).collect();
        let scales = BTreeMap::new();
        let numbers = Numbers { weights: &weights, biases: &self.biases, scales: &scales };
        build(prepared, bits, numbers)
    }
}

/// Rounds the weights of all layers. Inputs are those of the network whose weights are rounded by
/// then; each bias takes up the mean of its layer's error, unless biases are to stay.
pub(super) fn round_weights(
    prepared: &Prepared,
    batches: &[Vec<Array>],
    params: &QuantizeParams,
    progress: &dyn Progress,
) -> Result<Rounded> {
    let bits = |layer: &Layer| params.bits.of(&layer.key).weights;
    let corrects = params.bias_correction != BiasCorrection::None;
    let bias = |layer: &Layer| match prepared.bias(layer)? {
        none if none.is_empty() && layer.takes_bias && corrects => Ok(vec![0.0; layer.outputs()]),
        bias => Ok(bias),
    };
    let biases = prepared.layers.iter().map(bias).collect::<Result<_>>()?;
    let is_shifted = vec![false; prepared.layers.len()];
    let mut rounded = Rounded { weights: Vec::new(), biases, is_shifted, nearest: Vec::new() };
    if params.rounding == Rounding::Nearest {
        for (number, layer) in prepared.layers.iter().enumerate() {
            rounded.weights.push(prepared.nearest_weight(number, bits(layer))?);
        }
        return Ok(rounded);
    }
    let mut current = Replay::new(&prepared.graph, batches.to_vec(), params.memory / NETWORKS)?;
    let mut original = current.clone();
    let mut graph = prepared.graph.clone();
    progress.stage("round", prepared.layers.len());
    for (number, layer) in prepared.layers.iter().enumerate() {
        progress::check(progress)?;
        let map = match linear_map(prepared, layer)? {
            Some(map) if map.shape().columns() <= MAX_COLUMNS => map,
            other => {
                let reason = match other {
                    Some(map) => {
                        let columns = map.shape().columns();
                        format!("{columns} inputs of an output are more than {MAX_COLUMNS}")
                    }
                    None => "its response is no linear map of its input".to_owned(),
                };
                rounded.nearest.push((number, reason));
                rounded.weights.push(prepared.nearest_weight(number, bits(layer))?);
                progress.item(&layer.key);
                continue;
            }
        };
        let place = Place {
            node: layer.node,
            input: layer.input,
            output: layer.output,
            map: &*map,
            shortcut: shortcut(
                &prepared.graph,
                &prepared.facts,
                &Index::new(&prepared.graph),
                layer.node,
                layer.output,
            ),
        };
        let mut from = Walk { graph: &prepared.graph, replay: &mut original };
        let mut to = Walk { graph: &graph, replay: &mut current };
        let sampling =
            Sampling { positions: params.positions, seed: params.seed, keep_rows: false };
        let facts = &prepared.facts;
        let collected = collect(&place, facts, &mut from, Some(&mut to), sampling, progress)?;
        let RoundedLayer { weight, shift, is_nearest } = round_layer(
            prepared,
            layer,
            &*map,
            collected.statistics,
            bits(layer),
            params.rounding,
        )?;
        if is_nearest {
            let reason = "the second moments of its inputs cannot be inverted";
            rounded.nearest.push((number, reason.to_owned()));
        }
        if layer.takes_bias && corrects {
            let bias = rounded.biases[number].iter_mut().zip(shift);
            bias.for_each(|(bias, shift)| *bias += shift as f32);
            rounded.is_shifted[number] = true;
        }
        graph = rewrite::apply(
            &graph,
            &edits(layer, &weight.values(layer)?, &rounded.biases[number])?,
        )?;
        rounded.weights.push(Arc::new(weight));
        progress.item(&layer.key);
    }
    Ok(rounded)
}

/// The layer as a linear map, where it is one.
pub(super) fn linear_map(prepared: &Prepared, layer: &Layer) -> Result<Option<Box<dyn LinearMap>>> {
    let cx = NodeCx::new(&prepared.graph, layer.node);
    let operator = ops::for_node(&prepared.graph, layer.node)?;
    let facts = cx.node.inputs.iter().map(|v| v.and_then(|v| prepared.facts.get(v)));
    operator.linear(&cx, &Inputs::new(facts.collect())).map_err(|error| cx.locate(error))
}

/// A layer with rounded weights.
struct RoundedLayer {
    weight: QuantizedWeight,
    /// What each bias has to take up.
    shift: Vec<f64>,
    /// Was a group of outputs rounded to the nearest?
    is_nearest: bool,
}

/// Rounds one layer.
fn round_layer(
    prepared: &Prepared,
    layer: &Layer,
    map: &dyn LinearMap,
    statistics: Vec<[Statistics; 2]>,
    bits: u8,
    rounding: Rounding,
) -> Result<RoundedLayer> {
    let weight = prepared.weight(layer)?;
    let quantizer = prepared.weight_grids(layer, &weight, bits)?;
    let shape = map.shape();
    let (p, n) = (shape.columns(), shape.group_outputs());
    let rows = map.rows_of_weight(&weight);
    let nearest = Nearest::new(&quantizer, layer, map)?;
    let mut integers = Vec::with_capacity(rows.len());
    let mut shift = Vec::with_capacity(shape.outputs);
    let mut is_nearest = false;
    for (group, halves) in statistics.into_iter().enumerate() {
        let moments = Second::new(halves)?;
        let rows = &rows[group * p * n..][..p * n];
        let nearest = nearest.from(group * p * n);
        let found = match (rounding, &nearest) {
            (Rounding::Adaptive, Nearest::Grid { grid, scales }) => {
                Some(adaptive::round(moments.mean().as_ref(), rows, (*grid, scales)))
            }
            _ => optimal::round(moments.gram.as_ref(), rows, &nearest),
        };
        is_nearest |= found.is_none();
        let found = found
            .unwrap_or_else(|| rows.iter().enumerate().map(|(i, &w)| nearest.code(i, w)).collect());
        for (o, (row, found)) in rows.chunks_exact(p).zip(found.chunks_exact(p)).enumerate() {
            let lost = row.iter().zip(found).zip(&moments.mean_x).enumerate();
            let lost = lost.map(|(j, ((&w, &q), mean))| {
                (f64::from(w) - f64::from(nearest.number(o * p + j, q))) * mean
            });
            shift.push(lost.sum());
        }
        integers.extend(found);
    }
    let floats: Vec<f32> = integers.iter().map(|&q| q as f32).collect();
    // Integers of 8 bits pass through floats unchanged.
    let integers = map.weight_of_rows(&floats).into_iter().map(|q| q as i32).collect();
    Ok(RoundedLayer { weight: QuantizedWeight { bits, quantizer, integers }, shift, is_nearest })
}

/// Second moments of the inputs about their means, and the means.
struct Second {
    gram: Mat<f64>,
    mean_x: Vec<f64>,
    rows: usize,
}

impl Second {
    fn new([mut statistics, odd]: [Statistics; 2]) -> Result<Self> {
        statistics.merge(&odd)?;
        let rows = statistics.rows();
        Ok(match statistics {
            Statistics::Moments(moments) => {
                let centred = moments.centred()?;
                Self { gram: centred.gram, mean_x: centred.mean_x, rows }
            }
            Statistics::Rows(all) => {
                let centred = all.centred()?;
                let p = centred.x.ncols();
                let mut gram = Mat::zeros(p, p);
                let x = centred.x.as_ref();
                matmul(gram.as_mut(), Accum::Replace, x.transpose(), x, 1.0, Par::Seq);
                Self { gram, mean_x: centred.mean_x, rows }
            }
        })
    }

    /// The moments of one row, on average.
    fn mean(&self) -> Mat<f64> {
        let rows = self.rows.max(1) as f64;
        Mat::from_fn(self.gram.nrows(), self.gram.ncols(), |i, j| self.gram[(i, j)] / rows)
    }
}

/// The layer with another weight and bias.
pub(super) fn edits(layer: &Layer, weight: &[f32], bias: &[f32]) -> Result<Vec<Edit>> {
    let node = layer.node;
    let values = Constant::from_f32s(&layer.dims, weight)?;
    let mut edits = vec![Edit::SetInput { node, input: 1, constant: values }];
    if layer.takes_bias && !bias.is_empty() {
        let constant = Constant::from_f32s(&[bias.len()], bias)?;
        edits.push(Edit::SetInput { node, input: 2, constant });
    }
    Ok(edits)
}
