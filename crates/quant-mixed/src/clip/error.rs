//! The smallest squared error.

use super::extremes::whole;
use super::{Clip, Distribution, Target};
use crate::quantizer::Affine;

pub(super) const CLIP: Clip = Clip {
    name: "mse",
    summary: "the range with the smallest squared error",
    parameter: None,
    range,
};

/// Candidates for each end: these shares of its whole range, in steps.
const CANDIDATES: i32 = 100;

/// Where both ends are sought: every so many candidates of each end with every one of the other, then
/// all of those around the best. With few bits the place of zero jumps from one integer to the next, so
/// that an end at a time would not find the way.
const STRIDE: i32 = 5;

/// Values and how many of each, side by side for vector instructions.
struct Points {
    values: Vec<f32>,
    counts: Vec<f64>,
    zeros: f64,
}

impl Points {
    fn new(of: &Distribution) -> Self {
        let (values, counts) = of.points().iter().map(|&(x, n)| (x, n as f64)).unzip();
        Self { values, counts, zeros: of.zeros() as f64 }
    }

    /// The sum of a function of the values, each as often as it is there; in lanes, so that a term does
    /// not wait for the one before it.
    fn sum(&self, of: impl Fn(f32) -> f64) -> f64 {
        let mut lanes = [0.0; LANES];
        for (values, counts) in self.values.chunks(LANES).zip(self.counts.chunks(LANES)) {
            for ((lane, &x), count) in lanes.iter_mut().zip(values).zip(counts) {
                *lane += of(x) * count;
            }
        }
        lanes.iter().sum()
    }
}

/// Terms that are summed side by side.
const LANES: usize = 8;

fn range(values: &Distribution, target: Target, _: f64) -> (f32, f32) {
    let ends = whole(values, target);
    let values = &Points::new(values);
    if target.symmetric {
        let clip = best(|share| error(values, Affine::symmetric(target.bits, ends.1 * share)));
        return (-ends.1 * clip, ends.1 * clip);
    }
    let of = |low: f32, high: f32| {
        error(values, Affine::asymmetric(target.bits, ends.0 * low, ends.1 * high))
    };
    if ends.0 >= 0.0 {
        return (ends.0, ends.1 * best(|share| of(1.0, share)));
    }
    if ends.1 <= 0.0 {
        return (ends.0 * best(|share| of(share, 1.0)), ends.1);
    }
    let share = |step: i32| step as f32 / CANDIDATES as f32;
    let pairs = |low: &[i32], high: &[i32]| -> (i32, i32) {
        let mut best = ((CANDIDATES, CANDIDATES), f64::INFINITY);
        for &a in low {
            for &b in high {
                let found = of(share(a), share(b));
                if found < best.1 {
                    best = ((a, b), found);
                }
            }
        }
        best.0
    };
    let coarse: Vec<i32> = (1..=CANDIDATES / STRIDE).rev().map(|i| i * STRIDE).collect();
    let (low, high) = pairs(&coarse, &coarse);
    let around = |step: i32| -> Vec<i32> {
        (step - STRIDE..=step + STRIDE).rev().filter(|s| (1..=CANDIDATES).contains(s)).collect()
    };
    let (low, high) = pairs(&around(low), &around(high));
    (ends.0 * share(low), ends.1 * share(high))
}

/// The share with the smallest error; of equal ones the largest.
fn best(error: impl Fn(f32) -> f64) -> f32 {
    let mut best = (1.0, f64::INFINITY);
    for step in (1..=CANDIDATES).rev() {
        let share = step as f32 / CANDIDATES as f32;
        let found = error(share);
        if found < best.1 {
            best = (share, found);
        }
    }
    best.0
}

/// Sum of squared errors; infinite where there is no such grid.
fn error(values: &Points, grid: tensor_core::Result<Affine>) -> f64 {
    let Ok(grid) = grid else { return f64::INFINITY };
    let inverse = grid.scale.recip();
    let (low, high) = grid.range();
    let of_zero = grid.nearest(0.0);
    if !inverse.is_normal() || of_zero != 0.0 {
        // A grid of one bit has no zero.
        let others = values.sum(|x| square(grid.nearest(x) - x));
        return others + square(of_zero) * values.zeros;
    }
    values.sum(|x| {
        // Not `clamp`, which checks its bounds for each value.
        let inside = x.max(low).min(high);
        // Ties and the last bit of the product make no difference to the sum.
        let steps = inside * inverse;
        let whole = (steps + WHOLE) - WHOLE;
        square(whole * grid.scale - x)
    })
}

/// 1.5 * 2^23: sums with smaller numbers are whole.
const WHOLE: f32 = 12_582_912.0;

fn square(x: f32) -> f64 {
    f64::from(x) * f64::from(x)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// One bit: two values +-s, for which the best s is the mean magnitude, zeros included.
    #[test]
    fn zeros_count_where_the_grid_has_none() {
        let mut values = vec![0.0; 80];
        values.extend((1..=20).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 } * i as f32 / 20.0));
        let values = Distribution::of(&values).unwrap();
        let (low, high) = range(&values, Target { bits: 1, symmetric: true }, 0.0);
        let mean = 10.5 / 100.0;
        assert!((high - mean).abs() <= 0.011 && low == -high, "{high} {mean}");
    }
}
