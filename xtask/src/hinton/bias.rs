//! The bias of a class that the transfer set lacks.

use anyhow::{Context, Result};
use std::path::Path;
use tensor_core::data::{self, InputSpec, Options, Preprocess};
use tensor_core::onnx;
use tensor_core::run::Session;

/// Errors before and after the correction.
pub(super) struct Corrected {
    pub(super) errors: u64,
    pub(super) omitted_errors: u64,
    pub(super) shift: f32,
    pub(super) corrected_errors: u64,
    pub(super) corrected_omitted_errors: u64,
}

/// Raises the logit of the omitted class by what gives the fewest errors. A bias of the last layer
/// is added to a logit, so nothing has to be run again.
pub(super) fn correct(model: &Path, test: &Path, omitted: u8) -> Result<Corrected> {
    let graph = onnx::read(model)?;
    let preprocess = Preprocess::read(Path::new("fixtures/preprocess/fmnist.json"))?;
    let options = Options { preprocess, inputs: InputSpec::of(&graph), ..Options::default() };
    let set = data::open(test, &options)?;
    let session = Session::new(&graph)?;
    let mut rows = Vec::new();
    for batch in set.batches(500) {
        let batch = batch?;
        let outputs = session.run_one(batch.single()?.clone())?;
        let logits = outputs.first().context("no output")?.tensor.to_vec2::<f32>()?;
        rows.extend(logits.into_iter().zip(batch.labels.context("no labels")?));
    }
    let omitted = usize::from(omitted);
    let count = |shift: f32| {
        let (mut all, mut own) = (0, 0);
        for (row, label) in &rows {
            let raised = |class: usize| row[class] + if class == omitted { shift } else { 0.0 };
            let best = (1..row.len()).fold(0, |a, b| if raised(b) > raised(a) { b } else { a });
            let label = *label as usize;
            all += u64::from(best != label);
            own += u64::from(best != label && label == omitted);
        }
        (all, own)
    };
    let (errors, omitted_errors) = count(0.0);
    let shifts = (0..=150).map(|tenths| tenths as f32 / 10.0);
    let best = shifts.map(|shift| (count(shift), shift)).min_by_key(|((errors, _), _)| *errors);
    let ((corrected_errors, corrected_omitted_errors), shift) = best.context("no shift")?;
    Ok(Corrected { errors, omitted_errors, shift, corrected_errors, corrected_omitted_errors })
}
