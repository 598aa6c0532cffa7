//! Error curves of all sets on the original network: one pass over the data.

use super::collect::{Collected, Walk, collect};
use super::layers::Layer;
use super::scope::Scope;
use crate::{Problem, Task, best_ridge};
use std::collections::BTreeMap;
use tensor_core::calibrate::{Replay, Statistics};
use tensor_core::channels::ClassId;
use tensor_core::graph::{Graph, Index};
use tensor_core::progress::Progress;
use tensor_core::{Error, Result};

/// What is known about a set before anything is changed.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    /// Channels of the set, the one to keep longest first.
    pub(crate) order: Vec<usize>,
    /// Held-out error of the readers, summed, when the first `k` of `order` are kept; `k` from 0.
    /// Each is relative to the energy of its response, with the shortcut that is added to it.
    pub(crate) error: Vec<f64>,
}

/// The layer's weight as rows, one matrix per convolution group.
pub(crate) fn weight_rows(graph: &Graph, index: &Index, layer: &Layer) -> Result<Vec<Vec<f32>>> {
    let shape = layer.map.shape();
    let value = graph.node(layer.node).input(layer.weight.0);
    let constant = value.and_then(|value| graph.constant(value, index));
    let constant = constant.ok_or_else(|| {
        Error::internal("a weight is no constant").in_node(graph.describe(layer.node))
    })?;
    let rows = layer.map.rows_of_weight(&constant.to_f32s()?);
    Ok(rows.chunks(shape.group_outputs() * shape.columns()).map(<[f32]>::to_vec).collect())
}

/// Selection problems of a layer for the given classes, one per convolution group.
pub(crate) struct LayerProblems {
    /// On all rows.
    pub(crate) all: Vec<Problem>,
    /// On even and odd samples.
    pub(crate) halves: Vec<[Problem; 2]>,
}

impl LayerProblems {
    pub(crate) fn new(
        layer: &Layer,
        statistics: &[[Statistics; 2]],
        weights: &[Vec<f32>],
        classes: &[ClassId],
    ) -> Result<Self> {
        let mut problems = Self { all: Vec::new(), halves: Vec::new() };
        for ((halves, weight), blocks) in statistics.iter().zip(weights).zip(layer.blocks(classes))
        {
            let problem = |s: &Statistics| Problem::new(s.clone(), weight, blocks.clone());
            let mut merged = halves[0].clone();
            merged.merge(&halves[1])?;
            problems.all.push(problem(&merged)?);
            // A single sample cannot be split; it is then judged on itself.
            let is_split = halves.iter().all(|half| half.rows() > 0);
            problems.halves.push(match is_split {
                true => [problem(&halves[0])?, problem(&halves[1])?],
                false => [problem(&merged)?, problem(&merged)?],
            });
        }
        Ok(problems)
    }
}

/// The curve of every set.
///
/// Statistics of a layer are dropped once all sets that read it are done.
pub(crate) fn curves(
    scope: &Scope,
    mut replay: Replay,
    progress: &dyn Progress,
) -> Result<Vec<Curve>> {
    let Scope { graph, facts, layers, sets, sampling, .. } = *scope;
    let selection = &scope.params.selection;
    let index = Index::new(graph);
    let selector = selection.selector();
    let mut open: BTreeMap<usize, Collected> = BTreeMap::new();
    let mut curves: Vec<Option<Curve>> = vec![None; sets.len()];
    let is_read = |layer: usize| sets.iter().any(|set| set.readers.contains(&layer));
    let read: Vec<usize> = (0..layers.len()).filter(|&layer| is_read(layer)).collect();
    progress.stage("error curves", read.len());
    for &at in &read {
        let mut walk = Walk { graph, replay: &mut replay };
        let collected = collect(&layers[at], facts, &mut walk, None, sampling, progress)?;
        open.insert(at, collected);
        for (set, curve) in sets.iter().zip(&mut curves) {
            let is_complete = set.readers.iter().all(|reader| open.contains_key(reader));
            if curve.is_some() || !is_complete {
                continue;
            }
            let (mut all, mut readers) = (Vec::new(), Vec::new());
            for reader in &set.readers {
                let weights = weight_rows(graph, &index, &layers[*reader])?;
                let Collected { statistics, share } = &open[reader];
                let layer =
                    LayerProblems::new(&layers[*reader], statistics, &weights, &set.classes)?;
                all.extend(layer.all);
                readers.push((layer.halves, *share));
            }
            let task = Task::new(all)?.with_producer_norms(set.producer_norms.clone())?;
            let order = selector.order(&task)?;
            let error = held_out_curve(&readers, &order, selection.ridge())?;
            *curve = Some(Curve { order, error });
        }
        open.retain(|reader, _| {
            sets.iter().zip(&curves).any(|(s, c)| c.is_none() && s.readers.contains(reader))
        });
        progress.item(graph.key(layers[at].node));
    }
    curves
        .into_iter()
        .map(|curve| curve.ok_or_else(|| Error::internal("a set has no reader")))
        .collect()
}

/// Widths at which a curve is measured; between them it is interpolated.
const KNOTS: usize = 16;

/// Held-out error when the first `k` channels of `order` are kept, for each `k` from 0.
///
/// Widths are measured from full to narrow, each with the best ridge; a narrower width never has
/// the smaller error.
fn held_out_curve(
    readers: &[(Vec<[Problem; 2]>, f64)],
    order: &[usize],
    least: f64,
) -> Result<Vec<f64>> {
    let full = order.len();
    let mut knots: Vec<usize> = (0..=KNOTS).map(|i| i * full / KNOTS).collect();
    knots.dedup();
    let mut curve = vec![0.0; full + 1];
    let mut right: Option<(usize, f64)> = None;
    for &k in knots.iter().rev() {
        let mut error = 0.0;
        for (halves, share) in readers {
            error += share * best_ridge(halves, &order[..k], least)?.1;
        }
        if let Some((next, next_error)) = right {
            error = error.max(next_error);
            for (between, value) in curve.iter_mut().enumerate().take(next).skip(k) {
                let share = (between - k) as f64 / (next - k) as f64;
                *value = error + share * (next_error - error);
            }
        }
        curve[k] = error;
        right = Some((k, error));
    }
    Ok(curve)
}
