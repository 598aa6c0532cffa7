//! A model at narrower widths, without data: what such widths would take a device.

use super::params::{PruneParams, Streams, ValidPruneParams};
use super::prepare::Prepared;
use super::trial::trial_cut;
use std::collections::BTreeMap;
use tensor_core::Result;
use tensor_core::graph::Graph;
use tensor_core::progress::Silent;

/// The model with this share of the channels of every group, in multiples of `round_to` rounded up,
/// residual streams included. The first channels stay and nothing is refitted, so it computes something else
/// in the time that a pruned model of these widths takes.
///
/// # Errors
/// `E0143` without prunable channels.
pub fn narrowed(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    share: f64,
    round_to: usize,
) -> Result<Graph> {
    let params = PruneParams { streams: Streams::Prune, ..PruneParams::default() };
    let params: ValidPruneParams = params.check()?;
    let prepared = Prepared::new(graph, shapes, &params, &Silent)?;
    let step = round_to.max(1);
    let width = |full: usize| {
        let steps = (share * full as f64 / step as f64).ceil().max(1.0) as usize;
        (steps * step).min(full)
    };
    let widths: Vec<usize> =
        prepared.parts.sets.iter().map(|set| width(set.classes.len())).collect();
    trial_cut(&prepared, shapes, &[], &widths)
}
