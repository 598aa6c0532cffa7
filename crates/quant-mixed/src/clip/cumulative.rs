//! The smallest divergence of cumulative distributions.

use super::extremes::whole;
use super::{Clip, Distribution, Target};

pub(super) const CLIP: Clip = Clip {
    name: "kl-cdf",
    summary: "the smallest divergence of cumulative distributions, as HAQ's code computes it",
    parameter: None,
    range,
};

/// Most bins, where the code takes the root of the number of values.
const MAX_BINS: usize = 4096;

/// The clip of HAQ's official code: magnitudes in `sqrt(n)` bins, cumulated; for each candidate the
/// curve up to it, drawn through `2^(b-1)` points, is compared with the whole curve by
/// `sum (P - Q) log2(P / Q)`. That is no divergence of densities as in the paper.
fn range(values: &Distribution, target: Target, _: f64) -> (f32, f32) {
    let most = values.magnitude();
    let (low, high) = whole(values, target);
    let clip = threshold(values, target.bits, most);
    (low.max(-clip), high.min(clip))
}

fn threshold(values: &Distribution, bits: u8, most: f32) -> f32 {
    let bins = ((values.total() as f64).sqrt().ceil() as usize).clamp(1, MAX_BINS);
    let width = f64::from(most) / bins as f64;
    let mut counts = vec![0.0; bins];
    counts[0] = values.zeros() as f64;
    for &(value, count) in values.points() {
        let bin = (f64::from(value.abs()) / width) as usize;
        counts[bin.min(bins - 1)] += count as f64;
    }
    let total: f64 = counts.iter().sum();
    let mut sum = 0.0;
    let cumulative: Vec<f64> = counts
        .iter()
        .map(|count| {
            sum += count / total;
            sum
        })
        .collect();
    let points = 1_usize << (bits - 1);
    let mut best = (most, f64::INFINITY);
    for i in points + 1..=bins {
        let found = score(&cumulative, i, points);
        if found < best.1 {
            best = (((i as f64 + 0.5) * width) as f32, found);
        }
    }
    best.0.min(most)
}

/// The score of keeping the first `i` bins.
fn score(cumulative: &[f64], i: usize, points: usize) -> f64 {
    let kept = |at: usize| if at + 1 >= i { 1.0 } else { cumulative[at] };
    let few: Vec<f64> = (0..points).map(|k| between(i, share(k, points), &kept)).collect();
    let q = |at: usize| match at < i {
        true => between(points, share(at, i), &|k| few[k]),
        false => 1.0,
    };
    cumulative.iter().enumerate().map(|(at, &p)| divergence(p, q(at))).sum()
}

/// Where the `k`th of `count` equally spaced places from 0 to 1 is.
fn share(k: usize, count: usize) -> f64 {
    k as f64 / (count.max(2) - 1) as f64
}

/// Linear interpolation of `count` equally spaced values at a place from 0 to 1.
fn between(count: usize, place: f64, value: &impl Fn(usize) -> f64) -> f64 {
    let position = place * (count - 1) as f64;
    let left = (position as usize).min(count - 1);
    let right = (left + 1).min(count - 1);
    let rest = position - left as f64;
    value(left) * (1.0 - rest) + value(right) * rest
}

fn divergence(p: f64, q: f64) -> f64 {
    // As long as nothing was counted, both curves are zero.
    if p > 0.0 && q > 0.0 { (p - q) * (p / q).log2() } else { 0.0 }
}
