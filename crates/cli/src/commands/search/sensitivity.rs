//! What layers lose by fewer bits: measured once, kept in the run folder.

use super::args::{MeasureArg, SearchArgs};
use crate::commands::Context;
use crate::input;
use quant_mixed::model::Prepared;
use quant_mixed::search::{
    Bits, LayerSensitivity, Problem, Samples, Sensitivities, Simulator, hessian,
};
use serde_json::json;
use std::path::Path;
use tensor_core::journal::{Identity, Journal};
use tensor_core::run::Array;
use tensor_core::text::counted;
use tensor_core::{Error, Result};

/// Samples, gradients and vectors of a trace: a compromise, as the spread over seeds falls with their root
/// and time grows with them.
const TRACE_BATCH: usize = 32;
const TRACE_DRAWS: usize = 8;

/// Measured, or read from the run folder when they are of the same model and samples.
pub(super) fn measured(
    args: &SearchArgs,
    (prepared, problem): (&Prepared, &Problem),
    samples: Vec<Samples>,
    batches: &[Vec<Array>],
    cx: &Context,
) -> Result<Sensitivities> {
    let names: Vec<&str> = (0..problem.len()).map(|layer| problem.name(layer)).collect();
    let min_bits = problem.params().min_bits;
    let measure = format!(
        "divergence on {} samples of {} prepared as {} with shapes {:?} at seed {}, {} for ranges, from \
         {min_bits} bits, model {}",
        args.sensitivity_samples,
        input::fingerprint(args.data.path())?,
        args.data.preparation()?,
        args.shared.shapes(),
        args.shared.seed,
        args.calibration,
        input::sha256(&args.model)?
    );
    let path = args.run.as_ref().map(|folder| folder.join("sensitivity.json"));
    let mut known = None;
    if let Some(path) = &path {
        known = Sensitivities::read(path, &measure, &names)?;
    }
    let measured = match known {
        Some(known) => known,
        None => {
            let simulator = Simulator::new(prepared, &names, samples)?;
            let mut divergence = |bits: &[Bits]| simulator.divergence(bits);
            match (&path, &args.run) {
                (Some(path), Some(folder)) => {
                    let what = (&names[..], min_bits, measure.as_str());
                    let partly = folder.join("sensitivity");
                    let measured = layer_by_layer(what, &partly, &mut divergence, cx)?;
                    measured.write(path)?;
                    std::fs::remove_dir_all(&partly).map_err(|error| Error::io(&partly, &error))?;
                    measured
                }
                _ => Sensitivities::measure(
                    &names,
                    min_bits,
                    &measure,
                    &mut divergence,
                    &cx.progress,
                )?,
            }
        }
    };
    if args.sensitivity == MeasureArg::Outputs {
        return Ok(measured);
    }
    let few: Vec<_> =
        batches.iter().take(1.max(TRACE_BATCH / batch_len(batches))).cloned().collect();
    let seed = args.shared.seed;
    let traces = hessian::mean_traces(prepared, &names, &few, TRACE_DRAWS, seed, &cx.progress)?;
    hessian::replace(&measured, prepared, &traces, min_bits)
}

/// Measures what the journal of a folder does not hold yet.
fn layer_by_layer(
    (names, min_bits, measure): (&[&str], u32, &str),
    folder: &Path,
    divergence: &mut dyn FnMut(&[Bits]) -> Result<f64>,
    cx: &Context,
) -> Result<Sensitivities> {
    let mut identity = Identity::new();
    identity.insert("measure".to_owned(), json!(measure));
    identity.insert("layers".to_owned(), json!(names));
    let (mut journal, entries) = Journal::open(folder, "sensitivity", &identity)?;
    let known = entries.iter().map(LayerSensitivity::from_json).collect::<Result<Vec<_>>>()?;
    if !known.is_empty() {
        cx.console.note(&format!("goes on behind {}", counted(known.len(), "measured layer")));
    }
    let mut after = |layer: &LayerSensitivity| journal.append(&json!(layer));
    let what = (names, min_bits, measure);
    Sensitivities::resume(what, known, divergence, &mut after, &cx.progress)
}

fn batch_len(batches: &[Vec<Array>]) -> usize {
    let first = batches.first().and_then(|batch| batch.first());
    first.and_then(|array| array.dims().first().copied()).unwrap_or(1).max(1)
}
