//! HAQ's constraint: an allocation over budget loses bits until it is within.

use super::{Bits, Problem};

/// Takes a bit from the activations, then from the weights of each layer from the last to the first, pass
/// after pass, until the budget holds (the order of HAQ's code; the paper leaves it open). Pinned layers keep
/// theirs. Layers get the nearest bits that they may have first, so what comes out is always allowed.
///
/// A [`Problem`] can be met with the fewest bits if costs do not fall with more of them; where a table's do,
/// the cheapest choice of each layer is taken in the end.
pub fn trim(problem: &Problem, bits: &mut [Bits]) {
    let fewest = problem.params().min_bits;
    for (layer, own) in bits.iter_mut().enumerate() {
        if let ([only], true) = (problem.choices(layer), problem.is_pinned(layer)) {
            *own = only.bits;
        }
    }
    loop {
        let mut changed = false;
        for layer in (0..bits.len()).rev().filter(|&layer| !problem.is_pinned(layer)) {
            if problem.params().activations.is_none() && bits[layer].activations > fewest {
                if problem.is_within(problem.cost(bits)) {
                    return;
                }
                bits[layer].activations -= 1;
                changed = true;
            }
            if bits[layer].weights > fewest {
                if problem.is_within(problem.cost(bits)) {
                    return;
                }
                bits[layer].weights -= 1;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    if !problem.is_within(problem.cost(bits)) {
        for (layer, own) in bits.iter_mut().enumerate() {
            let choices = problem.choices(layer).iter();
            if let Some(least) = choices.min_by(|a, b| a.cost.total_cmp(&b.cost)) {
                *own = least.bits;
            }
        }
    }
}
