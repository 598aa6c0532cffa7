//! How far the scores of two models are apart.

use tensor_core::data::Dataset;
use tensor_core::run::{Array, Session};
use tensor_core::train::scores;
use tensor_core::{Error, Graph, Result, ValueId};

/// Samples of a pass.
const BATCH: usize = 32;

/// Squared difference of the scores over the samples, relative to the square of the original's.
pub(super) fn distance(original: &Graph, other: &Graph, data: &Dataset) -> Result<f64> {
    let targets = [scores(original)?, scores(other)?];
    let sessions =
        [Session::until(original, &targets[..1])?, Session::until(other, &targets[1..])?];
    let (mut error, mut signal) = (0.0, 0.0);
    for batch in data.batches(BATCH) {
        let batch = batch?;
        let mut found = Vec::new();
        for ((graph, session), target) in [original, other].into_iter().zip(&sessions).zip(targets)
        {
            let inputs: Vec<(ValueId, Array)> = graph
                .inputs
                .iter()
                .zip(&batch.inputs)
                .map(|(&value, (_, tensor))| (value, Array::float(tensor.clone())))
                .collect();
            let mut outputs = session.fetch(&inputs, &[target])?;
            found.push(outputs.pop().ok_or_else(|| Error::internal("no scores"))?);
        }
        let (theirs, own) = (found[0].f32s()?, found[1].f32s()?);
        for (&a, &b) in theirs.iter().zip(own.iter()) {
            error += (f64::from(a) - f64::from(b)).powi(2);
            signal += f64::from(a).powi(2);
        }
    }
    Ok(error / signal.max(f64::MIN_POSITIVE))
}
