//! What a model costs at given widths: a cut without a fit.

use super::curves::Curve;
use super::cut::cut;
use super::prepare::Prepared;
use super::refit::bias_edit;
use super::sets::Set;
use std::collections::BTreeMap;
use tensor_core::Result;
use tensor_core::cost::{self, Cost};
use tensor_core::graph::{Graph, Index};
use tensor_core::rewrite::{self, Stored};
use tensor_core::run;

/// Cost of the cut model.
#[derive(Debug, Clone)]
pub(crate) struct TrialCost {
    pub(crate) cost: Cost,
    /// Multiply-accumulates with channels filled up to blocks.
    pub(crate) blocked_macs: f64,
}

/// Cuts the model to the given widths as a prune would, new biases included, and counts.
///
/// Which channels a set keeps matters only where they have different numbers of positions or
/// branches of different cost; here they are the first of its curve, as a prune keeps them for joint
/// sets.
///
/// # Errors
/// As [`cut`].
pub(crate) fn trial_cost(
    prepared: &Prepared,
    shapes: &BTreeMap<String, Vec<usize>>,
    curves: &[Curve],
    widths: &[usize],
    block: usize,
) -> Result<TrialCost> {
    let cut = trial_cut(prepared, shapes, curves, widths)?;
    let facts = run::infer_declared(&cut, shapes)?;
    Ok(TrialCost {
        cost: cost::cost(&cut, &facts)?,
        blocked_macs: cost::blocked_macs(&cut, &facts, block)?,
    })
}

/// The model at these widths, with weights that were not refitted.
///
/// # Errors
/// As [`cut`].
pub(crate) fn trial_cut(
    prepared: &Prepared,
    shapes: &BTreeMap<String, Vec<usize>>,
    curves: &[Curve],
    widths: &[usize],
) -> Result<Graph> {
    let sets = &prepared.parts.sets;
    let kept: Vec<Vec<usize>> = sets
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(i, (set, &width))| match curves.get(i) {
            Some(curve) => set.completed(curve.order[..width].to_vec()),
            None => set.completed((0..width).collect()),
        })
        .collect();
    let refitted = refitted(prepared, widths)?;
    Ok(cut(&refitted, &prepared.channels, shapes, &prepared.layers, sets, &kept)?.graph)
}

/// The model with what refitting changes in size: a weight of its own, and a bias, for every layer
/// from the first that loses channels on. One by one, as a prune does: whether a weight is shared
/// depends on what the layers before did.
fn refitted(prepared: &Prepared, widths: &[usize]) -> Result<Graph> {
    let Prepared { graph, layers, parts, .. } = prepared;
    let loses = |at: usize| {
        let is_narrowed =
            |(set, &width): (&Set, &usize)| set.readers.contains(&at) && width < set.classes.len();
        parts.sets.iter().zip(widths).any(is_narrowed)
    };
    let first = (0..layers.len()).find(|&at| loses(at)).unwrap_or(layers.len());
    let mut changed = graph.clone();
    for layer in &layers[first..] {
        let index = Index::new(&changed);
        let weight = Stored::required(&changed, &index, layer.node, layer.weight.0)?;
        let mut edits = vec![weight.replaced(weight.constant)?];
        if let Some((input, _)) = layer.map.bias() {
            let bias = vec![0.0; layer.map.shape().outputs];
            edits.push(bias_edit(&changed, &index, layer, input, &bias)?);
        }
        changed = rewrite::apply(&changed, &edits)?;
    }
    Ok(changed)
}
