//! The same share of what is left in each update.

use super::{Interval, Shape};

pub(super) const SHAPE: Shape = Shape {
    name: "exponential",
    summary: "the same share of what is left in each update (iterative pruning, Han et al. 2015)",
    parameter: None,
    at,
    is_once: false,
};

fn at(interval: &Interval, share: f64, _: f64) -> f64 {
    let (first, last) = (1.0 - interval.initial(), 1.0 - interval.target());
    1.0 - first * (last / first).powf(share)
}
