//! The smallest divergence of densities.

use super::extremes::whole;
use super::{Clip, Distribution, Target};
use crate::quantizer::Affine;

pub(super) const CLIP: Clip = Clip {
    name: "kl",
    summary: "the smallest KL divergence of the values from the quantized ones (HAQ, Eq. 5)",
    parameter: None,
    range,
};

/// Bins over the whole range.
const BINS: usize = 2048;

/// Added to every bin, so that no logarithm is infinite.
const LEAST: f64 = 1e-6;

/// Candidates: these shares of the whole range, from a tenth on.
const CANDIDATES: usize = 180;

/// `argmin_x KL(W || quantize(W, x))` over the clip (HAQ, Eq. 5). Both are densities on the same
/// bins; the mass of each level lies evenly on the filled bins that it came from, and what is cut
/// off goes to the level at the edge.
fn range(values: &Distribution, target: Target, _: f64) -> (f32, f32) {
    let (low, high) = whole(values, target);
    let width = (f64::from(high) - f64::from(low)) / BINS as f64;
    let bin = |x: f32| (((f64::from(x) - f64::from(low)) / width) as usize).min(BINS - 1);
    let mut counts = vec![0.0; BINS];
    for &(value, count) in values.points() {
        counts[bin(value)] += count as f64;
    }
    counts[bin(0.0)] += values.zeros() as f64;
    let centres: Vec<f32> =
        (0..BINS).map(|i| (f64::from(low) + (i as f64 + 0.5) * width) as f32).collect();
    let density = normalized(&counts);
    let mut best = (1.0, f64::INFINITY);
    for step in (0..=CANDIDATES).rev() {
        let share = 0.1 + 0.9 * step as f32 / CANDIDATES as f32;
        let grid = match target.symmetric {
            true => Affine::symmetric(target.bits, high * share),
            false => Affine::asymmetric(target.bits, low * share, high * share),
        };
        let Ok(grid) = grid else { continue };
        let found = divergence(&density, &normalized(&spread(&counts, &centres, &grid)));
        if found < best.1 {
            best = (share, found);
        }
    }
    (low * best.0, high * best.0)
}

/// The mass of each level on the filled bins that it came from: bins of one level are neighbours.
/// What lies beyond the grid adds to the level at the edge, and leaves its own bins empty.
fn spread(counts: &[f64], centres: &[f32], grid: &Affine) -> Vec<f64> {
    let mut spread = vec![0.0; counts.len()];
    let (low, high) = grid.range();
    let half = grid.scale / 2.0;
    let mut start = 0;
    while start < counts.len() {
        let level = grid.quantize(centres[start]);
        let more = centres[start..].iter().take_while(|&&x| grid.quantize(x) == level).count();
        let bins = start..start + more.max(1);
        let mass: f64 = counts[bins.clone()].iter().sum();
        let is_inside = |i: usize| centres[i] >= low - half && centres[i] <= high + half;
        let filled: Vec<usize> =
            bins.clone().filter(|&i| counts[i] > 0.0 && is_inside(i)).collect();
        // A level that only what is cut off maps to lies in its first bin inside.
        let places = match filled.is_empty() {
            true => bins.clone().filter(|&i| is_inside(i)).take(1).collect(),
            false => filled,
        };
        for &place in &places {
            spread[place] += mass / places.len() as f64;
        }
        start = bins.end;
    }
    spread
}

fn normalized(counts: &[f64]) -> Vec<f64> {
    let total: f64 = counts.iter().sum();
    let share = |count: f64| count / total.max(f64::MIN_POSITIVE) + LEAST;
    let sum: f64 = counts.iter().map(|&count| share(count)).sum();
    counts.iter().map(|&count| share(count) / sum).collect()
}

fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum()
}
