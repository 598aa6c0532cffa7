//! Error curves of all sets on the original network: one pass over the data.

use super::effect::{Trial, effects};
use super::params::Widths;
use super::problems::{LayerProblems, weight_rows};
use super::prune::FEW_SAMPLES;
use super::refit::weight_edits;
use super::report::CurvePoint;
use super::scope::Scope;
use super::sets::Set;
use crate::{Problem, Task, best_ridge, held_out_errors, reconstruct};
use std::collections::BTreeMap;
use tensor_core::calibrate::{Replay, Statistics, Walk, collect};
use tensor_core::graph::Index;
use tensor_core::progress::Progress;
use tensor_core::rewrite::Edit;
use tensor_core::{Error, Result};

/// What is known about a set before anything is changed.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    /// Channels of the set, the one to keep longest first.
    pub(crate) order: Vec<usize>,
    /// Held-out error of the readers, summed, when the first `k` of `order` are kept; `k` from 0.
    /// Each is relative to the energy of its response, with the shortcut that is added to it.
    pub(crate) error: Vec<f64>,
    /// What an error counts, by what it does to the outputs.
    pub(crate) weight: f64,
}

impl Curve {
    /// Its values at about so many widths, the first and the last among them, none at width 0.
    pub(crate) fn points(&self, count: usize) -> Vec<CurvePoint> {
        let widths = self.error.len().saturating_sub(1);
        let step = widths.div_ceil(count).max(1);
        let at = |kept: usize| Some(CurvePoint { kept, error: *self.error.get(kept)? });
        let inner = (1..widths).filter(|kept| kept % step == 0 || *kept == 1);
        inner.chain((widths > 0).then_some(widths)).filter_map(at).collect()
    }

    /// Weighed error of a width, above that of the full width.
    pub(crate) fn penalty(&self, width: usize) -> f64 {
        let full = self.error.last().copied().unwrap_or(0.0);
        self.weight * (self.error[width] - full).max(0.0)
    }
}

/// Who else wants the statistics of a layer, given by its index.
pub(crate) type Keep<'a> = dyn FnMut(usize, &[[Statistics; 2]]) -> Result<()> + 'a;

/// The curve of every set.
///
/// Statistics of a layer are shown to `keep`, and dropped once all sets that read it are done.
pub(crate) fn curves(
    scope: &Scope,
    mut replay: Replay,
    keep: &mut Keep,
    progress: &dyn Progress,
) -> Result<Vec<Curve>> {
    let Scope { graph, facts, layers, sets, sampling, .. } = *scope;
    let selection = &scope.params.selection;
    let index = Index::new(graph);
    let selector = selection.selector();
    let mut open: BTreeMap<usize, (LayerProblems, f64)> = BTreeMap::new();
    let mut curves: Vec<Option<Curve>> = vec![None; sets.len()];
    let is_weighed = scope.params.params.widths == Widths::Auto && replay.samples() >= FEW_SAMPLES;
    let start = replay.clone();
    let mut trials = vec![Vec::new(); sets.len()];
    let is_read = |layer: usize| sets.iter().any(|set| set.readers.contains(&layer));
    let read: Vec<usize> = (0..layers.len()).filter(|&layer| is_read(layer)).collect();
    progress.stage("error curves", read.len());
    for &at in &read {
        let mut walk = Walk { graph, replay: &mut replay };
        let collected = collect(&layers[at].place(), facts, &mut walk, None, sampling, progress)?;
        keep(at, &collected.statistics)?;
        let weights = weight_rows(graph, &index, &layers[at])?;
        open.insert(at, (LayerProblems::new(collected.statistics, &weights)?, collected.share));
        for (which, (set, curve)) in sets.iter().zip(&mut curves).enumerate() {
            let is_complete = set.readers.iter().all(|reader| open.contains_key(reader));
            if curve.is_some() || !is_complete {
                continue;
            }
            let (mut all, mut readers) = (Vec::new(), Vec::new());
            for reader in &set.readers {
                let (problems, share) = &open[reader];
                let problems = problems.of(&layers[*reader], &set.classes)?;
                all.extend(problems.all);
                readers.push((problems.halves, *share));
            }
            let task = Task::new(all)?.with_producer_norms(set.producer_norms.clone())?;
            let locate = |error: Error| error.in_node(graph.describe(layers[at].node));
            let order = selector.order(&task).map_err(locate)?;
            let error = held_out_curve(&readers, &order, selection.ridge()).map_err(locate)?;
            if is_weighed {
                trials[which] = trial(scope, &index, which, &order, &open)?;
            }
            *curve = Some(Curve { order, error, weight: 1.0 });
        }
        open.retain(|reader, _| {
            sets.iter().zip(&curves).any(|(s, c)| c.is_none() && s.readers.contains(reader))
        });
        progress.item(graph.key(layers[at].node));
    }
    let curves: Vec<Curve> = curves
        .into_iter()
        .map(|curve| curve.ok_or_else(|| Error::internal("a set has no reader")))
        .collect::<Result<_>>()?;
    if !is_weighed {
        return Ok(curves);
    }
    let first = |set: &Set| set.readers.first().map(|&reader| layers[reader].node);
    let trials: Option<Vec<Trial>> = sets
        .iter()
        .zip(trials)
        .map(|(set, edits)| Some(Trial { node: first(set)?, edits }))
        .collect();
    let trials = trials.ok_or_else(|| Error::internal("a set has no reader"))?;
    Ok(match effects((graph, facts), &start, &trials, progress)? {
        Some(effects) => weigh(curves, &effects),
        None => curves,
    })
}

