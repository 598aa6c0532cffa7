//! The whole procedure.

use super::allot::allot;
use super::curves::Curve;
use super::cut::cut;
use super::evidence::Evidence;
use super::params::{Inputs, ValidPruneParams, Widths};
use super::prepare::{Parts, Prepared};
use super::refit::{Read, refit};
use super::report::{CURVE_POINTS, FrozenReport, LayerReport, PruneReport, SetReport};
use super::scope::Scope;
use super::sets::{Frozen, Set};
use super::source::{Checked, Source};
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::channels::identity;
use tensor_core::cost;
use tensor_core::graph::{Dim, Graph};
use tensor_core::progress::{self, Progress};
use tensor_core::rewrite;
use tensor_core::run;
use tensor_core::run::Array;
use tensor_core::text::counted;
use tensor_core::{Error, Result, ValueId};

/// A pruned model.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// The smaller model.
    pub graph: Graph,
    /// What was done.
    pub report: PruneReport,
    /// What its layers read, in the order of the values: where it can be compared with the original.
    pub reads: Vec<Compared>,
}

/// A value that both the smaller and the original model have, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// The axis on which the smaller model has less, and the original's positions that it has; `None`
    /// where it has all.
    pub kept: Option<(usize, Vec<usize>)>,
}

/// Times that a missed budget is tightened and tried again.
const ATTEMPTS: usize = 6;

/// Largest accepted difference of masked and cut model, relative to the output range: float
/// rounding of sums in another order, through some hundred layers.
pub(crate) const MASK_TOLERANCE: f64 = 1e-3;

/// Prunes a model on calibration data, without labels and without training.
///
/// First BatchNormalization is folded. One pass over the data gives the error curve of every
/// channel set, the curves and the budget give the widths. Then, from shallow to deep, each layer's
/// channels are chosen and its weight is refitted by least squares: inputs from the current
/// network, responses from the original (He et al. 2017, section 3.2), with the shortcut's loss
/// added to the response where a branch joins. Layers that lose no channels are refitted too once
/// their input has changed. Last, the channels are removed and the cut is checked.
///
/// `source` is the calibration samples (batches of arrays in the order of the graph's inputs), or
/// statistics of them.
/// `shapes` are the input shapes for inference, as for [`tensor_core::run::infer`].
///
/// # Errors
/// When the model has no prunable channels (`E0143`), the budget cannot be met (`E0140`), a given
/// width does not fit (`E0142`), the data are not finite, or the cut does not equal the mask.
pub fn prune<'a>(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    source: impl Into<Source<'a>>,
    params: &ValidPruneParams,
    progress: &dyn Progress,
) -> Result<Pruned> {
    prune_with((graph, shapes), source.into(), params, &mut KnownCurves::default(), progress)
}

/// Error curves by the names of the sets that they are of.
#[derive(Debug, Default)]
pub(crate) struct KnownCurves(Vec<(Vec<String>, Vec<Curve>)>);

