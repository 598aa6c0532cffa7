//! What pruning would do: the widths and what they cost, without refitting anything.

use super::allot::{Allotted, allot};
use super::params::ValidPruneParams;
use super::prepare::{Parts, Prepared};
use super::prune::frozen_reports;
use super::report::{FrozenReport, Predicted, PredictedTime, RoundingReport};
use super::source::Source;
use serde::Serialize;
use std::collections::BTreeMap;
use tensor_core::Result;
use tensor_core::cost;
use tensor_core::graph::Graph;
use tensor_core::progress::Progress;

/// The widths that [`prune`](crate::prune) would choose with the same arguments.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Channel counts are multiples of this.
    pub round_to: usize,
    /// What that costs; absent when nothing is rounded or widths do not come from error curves.
    pub rounding: Option<RoundingReport>,
    /// Sets in execution order of their first reader.
    pub sets: Vec<PlannedSet>,
    /// Groups that are left alone.
    pub frozen: Vec<FrozenReport>,
    /// Multiply-accumulates.
    pub macs: PlannedCost,
    /// Elements of float constants.
    pub parameters: PlannedCost,
    /// Bytes of constants.
    pub bytes: PlannedCost,
    /// Time; absent unless the budget is one of time.
    pub time: Option<PredictedTime>,
}

/// One set of channels.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedSet {
    /// Short name of the group, such as `g07`.
    pub id: String,
    /// The value that carries the group first; for a sample the layer that reads it.
    pub name: String,
    /// `cut`, or `sample` for a Gather before one reader.
    pub kind: &'static str,
    /// Channels before.
    pub before: usize,
    /// Channels after.
    pub after: usize,
    /// Predicted held-out error of the readers, relative to the energy of their responses, before
    /// errors of earlier layers; absent when the widths need no error curves.
    pub error: Option<f64>,
    /// Keys of the layers that read it.
    pub readers: Vec<String>,
}

/// A resource before and after, with BatchNormalization folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PlannedCost {
    /// Of the original.
    pub before: u64,
    /// Predicted from the widths: what the cut model costs, new biases included.
    pub after: u64,
}

/// Chooses widths as [`prune`](crate::prune) does, and stops there. The data are used where widths
/// or joint choices come from error curves.
///
/// # Errors
/// As [`prune`](crate::prune) up to the choice of widths.
pub fn plan<'a>(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    source: impl Into<Source<'a>>,
    params: &ValidPruneParams,
    progress: &dyn Progress,
) -> Result<Plan> {
    let source = source.into().checked(graph, &params.params)?;
    let prepared = Prepared::new(graph, shapes, params, progress)?;
    let curves = source.needed_curves(&prepared, params, progress)?;
    let allotted = allot(&prepared, params, shapes, &prepared.parts.goal, &curves)?;
    let Allotted { widths, round_to, rounding, predicted, time } = allotted;
    let Parts { sets, frozen, .. } = &prepared.parts;
    let scope = prepared.scope(params);
    let planned = sets.iter().zip(&widths).enumerate().map(|(i, (set, &after))| PlannedSet {
        id: set.id.clone(),
        name: set.name.clone(),
        kind: set.kind.name(),
        before: set.classes.len(),
        after,
        error: curves.get(i).and_then(|curve| curve.error.get(after).copied()),
        readers: scope.reader_keys(set),
    });
    let before = Predicted::of(&cost::cost(&prepared.graph, &prepared.counted)?);
    let planned_cost =
        |of: fn(&Predicted) -> u64| PlannedCost { before: of(&before), after: of(&predicted) };
    Ok(Plan {
        round_to,
        rounding,
        sets: planned.collect(),
        frozen: frozen_reports(frozen),
        macs: planned_cost(|cost| cost.macs),
        parameters: planned_cost(|cost| cost.parameters),
        bytes: planned_cost(|cost| cost.bytes),
        time,
    })
}
