//! How far the outputs of two models are apart.

use tensor_core::data::Dataset;
use tensor_core::run::{Array, Session};
use tensor_core::train::scores;
use tensor_core::{Graph, Result, ValueId};

/// Samples of a pass.
const BATCH: usize = 32;

/// What the outputs of a model are compared by: the first before its softmax, and the others.
pub(super) fn ends(graph: &Graph) -> Result<Vec<ValueId>> {
    Ok(std::iter::once(scores(graph)?).chain(graph.outputs.iter().skip(1).copied()).collect())
}

/// Squared difference of the outputs over the samples, relative to the square of the original's; the mean
/// over outputs.
pub(super) fn distance(original: &Graph, other: &Graph, data: &Dataset) -> Result<f64> {
    let (theirs, own) = (Outputs::new(original)?, Outputs::new(other)?);
    let mut sums = vec![(0.0, f64::MIN_POSITIVE); theirs.targets.len()];
    for batch in data.batches(BATCH) {
        let inputs: Vec<Array> =
            batch?.inputs.into_iter().map(|(_, tensor)| Array::float(tensor)).collect();
        let pairs = theirs.of(&inputs)?.into_iter().zip(own.of(&inputs)?);
        for ((error, signal), (theirs, own)) in sums.iter_mut().zip(pairs) {
            for (&a, &b) in theirs.f32s()?.iter().zip(own.f32s()?.iter()) {
                *error += (f64::from(a) - f64::from(b)).powi(2);
                *signal += f64::from(a).powi(2);
            }
        }
    }
    let count = sums.len().max(1) as f64;
    Ok(sums.into_iter().map(|(error, signal)| error / signal).sum::<f64>() / count)
}

/// A model that is run for its outputs.
struct Outputs<'a> {
    graph: &'a Graph,
    session: Session<'a>,
    targets: Vec<ValueId>,
}

impl<'a> Outputs<'a> {
    fn new(graph: &'a Graph) -> Result<Self> {
        let targets = ends(graph)?;
        Ok(Self { graph, session: Session::until(graph, &targets)?, targets })
    }

    fn of(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let given: Vec<_> = self.graph.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
        self.session.fetch(&given, &self.targets)
    }
}