/// As [`prune`], with curves that are known from another budget.
pub(crate) fn prune_with(
    (graph, shapes): (&Graph, &BTreeMap<String, Vec<usize>>),
    source: Source,
    params: &ValidPruneParams,
    known: &mut KnownCurves,
    progress: &dyn Progress,
) -> Result<Pruned> {
    let source = source.checked(graph, &params.params)?;
    let sample: Vec<(ValueId, Array)> = probe(graph, &source.few)?;
    let prepared = Prepared::new(graph, shapes, params, progress)?;
    let samples = source.samples;
    warn_of_few_samples(samples, progress);
    let scope = prepared.scope(params);
    let Parts { sets, .. } = &prepared.parts;
    let names: Vec<String> = sets.iter().map(|set| set.name.clone()).collect();
    let curves = match known.0.iter().find(|(of, _)| *of == names) {
        Some((_, curves)) => curves.clone(),
        None => {
            let curves = source.needed_curves(&prepared, params, progress)?;
            known.0.push((names, curves.clone()));
            curves
        }
    };
    let mut goal = prepared.parts.goal.clone();
    let mut attempts = 0;
    let (planned, layer_reports, kept, mut cut) = loop {
        let planned = allot(&prepared, params, shapes, &goal, &curves)?;
        let (refitted, kept, layer_reports) =
            refit_all(&scope, &source, &curves, &planned.widths, progress)?;
        let labels = &prepared.channels;
        let cut = cut(&refitted, labels, shapes, &prepared.layers, sets, &kept)?;
        attempts += 1;
        let limit = prepared.parts.goal.limit();
        let actual = cost::cost(&cut.graph, &run::infer_declared(&cut.graph, shapes)?)?;
        let widths: Vec<usize> = kept.iter().map(Vec::len).collect();
        let actual = goal.actual(&actual, &widths);
        let is_met = actual <= limit || matches!(params.params.widths, Widths::Given(_));
        if is_met || attempts == ATTEMPTS {
            break (planned, layer_reports, kept, cut);
        }
        // Channels of one set may cost different amounts, and the prediction does not know which
        // stay. A little more than the ratio, or rounding to whole channels may stand still.
        let tighter = goal.tightened(0.998 * limit / actual);
        if !tighter.is_feasible(sets, planned.round_to) {
            break (planned, layer_reports, kept, cut);
        }
        goal = tighter;
    };
    let mask_difference =
        identity::masked_against_cut(&cut.whole, &mut cut.mask, &cut.graph, &sample)?;
    if mask_difference > MASK_TOLERANCE {
        return Err(Error::internal(format!(
            "the cut model differs from the masked one by {mask_difference:.1e} of the output range"
        )));
    }
    let report_of = |(at, (set, kept)): (usize, (&Set, &Vec<usize>))| {
        set_report(&scope, set, kept.len(), curves.get(at))
    };
    let set_reports = sets.iter().zip(&kept).enumerate().map(report_of).collect();
    let report = PruneReport {
        method: params.selection.method().name.to_owned(),
        round_to: planned.round_to,
        rounding: planned.rounding,
        predicted: planned.predicted,
        time: planned.time,
        sets: set_reports,
        layers: layer_reports,
        frozen: frozen_reports(&prepared.parts.frozen),
        samples,
        folded_batch_norms: prepared.folded_batch_norms,
        mask_difference,
    };
    let reads = reads(&prepared, &mut cut.kept);
    Ok(Pruned { graph: cut.graph, report, reads })
}

/// What layers read, each value once.
fn reads(prepared: &Prepared, kept: &mut BTreeMap<String, (usize, Vec<usize>)>) -> Vec<Compared> {
    let graph = &prepared.graph;
    let inputs: BTreeSet<ValueId> = prepared.layers.iter().map(|layer| layer.input).collect();
    let read = inputs.into_iter().filter(|value| !graph.inputs.contains(value));
    read.map(|value| {
        let name = graph.name(value).to_owned();
        Compared { kept: kept.remove(&name), name }
    })
    .collect()
}

/// Networks that hold activations: the original and the current one.
pub(crate) const NETWORKS: usize = 2;

/// Samples below which errors on the sample say little: each half then has fewer than eight, and
/// the mean over eight is still uncertain by a third of what samples differ by (1 / sqrt 8).
pub(crate) const FEW_SAMPLES: usize = 16;

pub(crate) fn warn_of_few_samples(samples: usize, progress: &dyn Progress) {
    match samples {
        0..2 => progress.warn(
            "one calibration sample cannot be split: its errors are those of the fit itself, and \
             will be larger on other samples; some hundred are enough",
        ),
        2..FEW_SAMPLES => progress.warn(&format!(
            "{} for calibration only: errors are optimistic, held-out ones uncertain; some hundred \
             are enough",
            counted(samples, "sample")
        )),
        _ => {}
    }
}

