//! Weights that come back where the gradient is largest.

use crate::candidates::Candidates;
use crate::{Layout, Mask, Pattern};
use std::f64::consts::PI;
use tensor_core::Result;

/// A layer at an update.
pub(super) struct Moving<'a> {
    pub(super) weight: &'a [f32],
    /// Of the masked weight, masked places too.
    pub(super) gradient: &'a [f32],
    pub(super) layout: Layout,
    pub(super) pattern: Pattern,
    /// What is masked.
    pub(super) mask: &'a Mask,
    /// What may not come back.
    pub(super) fixed: Option<&'a Mask>,
}

/// The share that moves after a share `passed` of the interval: `alpha / 2 (1 + cos(pi passed))`.
pub(super) fn moving_share(alpha: f64, passed: f64) -> f64 {
    alpha / 2.0 * (1.0 + (PI * passed).cos())
}

/// The mask of `zeros` weights after `share` of those that stay were exchanged: the smallest go,
/// and of all that are gone those with the largest gradients come back, but none that is fixed.
pub(super) fn exchange(layer: Moving, zeros: usize, share: f64) -> Result<Mask> {
    let dims = layer.mask.dims();
    let grid = layer.layout.grid(dims)?;
    let moved = (share * (layer.weight.len() - zeros) as f64).floor() as usize;
    let sizes: Vec<f32> = layer.weight.iter().map(|w| w.abs()).collect();
    // What goes may be anywhere: what comes back makes the pattern whole.
    let smallest = Candidates::new(&sizes, grid, Pattern::Unstructured, Some(layer.mask.keep()))?;
    let stays = smallest.without(zeros + moved);
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(f32::MIN_POSITIVE, f32::max);
    let most = largest(&mut sizes.iter().copied());
    let steepest = largest(&mut layer.gradient.iter().map(|g| g.abs()));
    // Gradients rank from 0 to 1, what stays above.
    let score = |at: usize| match stays[at] {
        true => 2.0 + sizes[at] / most,
        false => layer.gradient[at].abs() / steepest,
    };
    let scores: Vec<f32> = (0..sizes.len()).map(score).collect();
    let Some(fixed) = layer.fixed else {
        let candidates = Candidates::new(&scores, grid, layer.pattern, None)?;
        return Mask::new(dims, candidates.without(zeros));
    };
    let candidates = Candidates::new(&scores, grid, layer.pattern, Some(fixed.keep()))?;
    // Fixed zeros beyond what their group may lose come on top of what the pattern takes.
    let on_top = fixed.zeros() - candidates.masked();
    Mask::new(dims, candidates.without(zeros.saturating_sub(on_top)))?.and(fixed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_smallest_go_and_the_steepest_come_back() {
        let mask = Mask::new(&[1, 8], vec![true, true, true, true, false, false, false, false]);
        let mask = mask.unwrap();
        let layer = |pattern| Moving {
            weight: &[4.0, -1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0],
            gradient: &[0.0, 0.1, 0.0, 0.0, 0.2, -9.0, 0.3, 0.0],
            layout: Layout::OutputsFirst,
            pattern,
            mask: &mask,
            fixed: None,
        };
        let kept = |mask: Mask| (0..8).filter(|&i| mask.keep()[i]).collect::<Vec<_>>();
        // A quarter of four weights: one.
        let moved = exchange(layer(Pattern::Unstructured), 4, 0.25).unwrap();
        assert_eq!(kept(moved), [0, 2, 3, 5]);
        let moved = exchange(layer(Pattern::Unstructured), 4, 0.0).unwrap();
        assert_eq!(kept(moved), [0, 1, 2, 3]);
        let moved = exchange(layer(Pattern::NM(2, 4)), 4, 0.25).unwrap();
        assert_eq!(kept(moved), [0, 2, 5, 6]);
    }

    /// A group has more fixed zeros than it would lose, and the steepest gradients are there.
    #[test]
    fn fixed_zeros_never_come_back() {
        let fixed = [true, false, false, false, true, true, true, true];
        let fixed = Mask::new(&[1, 8], fixed.to_vec()).unwrap();
        let mask = [true, false, false, false, true, true, true, false];
        let mask = Mask::new(&[1, 8], mask.to_vec()).unwrap();
        for pattern in [Pattern::NM(2, 4), Pattern::Unstructured] {
            let moving = Moving {
                weight: &[4.0, 0.0, 0.0, 0.0, 1.0, 3.0, 2.0, 0.0],
                gradient: &[0.0, 9.0, 8.0, 7.0, 0.0, 0.0, 0.0, 5.0],
                layout: Layout::OutputsFirst,
                pattern,
                mask: &mask,
                fixed: Some(&fixed),
            };
            let moved = exchange(moving, 4, 0.25).unwrap();
            assert_eq!(moved.and(&fixed).unwrap(), moved, "{pattern}");
            // The smallest weight made room for what is not fixed.
            let expected = [true, false, false, false, false, true, true, true];
            assert_eq!(moved.keep(), expected, "{pattern}");
        }
    }

    #[test]
    fn the_share_falls_to_nothing() {
        assert_eq!(moving_share(0.3, 0.0), 0.3);
        assert!((moving_share(0.3, 0.5) - 0.15).abs() < 1e-12);
        assert!(moving_share(0.3, 1.0).abs() < 1e-12);
    }
}
