//! The whole procedure.

use super::collect::{Sampling, Walk, collect};
use super::curves::{Curve, curves};
use super::cut::cut;
use super::layers::find_layers;
use super::params::{ValidPruneParams, Widths};
use super::refit::{Read, refit};
use super::report::{FrozenReport, LayerReport, PruneReport, SetReport};
use super::scope::Scope;
use super::sets::{Kind, Set, find_sets, names};
use super::widths::{Goal, choose_widths, rounding};
use std::collections::BTreeMap;
use tensor_core::calibrate::Replay;
use tensor_core::channels::{self, identity};
use tensor_core::graph::Graph;
use tensor_core::progress::{self, Progress};
use tensor_core::rewrite::{self, fold_batch_norm};
use tensor_core::run::{self, Array};
use tensor_core::{Error, Result, ValueId};

/// A pruned model.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// The smaller model.
    pub graph: Graph,
    /// What was done.
    pub report: PruneReport,
}

/// Largest accepted difference of masked and cut model, relative to the output range: float
/// rounding of sums in another order, through some hundred layers.
const MASK_TOLERANCE: f64 = 1e-3;

/// Prunes a model on calibration data, without labels and without training.
///
/// First BatchNormalization is folded. One pass over the data gives the error curve of every
/// channel set, the curves and the budget give the widths. Then, from shallow to deep, each layer's
/// channels are chosen and its weight is refitted by least squares: inputs from the current
/// network, responses from the original (He et al. 2017, section 3.2), with the shortcut's loss
/// added to the response where a branch joins. Layers that lose no channels are refitted too once
/// their input has changed. Last, the channels are removed and the cut is checked.
///
/// `batches` hold the calibration samples; each lists arrays in the order of the graph's inputs.
/// `shapes` are the input shapes for inference, as for [`run::infer`].
///
/// # Errors
/// When the model has no prunable channels (`E0143`), the budget cannot be met (`E0140`), a given
/// width does not fit (`E0142`), the data are not finite, or the cut does not equal the mask.
pub fn prune(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    batches: Vec<Vec<Array>>,
    params: &ValidPruneParams,
    progress: &dyn Progress,
) -> Result<Pruned> {
    if batches.is_empty() {
        return Err(Error::invalid("pruning needs calibration data").code_is("E0144"));
    }
    let sample: Vec<(ValueId, Array)> = probe(graph, &batches)?;
    let folds = fold_batch_norm(graph)?;
    let folded = rewrite::apply(graph, &folds)?;
    let folded_batch_norms = graph.nodes.len() - folded.nodes.len();
    let graph = &folded;
    let facts = run::infer(graph, shapes)?;
    let analysis = channels::analyze(graph, &facts)?;
    let layers = find_layers(graph, &facts, &analysis)?;
    let known: Vec<String> =
        analysis.groups.iter().flat_map(|group| names(graph, &analysis, group)).collect();
    params.check_excluded(&known)?;
    let excluded = |name: &str| params.is_excluded(name);
    let (sets, frozen) =
        find_sets(graph, &facts, &analysis, &layers, params.params.streams, excluded);
    if sets.is_empty() {
        let reasons: Vec<_> = frozen.iter().map(|f| format!("{}: {}", f.name, f.reason)).collect();
        return Err(Error::unsupported(format!(
            "no channels can be pruned; frozen are {}",
            reasons.join("; ")
        ))
        .code_is("E0143")
        .hint("`kerf groups MODEL` explains each group"));
    }
    let replay = Replay::new(graph, batches, params.params.memory)?;
    let samples = replay.samples();
    let sampling = Sampling { positions: params.params.positions, seed: params.params.seed };
    let scope = Scope { graph, facts: &facts, layers: &layers, sets: &sets, params, sampling };
    let goal = Goal::new(graph, &facts, &analysis, &layers, &sets, params.params.budget)?;
    let round_to = rounding(&sets, &goal, params);
    if round_to < params.params.round_to {
        progress.warn(&format!(
            "the budget cannot be met with multiples of {} channels; {round_to} are used instead",
            params.params.round_to
        ));
    }
    let needs_curves =
        params.params.widths == Widths::Auto || sets.iter().any(|set| set.readers.len() > 1);
    let curves = if needs_curves { curves(&scope, replay.clone(), progress)? } else { Vec::new() };
    let widths = choose_widths(&sets, &curves, &goal, params, round_to)?;
    let (refitted, kept, layer_reports) = refit_all(&scope, replay, &curves, &widths, progress)?;
    let mut cut = cut(&refitted, shapes, &layers, &sets, &kept)?;
    let mask_difference =
        identity::masked_against_cut(&cut.whole, &mut cut.mask, &cut.graph, &sample)?;
    if mask_difference > MASK_TOLERANCE {
        return Err(Error::internal(format!(
            "the cut model differs from the masked one by {mask_difference:.1e} of the output range"
        )));
    }
    let sets = sets
        .iter()
        .zip(&kept)
        .map(|(set, kept)| SetReport {
            name: set.name.clone(),
            kind: if set.kind == Kind::Cut { "cut" } else { "sample" },
            before: set.classes.len(),
            after: kept.len(),
        })
        .collect();
    let frozen = frozen
        .into_iter()
        .map(|f| FrozenReport { name: f.name, channels: f.channels, reason: f.reason })
        .collect();
    let report = PruneReport {
        method: params.selection.method().name.to_owned(),
        round_to,
        sets,
        layers: layer_reports,
        frozen,
        samples,
        folded_batch_norms,
        mask_difference,
    };
    Ok(Pruned { graph: cut.graph, report })
}

