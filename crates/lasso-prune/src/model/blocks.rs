//! Label-free reconstruction of blocks by gradient steps.
//!
//! Least squares fits one layer at a time to the original's response and never goes back. Here all
//! weights of the pruned model move together, so that the outputs of its blocks, and its own outputs,
//! come close to those of the original:
//!
//! ```text
//! min over W   1/B sum_b |Y_b - Y_b'|^2 / |Y_b - mean Y_b|^2  +  1/O sum_o (the same for the outputs)
//! ```

use super::prune::Pruned;
use super::reference::Response;
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use tensor_core::graph::{Dim, Graph};
use tensor_core::progress::{self, Progress};
use tensor_core::run::{Array, Session};
use tensor_core::train::{Fitter, prepare};
use tensor_core::{Error, Result, ValueId, random};

/// How blocks are reconstructed.
///
/// | field | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `steps` | 300 | gradient steps | >= 1 |
/// | `rate` | 1e-3 | learning rate of Adam; rises for a twentieth of the steps, then falls to zero as a cosine | > 0 |
/// | `batch` | 32 | samples of a step | >= 1 |
/// | `seed` | 0 | drives the order of the samples | |
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockParams {
    /// Gradient steps.
    pub steps: usize,
    /// Learning rate of Adam.
    pub rate: f64,
    /// Samples of a step.
    pub batch: usize,
    /// Drives the order of the samples.
    pub seed: u64,
}

impl Default for BlockParams {
    fn default() -> Self {
        Self { steps: 300, rate: 1e-3, batch: 32, seed: 0 }
    }
}

/// What the steps gained.
#[derive(Debug, Clone, Serialize)]
pub struct BlockReport {
    /// Steps taken.
    pub steps: usize,
    /// The step whose weights were the best on the samples that were held out.
    pub best_step: usize,
    /// Blocks, without the outputs.
    pub blocks: usize,
    /// Samples that were held out; with none, errors are those of the samples that were fitted.
    pub held_out: usize,
    /// The objective before the first step.
    pub error_before: f64,
    /// The objective with the best weights.
    pub error_after: f64,
}

/// One part of every this many is held out.
const HELD_OUT: usize = 8;

/// Fewer parts than this are all fitted.
const FEW: usize = 16;

/// Times that the held-out error is measured.
const CHECKS: usize = 8;

/// Lets the weights of a pruned model follow the gradients of the objective, on the calibration
/// samples. The weights with the least held-out error stay, which may be those before the first step.
///
/// # Errors
/// `E0141` when a parameter is out of range; `E0402` when the model has no weight that can be trained;
/// `E0401` when the loss is not finite.
pub fn reconstruct_blocks(
    pruned: &Pruned,
    batches: &[Vec<Array>],
    params: BlockParams,
    progress: &dyn Progress,
) -> Result<(Graph, BlockReport)> {
    params.check()?;
    let graph = prepare(&pruned.graph);
    let targets = Targets::new(pruned, &graph)?;
    let mut fitter = Fitter::new(&graph, &targets.made)?;
    let is_fixed = takes_fixed_batches(&graph);
    let parts = if is_fixed { batches.to_vec() } else { samples(batches)? };
    let size = if is_fixed { 1 } else { params.batch };
    let (mut fitted, mut held): (Vec<&Vec<Array>>, Vec<&Vec<Array>>) = (Vec::new(), Vec::new());
    let is_split = parts.len() >= FEW;
    for (at, part) in parts.iter().enumerate() {
        if is_split && at % HELD_OUT == HELD_OUT - 1 { &mut held } else { &mut fitted }.push(part);
    }
    let judged = if is_split { &held } else { &fitted };
    let first = joined(&fitted[..size.min(fitted.len())])?;
    let scales = targets.scales(&targets.expected(&first)?)?;
    let judge = |fitter: &Fitter| -> Result<f64> {
        let mut sum = 0.0;
        for chunk in judged.chunks(size) {
            let inputs = joined(chunk)?;
            let loss =
                targets.loss(&fitter.values(&inputs)?, &targets.expected(&inputs)?, &scales)?;
            sum += f64::from(loss.to_scalar::<f32>()?) * chunk.len() as f64;
        }
        Ok(sum / judged.len() as f64)
    };
    let before = judge(&fitter)?;
    let (mut best, mut best_step, mut error) = (None, 0, before);
    progress.stage("reconstruct blocks", params.steps);
    let mut order: Vec<usize> = Vec::new();
    for step in 0..params.steps {
        progress::check(progress)?;
        while order.len() < size.min(fitted.len()) {
            let mut epoch: Vec<usize> = (0..fitted.len()).collect();
            let mut rng = random::stream(params.seed, &format!("blocks/{step}"));
            for i in (1..epoch.len()).rev() {
                epoch.swap(i, random::below(&mut rng, i as u64 + 1) as usize);
            }
            order.splice(0..0, epoch);
        }
        let taken = order.split_off(order.len() - size.min(fitted.len()));
        let chosen: Vec<_> = taken.into_iter().map(|at| fitted[at]).collect();
        let inputs = joined(&chosen)?;
        let expected = targets.expected(&inputs)?;
        let loss = |values: &[Array]| targets.loss(values, &expected, &scales);
        fitter.step(step as u64, params.rate_at(step), &inputs, loss)?;
        let is_checked = (step + 1) % params.steps.div_ceil(CHECKS) == 0;
        if is_checked || step + 1 == params.steps {
            let now = judge(&fitter)?;
            if now < error {
                (best, best_step, error) = (Some(fitter.written()?), step + 1, now);
            }
        }
        progress.item("step");
    }
    let report = BlockReport {
        steps: params.steps,
        best_step,
        blocks: targets.blocks,
        held_out: held.len(),
        error_before: before,
        error_after: error,
    };
    Ok((best.unwrap_or_else(|| pruned.graph.clone()), report))
}