fn set_report(scope: &Scope, set: &Set, after: usize, curve: Option<&Curve>) -> SetReport {
    SetReport {
        id: set.id.clone(),
        name: set.name.clone(),
        kind: set.kind.name(),
        before: set.classes.len(),
        after,
        readers: scope.reader_keys(set),
        curve: curve.map(|curve| curve.points(CURVE_POINTS)).unwrap_or_default(),
    }
}

pub(crate) fn frozen_reports(frozen: &[Frozen]) -> Vec<FrozenReport> {
    frozen
        .iter()
        .map(|f| FrozenReport {
            id: f.id.clone(),
            name: f.name.clone(),
            channels: f.channels,
            reason: f.reason.clone(),
        })
        .collect()
}

/// The first samples of a batch, as named inputs, to check the cut with.
pub(crate) fn probe(graph: &Graph, first: &[Array]) -> Result<Vec<(ValueId, Array)>> {
    /// Samples that the identity is checked on.
    const SAMPLES: usize = 8;
    graph
        .inputs
        .iter()
        .zip(first)
        .map(|(&input, array)| {
            let all = array.dims().first().copied().unwrap_or(1);
            let first = graph.declared(input).and_then(|d| d.dims.as_ref()?.first());
            // A model with a fixed batch takes nothing less.
            let is_fixed = matches!(first, Some(Dim::Known(_)));
            let count = if is_fixed { all } else { all.min(SAMPLES) };
            Ok((input, Array { tensor: array.tensor.narrow(0, 0, count)?, ..array.clone() }))
        })
        .collect()
}

/// The pass from shallow to deep.
///
/// Returns the graph with refitted weights at full size, the kept channels by set, and a report
/// per refitted layer.
fn refit_all(
    scope: &Scope,
    source: &Checked,
    curves: &[Curve],
    widths: &[usize],
    progress: &dyn Progress,
) -> Result<(Graph, Vec<Vec<usize>>, Vec<LayerReport>)> {
    let mut kept = kept_in_advance(scope.sets, curves, widths);
    let is_current = scope.params.params.inputs == Inputs::Current;
    let mut evidence = Evidence::new(scope, source)?;
    let mut changed = scope.graph.clone();
    let mut is_changed = false;
    let mut reports = Vec::new();
    progress.stage("refit", scope.layers.len());
    for (at, layer) in scope.layers.iter().enumerate() {
        progress::check(progress)?;
        let read: Vec<usize> =
            (0..scope.sets.len()).filter(|&set| scope.sets[set].readers.contains(&at)).collect();
        let loses = read.iter().any(|&set| widths[set] < scope.sets[set].classes.len());
        if loses || is_changed && is_current {
            let statistics = evidence.of(layer, &changed, progress)?;
            let reads: Vec<Read> = read
                .iter()
                .map(|&set| Read {
                    set: &scope.sets[set],
                    width: widths[set],
                    kept: kept[set].clone(),
                })
                .collect();
            let done = refit(&changed, layer, statistics, &reads, &scope.params.selection)
                .map_err(|error| error.in_node(scope.graph.describe(layer.node)))?;
            for (&set, chosen) in read.iter().zip(done.kept) {
                kept[set] = Some(chosen);
            }
            changed = rewrite::apply(&changed, &done.edits)?;
            reports.push(done.report);
            is_changed = true;
        }
        progress.item(scope.graph.key(layer.node));
    }
    let all = |set: &Set| (0..set.classes.len()).collect();
    let kept = kept.into_iter().zip(scope.sets).map(|(k, set)| k.unwrap_or_else(|| all(set)));
    Ok((changed, kept.collect(), reports))
}

/// Channels of joint sets.
fn kept_in_advance(sets: &[Set], curves: &[Curve], widths: &[usize]) -> Vec<Option<Vec<usize>>> {
    let mut kept = vec![None; sets.len()];
    for (i, set) in sets.iter().enumerate() {
        if set.is_joint()
            && let Some(curve) = curves.get(i)
        {
            kept[i] = Some(set.completed(curve.order[..widths[i]].to_vec()));
        }
    }
    kept
}
