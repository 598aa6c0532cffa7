//! Sensitivities of weights from the curvature of the loss, as in HAWQ-V2 (Dong et al., NeurIPS 2020).
//!
//! `Omega(b) = Tr(H) / n * ||Q_b(W) - W||^2` for a layer of n weights with Hessian H. The loss is the
//! cross-entropy towards the model's own probabilities, which needs no labels and whose Hessian in the
//! weights is that of the divergence that [`Sensitivities::measure`] measures; half of Omega is its second-order
//! estimate, so both have the same unit. HAWQ leaves activations alone; they take those that were measured.
//!
//! The trace is Hutchinson's, `E[v' H v]` with entries of v of -1 or 1. All layers are moved at once by
//! the same v: products between layers vanish in the mean. `H v` is a difference of two gradients, since
//! there are no second derivatives here.

use super::Sensitivities;
use crate::model::Prepared;
use crate::plan::MAX_BITS;
use candle_core::{Device, Tensor};
use rand_chacha::rand_core::RngCore;
use std::collections::BTreeSet;
use tensor_core::graph::Index;
use tensor_core::progress::{self, Progress};
use tensor_core::rewrite::Stored;
use tensor_core::run::{Array, Session, Tap, Training};
use tensor_core::train::{self, log_softmax};
use tensor_core::{Error, Graph, Result, ValueId, random};

/// Step of the difference, relative to the root mean square weight of a layer. Smaller ones drown in
/// the rounding of 32-bit gradients, larger ones meet the third derivative.
const STEP: f64 = 0.01;

/// Looks at nothing.
struct Blind;

impl Tap for Blind {
    fn touches(&self, _value: ValueId) -> bool {
        false
    }
}