impl BlockParams {
    fn check(self) -> Result<()> {
        let is_valid = self.steps > 0 && self.batch > 0 && self.rate > 0.0 && self.rate.is_finite();
        if is_valid {
            return Ok(());
        }
        Err(Error::invalid("steps, batch and rate of a reconstruction should be positive")
            .code_is("E0141"))
    }

    fn rate_at(self, step: usize) -> f64 {
        /// Share of the steps in which the rate rises.
        const WARMUP: f64 = 0.05;
        let at = (step as f64 + 1.0) / self.steps as f64;
        let fall = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / self.steps as f64).cos());
        self.rate * fall * (at / WARMUP).min(1.0)
    }
}

/// The values that the objective compares.
struct Targets<'a> {
    graph: &'a Graph,
    session: Session<'a>,
    original: Vec<ValueId>,
    made: Vec<ValueId>,
    /// Axis and channels of those that lost some.
    keep: Vec<Option<(usize, Tensor)>>,
    /// How many of them are blocks; outputs follow.
    blocks: usize,
}

impl<'a> Targets<'a> {
    fn new(pruned: &'a Pruned, graph: &Graph) -> Result<Self> {
        let reference = &pruned.reference;
        let both = |name: &str| reference.graph.find(name).zip(graph.find(name));
        let (mut original, mut made, mut keep) = (Vec::new(), Vec::new(), Vec::new());
        let is_output = |value: &ValueId| graph.outputs.contains(value);
        for Response { name, axis, keep: kept } in reference.blocks() {
            let Some((from, to)) = both(name).filter(|(_, to)| !is_output(to)) else { continue };
            original.push(from);
            made.push(to);
            let indices = kept.as_ref().map(|kept| {
                let kept: Vec<u32> = kept.iter().map(|&i| i as u32).collect();
                Ok::<_, Error>((*axis, Tensor::new(kept, &Device::Cpu)?))
            });
            keep.push(indices.transpose()?);
        }
        let blocks = made.len();
        for &output in &graph.outputs {
            if let Some((from, to)) = both(graph.name(output)) {
                original.push(from);
                made.push(to);
                keep.push(None);
            }
        }
        let session = Session::until(&reference.graph, &original)?;
        Ok(Self { graph: &reference.graph, session, original, made, keep, blocks })
    }

    /// What the original gives for these inputs.
    fn expected(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let inputs: Vec<_> =
            self.graph.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
        let mut values = self.session.fetch(&inputs, &self.original)?;
        for (value, keep) in values.iter_mut().zip(&self.keep) {
            if let Some((axis, indices)) = keep {
                value.tensor = value.tensor.index_select(indices, *axis)?;
            }
        }
        Ok(values)
    }

    /// What the mean squared difference of each target is multiplied by; zero for what is no float or
    /// does not vary.
    fn scales(&self, expected: &[Array]) -> Result<Vec<f64>> {
        let outputs = expected.len() - self.blocks;
        let scale = |(at, array): (usize, &Array)| -> Result<f64> {
            if !array.element.is_float() {
                return Ok(0.0);
            }
            let values = array.to_f32s()?;
            let count = values.len().max(1) as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
            let square = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
            let share = if at < self.blocks { self.blocks } else { outputs };
            let scale = 1.0 / (square * share as f64);
            Ok(if scale.is_finite() { scale } else { 0.0 })
        };
        expected.iter().enumerate().map(scale).collect()
    }

    /// The objective.
    fn loss(&self, values: &[Array], expected: &[Array], scales: &[f64]) -> Result<Tensor> {
        let mut sum = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        for ((value, expected), &scale) in values.iter().zip(expected).zip(scales) {
            if scale > 0.0 {
                let difference = (&value.tensor - &expected.tensor)?;
                sum = (sum + (difference.sqr()?.mean_all()? * scale)?)?;
            }
        }
        Ok(sum)
    }
}

/// Does the model fix the size of a batch? Then a step takes one of those that were given.
fn takes_fixed_batches(graph: &Graph) -> bool {
    graph.inputs.iter().any(|&input| {
        let dims = graph.declared(input).and_then(|declared| declared.dims.as_ref());
        matches!(dims.and_then(|dims| dims.first()), Some(Dim::Known(_)))
    })
}

/// All samples, each as a batch of its own.
fn samples(batches: &[Vec<Array>]) -> Result<Vec<Vec<Array>>> {
    let mut parts = Vec::new();
    for batch in batches {
        let count = batch.first().and_then(|array| array.dims().first()).copied().unwrap_or(0);
        for at in 0..count {
            let part = |array: &Array| -> Result<Array> {
                Ok(Array { tensor: array.tensor.narrow(0, at, 1)?, element: array.element })
            };
            parts.push(batch.iter().map(part).collect::<Result<_>>()?);
        }
    }
    Ok(parts)
}

/// Several parts as one batch.
fn joined(parts: &[&Vec<Array>]) -> Result<Vec<Array>> {
    let first = parts.first().ok_or_else(|| Error::invalid("no sample").code_is("E0144"))?;
    let input = |at: usize| -> Result<Array> {
        let tensors: Vec<&Tensor> = parts.iter().map(|part| &part[at].tensor).collect();
        Ok(Array { tensor: Tensor::cat(&tensors, 0)?, element: first[at].element })
    };
    (0..first.len()).map(input).collect()
}
