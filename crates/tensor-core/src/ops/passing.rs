//! Channel rules that many operators share.

use crate::channels::{Flow, Label, Labels};
use std::sync::Arc;

/// Outputs of the first input's shape take its labels.
pub(super) fn pass(flow: &mut Flow) {
    let labels = flow.input(0);
    flow.set_output(0, labels);
}

/// Operators whose output broadcasts the inputs: equal axes are tied, an axis of length 1 follows
/// the others.
pub(super) fn broadcast(flow: &mut Flow, inputs: usize) {
    let rank = flow.output_dims(0).len();
    let mut labels: Labels = vec![None; rank];
    for (axis, slot) in labels.iter_mut().enumerate() {
        let length = flow.output_dims(0)[axis];
        let same: Vec<(usize, usize)> = (0..inputs)
            .filter_map(|input| {
                let own = (axis + flow.dims(input).len()).checked_sub(rank)?;
                (flow.dims(input)[own] == length).then_some((input, own))
            })
            .collect();
        *slot = tie_all(flow, &same);
    }
    flow.set_output(0, labels);
}

/// Ties axes of inputs position by position and returns the common labels. When some axes carry no
/// labels, the others are frozen.
pub(super) fn tie_all(flow: &mut Flow, places: &[(usize, usize)]) -> Option<Arc<[Label]>> {
    let labels: Vec<Option<Arc<[Label]>>> =
        places.iter().map(|&(input, axis)| flow.input(input)[axis].clone()).collect();
    if labels.iter().any(Option::is_none) {
        for &(input, axis) in places {
            flow.freeze_axis(input, axis, "it meets a value without channels");
        }
        return None;
    }
    let labels: Vec<_> = labels.into_iter().flatten().collect();
    for other in labels.iter().skip(1) {
        flow.tie(&labels[0], other);
    }
    labels.into_iter().next()
}