/// The first batch, as named inputs, to check the cut with.
fn probe(graph: &Graph, batches: &[Vec<Array>]) -> Result<Vec<(ValueId, Array)>> {
    /// Samples that the identity is checked on.
    const SAMPLES: usize = 8;
    let first = batches.first().map(Vec::as_slice).unwrap_or_default();
    graph
        .inputs
        .iter()
        .zip(first)
        .map(|(&input, array)| {
            let count = array.dims().first().copied().unwrap_or(1).min(SAMPLES);
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
    replay: Replay,
    curves: &[Curve],
    widths: &[usize],
    progress: &dyn Progress,
) -> Result<(Graph, Vec<Vec<usize>>, Vec<LayerReport>)> {
    let mut kept = kept_in_advance(scope.sets, curves, widths);
    let mut original = replay.clone();
    let mut current = replay;
    let mut changed = scope.graph.clone();
    let mut is_changed = false;
    let mut reports = Vec::new();
    progress.stage("refit", scope.layers.len());
    for (at, layer) in scope.layers.iter().enumerate() {
        progress::check(progress)?;
        let read: Vec<usize> =
            (0..scope.sets.len()).filter(|&set| scope.sets[set].readers.contains(&at)).collect();
        let loses = read.iter().any(|&set| widths[set] < scope.sets[set].classes.len());
        if loses || is_changed {
            let mut from = Walk { graph: scope.graph, replay: &mut original };
            let mut to = Walk { graph: &changed, replay: &mut current };
            let (facts, sampling) = (scope.facts, scope.sampling);
            let collected = collect(layer, facts, &mut from, Some(&mut to), sampling, progress)?;
            let reads: Vec<Read> = read
                .iter()
                .map(|&set| Read {
                    set: &scope.sets[set],
                    width: widths[set],
                    kept: kept[set].clone(),
                })
                .collect();
            let done =
                refit(&changed, layer, collected.statistics, &reads, &scope.params.selection)
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

/// Channels of sets with several readers, which are chosen jointly before the pass.
fn kept_in_advance(sets: &[Set], curves: &[Curve], widths: &[usize]) -> Vec<Option<Vec<usize>>> {
    let mut kept = vec![None; sets.len()];
    for (i, set) in sets.iter().enumerate() {
        if set.readers.len() > 1
            && let Some(curve) = curves.get(i)
        {
            let mut first = curve.order[..widths[i]].to_vec();
            first.sort_unstable();
            kept[i] = Some(first);
        }
    }
    kept
}
