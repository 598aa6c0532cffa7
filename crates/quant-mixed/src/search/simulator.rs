//! Runs a model as it would be with given bits.

use super::{Bits, Problem};
use crate::bits::{Assignment, LayerBits};
use crate::model::Prepared;
use crate::plan::MAX_BITS;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use tensor_core::run::{Array, Session};
use tensor_core::train::{log_softmax, scores};
use tensor_core::{Error, Graph, Result, ValueId};

/// Right answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Samples whose class has the highest score.
    pub right: u64,
    /// Samples.
    pub of: u64,
}

impl Score {
    /// Share of right answers.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.of.max(1) as f64
    }
}

/// How an allocation does on the samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Right answers, where there are labels.
    pub score: Option<Score>,
    /// Mean Kullback-Leibler divergence of the outputs from those of the float model, in nats; the largest
    /// number where outputs are not finite, as JSON holds no others.
    pub divergence: f64,
}

/// A batch of samples.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Arrays in the order of the graph's inputs.
    pub inputs: Vec<Array>,
    /// Classes, where there are any.
    pub labels: Option<Vec<u32>>,
}

/// A model whose layers can be given any bits, and samples to judge it on.
///
/// Layers are those of a [`Problem`], by name. Quantized weights are kept by [`Prepared`], so an
/// allocation costs one run over the samples.
pub struct Simulator<'a> {
    prepared: &'a Prepared,
    names: Vec<String>,
    samples: Vec<Samples>,
    /// Logarithms of the float model's probabilities, by batch.
    float: Vec<Tensor>,
}

impl<'a> Simulator<'a> {
    /// Runs the float model on the samples. Only layers that can be quantized may be searched: the
    /// others must be pinned or absent.
    ///
    /// # Errors
    /// `E0551` when the model has no such layer; `E0304` when its first output is no table of scores, `E0405` when a sigmoid makes it.
    pub fn new(prepared: &'a Prepared, names: &[&str], samples: Vec<Samples>) -> Result<Self> {
        if let Some(name) = names.iter().find(|name| prepared.layer(name).is_none()) {
            return Err(Error::invalid(format!("layer `{name}` cannot be quantized"))
                .code_is("E0551")
                .hint("`kerf quantize --dry-run` lists layers that stay float, with the reason"));
        }
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut simulator = Self { prepared, names, samples, float: Vec::new() };
        simulator.float = simulator.logs(&prepared.graph)?;
        Ok(simulator)
    }

    /// The layers of the problem that this is for.
    pub fn of_problem(
        prepared: &'a Prepared,
        problem: &Problem,
        samples: Vec<Samples>,
    ) -> Result<Self> {
        let names: Vec<&str> = (0..problem.len()).map(|layer| problem.name(layer)).collect();
        Self::new(prepared, &names, samples)
    }

    /// Logarithms of probabilities, N x classes for each batch: of the scores before a softmax where the
    /// model ends in one.
    fn logs(&self, graph: &Graph) -> Result<Vec<Tensor>> {
        let wanted = [scores(graph)?];
        let session = Session::until(graph, &wanted)?;
        let run = |samples: &Samples| {
            let inputs: Vec<(ValueId, Array)> =
                graph.inputs.iter().copied().zip(samples.inputs.iter().cloned()).collect();
            let first = session.fetch(&inputs, &wanted)?.into_iter().next();
            let scores = first.ok_or_else(|| scores_wanted(&[]))?.tensor;
            let scores = match *scores.dims() {
                [_, _] => scores,
                [n, classes, ref rest @ ..] if rest.iter().all(|&dim| dim == 1) => {
                    scores.reshape((n, classes))?
                }
                _ => return Err(scores_wanted(scores.dims())),
            };
            log_softmax(&scores.to_dtype(DType::F32)?)
        };
        self.samples.iter().map(run).collect()
    }

    /// The model with these bits.
    ///
    /// # Errors
    /// `E0500` for bits outside of 1 to 8.
    pub fn graph(&self, bits: &[Bits]) -> Result<Graph> {
        self.prepared.simulate(&self.assignment(bits))
    }

    /// The model that is given bits.
    #[cfg(feature = "train")]
    pub(super) fn prepared(&self) -> &Prepared {
        self.prepared
    }