/// Mean of the trace of the Hessian over the weights of a layer, for each layer of `names`.
///
/// `batches` hold arrays in the order of the graph's inputs; `draws` vectors are drawn for each.
///
/// # Errors
/// `E0551` when there is no such layer; when the model cannot be differentiated.
pub fn mean_traces(
    prepared: &Prepared,
    names: &[&str],
    batches: &[Vec<Array>],
    draws: usize,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Vec<f64>> {
    let graph = &prepared.graph;
    let index = Index::new(graph);
    let mut weights = Vec::new();
    for name in names {
        let layer = prepared.layer(name).ok_or_else(|| {
            Error::invalid(format!("layer `{name}` cannot be quantized")).code_is("E0551")
        })?;
        let stored = Stored::required(graph, &index, layer.node, 1)?;
        let input = graph.node(layer.node).input(1).ok_or_else(|| Error::internal("no weight"))?;
        let values = stored.constant.to_f32s()?;
        weights.push((input, Tensor::from_vec(values, layer.dims.clone(), &Device::Cpu)?));
    }
    let from: Vec<ValueId> = weights.iter().map(|(value, _)| *value).collect();
    let target = train::scores(graph)?;
    let session = Session::between(graph, &from, &[target])?;
    let mut rng = random::stream(seed, "hutchinson");
    let mut sums = vec![0.0; weights.len()];
    progress.stage("estimate traces", batches.len() * draws);
    for batch in batches {
        let targets = scores(graph, &session, batch, &weights)?;
        for _ in 0..draws {
            progress::check(progress)?;
            let mut moves = Vec::new();
            for (_, weight) in &weights {
                let values = weight.flatten_all()?.to_vec1::<f32>()?;
                let square: f64 = values.iter().map(|&w| f64::from(w).powi(2)).sum();
                let step = STEP * (square / values.len().max(1) as f64).sqrt().max(1e-12);
                let signs: Vec<f32> = values.iter().map(|_| sign(&mut rng)).collect();
                let signs = Tensor::from_vec(signs, weight.dims(), &Device::Cpu)?;
                moves.push((signs, step));
            }
            let moved = |side: f64| -> Result<Vec<Option<Tensor>>> {
                let at = weights.iter().zip(&moves).map(|((value, weight), (signs, step))| {
                    Ok((*value, (weight + (signs * (side * step))?)?))
                });
                gradients(graph, &session, batch, &at.collect::<Result<Vec<_>>>()?, &targets)
            };
            // Layers move by steps of their own: the derivative along all of them is the sum over
            // layers of step H v, of which v' H v / step is taken for the layer itself.
            for (at, (up, down)) in moved(1.0)?.into_iter().zip(moved(-1.0)?).enumerate() {
                let (Some(up), Some(down)) = (up, down) else { continue };
                let (signs, step) = &moves[at];
                let along = ((up - down)? * signs)?.sum_all()?.to_scalar::<f32>()?;
                let count = signs.elem_count().max(1) as f64;
                sums[at] += f64::from(along) / (2.0 * step) / count;
            }
            progress.item("draw");
        }
    }
    let runs = (batches.len() * draws).max(1) as f64;
    Ok(sums.into_iter().map(|sum| (sum / runs).max(0.0)).collect())
}

/// Replaces the losses of weights by half of Omega.
///
/// # Errors
/// When weights cannot be quantized.
pub fn replace(
    sensitivities: &Sensitivities,
    prepared: &Prepared,
    traces: &[f64],
    min_bits: u32,
) -> Result<Sensitivities> {
    let mut new = sensitivities.clone();
    for (losses, trace) in new.layers.iter_mut().zip(traces) {
        let found = prepared.layers.iter().enumerate().find(|(_, layer)| layer.key == losses.name);
        let Some((at, layer)) = found else { continue };
        let weight = prepared.weight(layer)?;
        let mut most = 0.0_f64;
        for bits in (min_bits..=MAX_BITS).rev() {
            let quantized = prepared.nearest_weight(at, bits as u8)?.values(layer)?;
            let pairs = weight.iter().zip(&quantized);
            let error: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
            most = most.max(0.5 * trace * error);
            losses.weights[bits as usize - 1] = most;
        }
    }
    new.measure = format!("{}, weights by Hessian traces", sensitivities.measure);
    Ok(new)
}

fn sign(rng: &mut impl RngCore) -> f32 {
    if rng.next_u32() & 1 == 0 { -1.0 } else { 1.0 }
}

fn inputs(graph: &Graph, batch: &[Array], weights: &[(ValueId, Tensor)]) -> Vec<(ValueId, Array)> {
    let samples = graph.inputs.iter().copied().zip(batch.iter().cloned());
    let weights = weights.iter().map(|(value, weight)| (*value, Array::float(weight.clone())));
    samples.chain(weights).collect()
}

/// Probabilities of the model as it is.
fn scores(
    graph: &Graph,
    session: &Session,
    batch: &[Array],
    weights: &[(ValueId, Tensor)],
) -> Result<Tensor> {
    let fetched = session.fetch(&inputs(graph, batch, weights), &[train::scores(graph)?])?;
    let first = fetched.first().ok_or_else(|| Error::invalid("the model has no output"))?;
    Ok(log_softmax(&first.tensor)?.exp()?)
}

/// Gradients of the cross-entropy towards `targets`, by weight.
fn gradients(
    graph: &Graph,
    session: &Session,
    batch: &[Array],
    weights: &[(ValueId, Tensor)],
    targets: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let wanted: BTreeSet<ValueId> = weights.iter().map(|(value, _)| *value).collect();
    let mut training = Training::new(random::stream(0, "hessian"));
    let inputs = inputs(graph, batch, weights);
    let recording =
        session.record(&inputs, &wanted, &[train::scores(graph)?], &mut Blind, &mut training)?;
    let first = recording.outputs().first().ok_or_else(|| Error::invalid("no output"))?;
    let samples = targets.dims().first().copied().unwrap_or(1).max(1);
    let logs = log_softmax(&first.tensor)?;
    let loss = ((logs * targets)?.sum_all()? * (-1.0 / samples as f64))?;
    let mut gradients = recording.gradients(&loss)?;
    weights.iter().map(|(value, _)| gradients.take(*value)).collect()
}
