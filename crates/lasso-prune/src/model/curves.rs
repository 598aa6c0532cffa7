//! Error curves of all sets on the original network: one pass over the data.

use super::collect::{Walk, collect};
use super::layers::Layer;
use super::scope::Scope;
use crate::{Problem, Task, error_curve};
use std::collections::BTreeMap;
use std::sync::Arc;
use tensor_core::calibrate::{Replay, Statistics};
use tensor_core::graph::{Graph, Index};
use tensor_core::progress::Progress;
use tensor_core::{Error, Result};

/// What is known about a set before anything is changed.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    /// Channels of the set, the one to keep longest first.
    pub(crate) order: Vec<usize>,
    /// Relative error of the readers, averaged, when the first `k` of `order` are kept; `k` from 0.
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
pub(crate) fn problems(
    layer: &Layer,
    statistics: &[Statistics],
    weights: &[Vec<f32>],
    classes: &[u32],
) -> Result<Vec<Problem>> {
    let groups = statistics.iter().zip(weights).zip(layer.blocks(classes));
    groups.map(|((s, weight), blocks)| Problem::new(s.clone(), weight, blocks)).collect()
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
    let mut open: BTreeMap<usize, Arc<Vec<Statistics>>> = BTreeMap::new();
    let mut curves: Vec<Option<Curve>> = vec![None; sets.len()];
    let is_read = |layer: usize| sets.iter().any(|set| set.readers.contains(&layer));
    let read: Vec<usize> = (0..layers.len()).filter(|&layer| is_read(layer)).collect();
    progress.stage("error curves", read.len());
    for &at in &read {
        let mut walk = Walk { graph, replay: &mut replay };
        let statistics = collect(&layers[at], facts, &mut walk, None, sampling, progress)?;
        open.insert(at, Arc::new(statistics));
        for (set, curve) in sets.iter().zip(&mut curves) {
            let is_complete = set.readers.iter().all(|reader| open.contains_key(reader));
            if curve.is_some() || !is_complete {
                continue;
            }
            let mut all = Vec::new();
            for reader in &set.readers {
                let weights = weight_rows(graph, &index, &layers[*reader])?;
                all.extend(problems(&layers[*reader], &open[reader], &weights, &set.classes)?);
            }
            let task = Task::new(all)?.with_producer_norms(set.producer_norms.clone())?;
            let order = selector.order(&task)?;
            let error = error_curve(&task, &order, selection.ridge())?;
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
