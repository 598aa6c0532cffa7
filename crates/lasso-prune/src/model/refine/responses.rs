//! The original's responses as a plug-in of the training loop.

use super::super::Pruned;
use super::super::prune::Compared;
use super::distance::ends;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use tensor_core::run::{Session, infer};
use tensor_core::train::{Plugin, Step};
use tensor_core::{Error, Graph, Result, ValueId};

/// Keeps the mean square of a value that is zero throughout from dividing by nothing.
const LEAST: f64 = 1e-12;

/// A value of both models.
pub(super) struct Pair {
    name: String,
    original: ValueId,
    /// What of the original's value the pruned model has: the axis, and positions on it.
    kept: Option<(usize, Tensor)>,
}

/// What layers of the pruned model read and the original has too, with the same samples on the first
/// axis.
pub(super) fn pairs(
    original: &Graph,
    pruned: &Pruned,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Vec<Pair>> {
    let (theirs, own) = (infer(original, shapes)?, infer(&pruned.graph, shapes)?);
    let mut pairs = Vec::new();
    for Compared { name, kept } in &pruned.reads {
        let (Some(value), Some(small)) = (original.find(name), pruned.graph.find(name)) else {
            continue;
        };
        let (Some(whole), Some(small)) = (theirs.dims(value), own.dims(small)) else { continue };
        let mut expected = whole.to_vec();
        if let Some((axis, positions)) = kept {
            expected[*axis] = positions.len();
        }
        if expected != small {
            continue;
        }
        let kept = match kept {
            Some((axis, positions)) => {
                let positions = positions.iter().map(|&position| position as u32);
                Some((*axis, Tensor::from_iter(positions, &Device::Cpu)?))
            }
            None => None,
        };
        pairs.push(Pair { name: name.clone(), original: value, kept });
    }
    Ok(pairs)
}

/// The loss.
pub(super) struct Responses {
    session: Session<'static>,
    inputs: Vec<ValueId>,
    /// The scores, the other outputs, then the values of the pairs.
    targets: Vec<ValueId>,
    /// Names of the other outputs.
    outputs: Vec<String>,
    pairs: Vec<Pair>,
}

impl Responses {
    pub(super) fn new(original: &Graph, pairs: Vec<Pair>) -> Result<Self> {
        let mut targets = ends(original)?;
        let outputs = targets[1..].iter().map(|&output| original.name(output).to_owned()).collect();
        targets.extend(pairs.iter().map(|pair| pair.original));
        let inputs = original.inputs.clone();
        let session = Session::owned(original.clone(), &targets)?;
        Ok(Self { session, inputs, targets, outputs, pairs })
    }
}

/// `|own - theirs|^2 / |theirs|^2`.
fn relative(own: &Tensor, theirs: &Tensor) -> Result<Tensor> {
    let signal = theirs.sqr()?.mean_all()?.to_scalar::<f32>()?;
    let error = (own - theirs)?.sqr()?.mean_all()?;
    Ok((error / f64::from(signal).max(LEAST))?)
}

impl Plugin for Responses {
    fn name(&self) -> &str {
        "responses"
    }

    fn wants(&self) -> Vec<String> {
        let pairs = self.pairs.iter().map(|pair| pair.name.clone());
        self.outputs.iter().cloned().chain(pairs).collect()
    }

    fn label_weight(&self) -> f64 {
        0.0
    }

    fn loss(&mut self, step: &Step) -> Result<Option<Tensor>> {
        let arrays = step.inputs.iter().map(|(_, array)| array.clone());
        let given: Vec<_> = self.inputs.iter().copied().zip(arrays).collect();
        let mut found = self.session.fetch(&given, &self.targets)?.into_iter();
        let scores = found.next().ok_or_else(|| Error::internal("an original without scores"))?;
        let scores = scores.tensor.detach().reshape(step.scores.shape())?;
        let mut total = relative(step.scores, &scores)?;
        for (name, array) in self.outputs.iter().zip(&mut found) {
            total = (total + relative(step.value(name)?, &array.tensor.detach())?)?;
        }
        total = (total / (1 + self.outputs.len()) as f64)?;
        let share = 1.0 / self.pairs.len().max(1) as f64;
        for (pair, array) in self.pairs.iter().zip(found) {
            let theirs = array.tensor.detach();
            let theirs = match &pair.kept {
                Some((axis, positions)) => theirs.index_select(positions, *axis)?,
                None => theirs,
            };
            let term = relative(step.value(&pair.name)?, &theirs)?;
            total = (total + (term * share)?)?;
        }
        Ok(Some(total))
    }
}
