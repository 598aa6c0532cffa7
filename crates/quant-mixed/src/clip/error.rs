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

/// Rounds over both ends, each with the other held.
const ROUNDS: usize = 2;

fn range(values: &Distribution, target: Target, _: f64) -> (f32, f32) {
    let ends = whole(values, target);
    if target.symmetric {
        let clip = best(|share| error(values, Affine::symmetric(target.bits, ends.1 * share)));
        return (-ends.1 * clip, ends.1 * clip);
    }
    let of = |low: f32, high: f32| {
        error(values, Affine::asymmetric(target.bits, ends.0 * low, ends.1 * high))
    };
    let (mut low, mut high) = (1.0, 1.0);
    for _ in 0..ROUNDS {
        if ends.1 > 0.0 {
            high = best(|share| of(low, share));
        }
        if ends.0 < 0.0 {
            low = best(|share| of(share, high));
        }
    }
    (ends.0 * low, ends.1 * high)
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
fn error(values: &Distribution, grid: tensor_core::Result<Affine>) -> f64 {
    let Ok(grid) = grid else { return f64::INFINITY };
    let inverse = grid.scale.recip();
    let (low, high) = grid.range();
    let of_zero = grid.nearest(0.0);
    if !inverse.is_normal() || of_zero != 0.0 {
        // A grid of one bit has no zero.
        let others = values.points().iter();
        let others = others.map(|&(x, n)| square(grid.nearest(x) - x) * n as f64);
        return others.sum::<f64>() + square(of_zero) * values.zeros() as f64;
    }
    let points = values.points().iter().map(|&(x, count)| {
        let inside = x.clamp(low, high);
        // Ties and the last bit of the product make no difference to the sum.
        let steps = inside * inverse;
        let whole = (steps + WHOLE) - WHOLE;
        square(whole * grid.scale - x) * count as f64
    });
    points.sum()
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
