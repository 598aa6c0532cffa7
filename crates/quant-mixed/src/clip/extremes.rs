//! Everything that was seen.

use super::{Clip, Distribution, Target};

pub(super) const CLIP: Clip = Clip {
    name: "min-max",
    summary: "all values: nothing is cut off",
    parameter: None,
    range: |values, target, _| whole(values, target),
};

/// The range of all values.
pub(super) fn whole(values: &Distribution, target: Target) -> (f32, f32) {
    match target.symmetric {
        true => (-values.magnitude(), values.magnitude()),
        false => values.range(),
    }
}