    /// These bits by layer.
    pub(super) fn assignment(&self, bits: &[Bits]) -> Assignment {
        let narrow = |bits: u32| u8::try_from(bits).unwrap_or(u8::MAX);
        let mut assignment = Assignment::uniform(MAX_BITS as u8, MAX_BITS as u8);
        for (name, bits) in self.names.iter().zip(bits) {
            let bits =
                LayerBits { weights: narrow(bits.weights), activations: narrow(bits.activations) };
            assignment.layers.insert(name.clone(), bits);
        }
        assignment
    }

    /// Mean Kullback-Leibler divergence of the outputs with these bits from those of the float model, in
    /// nats: needs no labels.
    ///
    /// # Errors
    /// As [`graph`](Self::graph).
    pub fn divergence(&self, bits: &[Bits]) -> Result<f64> {
        self.apart(&self.logs(&self.graph(bits)?)?)
    }

    /// Mean divergence of such logarithms from those of the float model.
    fn apart(&self, logs: &[Tensor]) -> Result<f64> {
        let (mut sum, mut count) = (0.0, 0);
        for (float, logs) in self.float.iter().zip(logs) {
            let (float, logs) = (float.to_vec2::<f32>()?, logs.to_vec2::<f32>()?);
            count += float.len();
            for (p, q) in float.iter().flatten().zip(logs.iter().flatten()) {
                sum += f64::from(*p).exp() * (f64::from(*p) - f64::from(*q));
            }
        }
        Ok(sum / count.max(1) as f64)
    }

    /// Divergence, and right answers where all samples have labels, from one run.
    ///
    /// # Errors
    /// As [`graph`](Self::graph).
    pub fn judge(&self, bits: &[Bits]) -> Result<Judgement> {
        self.judge_graph(&self.graph(bits)?)
    }

    /// As [`judge`](Self::judge), of a model with the inputs and outputs of this one.
    ///
    /// # Errors
    /// When it does not run on the samples.
    pub fn judge_graph(&self, graph: &Graph) -> Result<Judgement> {
        let logs = self.logs(graph)?;
        let score = self.is_labelled().then(|| self.count(&logs)).transpose()?;
        let divergence = self.apart(&logs)?;
        let divergence = if divergence.is_finite() { divergence } else { f64::MAX };
        Ok(Judgement { score, divergence })
    }

    /// Right answers with these bits.
    ///
    /// # Errors
    /// As [`graph`](Self::graph); `E0207` without labels.
    pub fn score(&self, bits: &[Bits]) -> Result<Score> {
        self.count(&self.logs(&self.graph(bits)?)?)
    }

    /// What the float model does: nothing is between it and itself.
    ///
    /// # Errors
    /// None that its own run did not have.
    pub fn float_judgement(&self) -> Result<Judgement> {
        let score = self.is_labelled().then(|| self.float_score()).transpose()?;
        Ok(Judgement { score, divergence: 0.0 })
    }

    fn is_labelled(&self) -> bool {
        self.samples.iter().all(|samples| samples.labels.is_some())
    }

    /// Right answers of the float model.
    ///
    /// # Errors
    /// `E0207` without labels.
    pub fn float_score(&self) -> Result<Score> {
        self.count(&self.float)
    }

    fn count(&self, logs: &[Tensor]) -> Result<Score> {
        let mut score = Score { right: 0, of: 0 };
        for (samples, logs) in self.samples.iter().zip(logs) {
            let labels = samples.labels.as_ref().ok_or_else(|| {
                Error::invalid("accuracy needs labels")
                    .code_is("E0207")
                    .hint("give `labels`, or a method that needs none")
            })?;
            for (row, &label) in logs.to_vec2::<f32>()?.iter().zip(labels) {
                score.of += 1;
                let own = row.get(label as usize).copied().unwrap_or(f32::NAN);
                // The first of equal scores wins; NaN is no answer.
                let above = row
                    .iter()
                    .enumerate()
                    .any(|(class, &other)| other > own || (other == own && class < label as usize));
                score.right += u64::from(!above && !own.is_nan());
            }
        }
        Ok(score)
    }
}

fn scores_wanted(dims: &[usize]) -> Error {
    Error::invalid(format!("the first output has shape {dims:?}, which is no list of class scores"))
        .code_is("E0304")
}