/// The readers of a set with half of its channels, fitted on even blocks of samples.
fn trial(
    scope: &Scope,
    index: &Index,
    set: usize,
    order: &[usize],
    open: &BTreeMap<usize, (LayerProblems, f64)>,
) -> Result<Vec<Edit>> {
    let half = &order[..order.len().div_ceil(2)];
    let set = &scope.sets[set];
    let mut edits = Vec::new();
    for reader in &set.readers {
        let layer = &scope.layers[*reader];
        let problems = open[reader].0.of(layer, &set.classes)?;
        let (ridge, _) = best_ridge(&problems.halves, half, scope.params.selection.ridge())?;
        let solved: Vec<_> = problems
            .halves
            .iter()
            .map(|[even, _]| reconstruct(even, half, ridge))
            .collect::<Result<_>>()?;
        edits.extend(weight_edits(scope.graph, index, layer, &solved)?);
    }
    Ok(edits)
}

/// Widths at which a curve is measured; between them it is interpolated.
const KNOTS: usize = 16;

/// Held-out error when the first `k` channels of `order` are kept, for each `k` from 0.
///
/// A narrower width never has the smaller error.
fn held_out_curve(
    readers: &[(Vec<[Problem; 2]>, f64)],
    order: &[usize],
    least: f64,
) -> Result<Vec<f64>> {
    let full = order.len();
    let rows = readers.iter().flat_map(|(halves, _)| halves).map(|[even, _]| even.rows());
    if rows.min().unwrap_or(0) < 2 {
        // One row per half tells nothing of the error; then every channel counts the same.
        return Ok((0..=full).map(|k| (full - k) as f64 / full as f64).collect());
    }
    let mut knots: Vec<usize> = (0..=KNOTS).map(|i| i * full / KNOTS).collect();
    knots.dedup();
    let mut errors = vec![0.0; knots.len()];
    for (halves, share) in readers {
        let measured = held_out_errors(halves, order, &knots, least)?;
        errors.iter_mut().zip(measured).for_each(|(sum, error)| *sum += share * error);
    }
    for i in (1..errors.len()).rev() {
        errors[i - 1] = errors[i - 1].max(errors[i]);
    }
    let mut curve = vec![errors[0]];
    for (k, e) in knots.windows(2).zip(errors.windows(2)) {
        let steps = (k[1] - k[0]) as f64;
        curve.extend((1..=k[1] - k[0]).map(|i| e[0] + i as f64 / steps * (e[1] - e[0])));
    }
    Ok(curve)
}

/// Weighs each curve by how much of the layer's error reaches the outputs.
///
/// The layers behind are refitted later and make up for a part of the error that the trial cannot
/// see. So the weight is the ratio to a power below one, between trusting the layer's error (0) and
/// trusting the trial (1).
fn weigh(mut curves: Vec<Curve>, effects: &[f64]) -> Vec<Curve> {
    /// Relative errors below this are as good as none.
    const SMALL: f64 = 1e-6;
    const TRUST: f64 = 0.75;
    for (curve, effect) in curves.iter_mut().zip(effects) {
        let error = curve.error[curve.order.len().div_ceil(2)];
        let ratio = (effect + SMALL) / (error + SMALL);
        curve.weight = if ratio.is_finite() { ratio.powf(TRUST) } else { 1.0 };
    }
    curves
}
