//! Errors on rows that the fit has not seen.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Layer;
use lasso_prune::{best_ridge, error_on, held_out_errors, reconstruct};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Even and odd rows of a layer.
fn halves(layer: &Layer) -> [Layer; 2] {
    [0, 1].map(|parity| {
        let pick = |rows: &[f32], width: usize| -> Vec<f32> {
            rows.chunks(width).skip(parity).step_by(2).flatten().copied().collect()
        };
        let x = pick(&layer.x, layer.inputs());
        let y = pick(&layer.y, layer.outputs);
        Layer { samples: x.len() / layer.inputs(), x, y, ..layer.clone() }
    })
}

/// Samples (both halves have more than columns), channels, width, outputs.
fn sizes() -> impl Strategy<Value = [usize; 4]> {
    (70usize..120, 1usize..9, 1usize..4, 1usize..5).prop_map(|(s, c, k, n)| [s, c, k, n])
}

proptest! {
    // A fixed seed, so that a run that passed passes again; PROPTEST_CASES widens the search.
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(2017),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The error that one half's statistics predict for the other's fit is what its rows show.
    #[test]
    fn error_on_is_the_error_on_the_rows(seed: u64, size in sizes(), keep in 1usize..9) {
        let [even, odd] = halves(&Layer::random(seed, size, 0.5));
        let kept: Vec<usize> = (0..keep.min(even.channels)).collect();
        let fit = reconstruct(&even.problem(), &kept, 1e-3).unwrap();
        let shown = odd.relative_error(&fit.columns, &fit.weight, &fit.intercept);
        for judge in [odd.problem(), odd.dual_problem()] {
            let predicted = error_on(&judge, &fit);
            prop_assert!((predicted - shown).abs() <= 1e-4 * shown + 1e-6, "{predicted}, {shown}");
        }
    }

    /// The sweep over all widths says what a fit of each width says, at one ridge.
    #[test]
    fn the_sweep_agrees_with_single_fits(seed: u64, size in sizes(), rotate in 0usize..8) {
        /// The largest that is tried, so that there is no choice.
        const RIDGE: f64 = 100.0;
        let layer = Layer::random(seed, size, 0.5);
        let halves = halves(&layer).map(|half| half.problem());
        let mut order: Vec<usize> = (0..layer.channels).collect();
        order.rotate_left(rotate % layer.channels);
        let widths: Vec<usize> = (0..=layer.channels).collect();
        let swept = held_out_errors(std::slice::from_ref(&halves), &order, &widths, RIDGE).unwrap();
        for (&k, swept) in widths.iter().zip(swept) {
            let (_, single) =
                best_ridge(std::slice::from_ref(&halves), &order[..k], RIDGE).unwrap();
            // Single fits hand their weights out in f32.
            prop_assert!((swept - single).abs() <= 1e-5 * single + 1e-6, "{k}: {swept}, {single}");
        }
    }
}

/// With more columns than rows large ridges win, so this compares the choice of the ridge too.
#[test]
fn the_sweep_over_rows_agrees_with_single_fits() {
    for (seed, size) in [(5, [24, 10, 3, 2]), (6, [30, 7, 9, 3]), (7, [12, 20, 1, 1])] {
        let layer = Layer::random(seed, size, 0.5);
        let halves = halves(&layer).map(|half| half.dual_problem());
        let order: Vec<usize> = (0..layer.channels).rev().collect();
        let widths = [layer.channels, 0, layer.channels / 2, 1];
        let swept = held_out_errors(std::slice::from_ref(&halves), &order, &widths, 1e-6).unwrap();
        for (&k, swept) in widths.iter().zip(swept) {
            let (_, single) = best_ridge(std::slice::from_ref(&halves), &order[..k], 1e-6).unwrap();
            // Single fits hand their weights out in f32.
            assert!((swept - single).abs() <= 1e-4 * single, "{seed}, {k}: {swept}, {single}");
        }
    }
}

/// Where rows are few, the error may stand still over ridges that are too small to matter: the search goes on, and
/// finds what starting at any larger ridge would.
#[test]
fn the_search_passes_ridges_that_change_nothing() {
    const RIDGES: [f64; 6] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
    for (seed, size) in [(1, [40, 16, 1, 4]), (2, [48, 20, 1, 2]), (3, [60, 12, 2, 3])] {
        // Responses that the inputs explain in part only.
        let mut layer = Layer::random(seed, size, 0.0);
        let other = Layer::random(seed + 100, size, 0.0);
        layer.y.iter_mut().zip(&other.y).for_each(|(y, noise)| *y += 2.0 * noise);
        let halves = [halves(&layer).map(|half| half.problem())];
        let kept: Vec<usize> = (0..layer.channels).collect();
        let (_, found) = best_ridge(&halves, &kept, 1e-12).unwrap();
        for ridge in RIDGES {
            let (_, other) = best_ridge(&halves, &kept, ridge).unwrap();
            assert!(found <= 1.01 * other, "{seed}: {found} from 0, {other} from {ridge}");
        }
    }
}

#[test]
fn a_width_beyond_the_channels_is_an_error() {
    let layer = Layer::random(5, [40, 3, 2, 2], 0.5);
    let halves = [halves(&layer).map(|half| half.problem())];
    let error = held_out_errors(&halves, &[0, 1, 2], &[4], 1e-6).unwrap_err();
    assert!(error.to_string().contains("a width of 4 for 3 channels"), "{error}");
}
