//! A straight line.

use super::{Interval, Shape};

pub(super) const SHAPE: Shape = Shape {
    name: "linear",
    summary: "the same number of weights in each update",
    parameter: None,
    at,
    is_once: false,
};

fn at(interval: &Interval, share: f64, _: f64) -> f64 {
    interval.initial() + (interval.target() - interval.initial()) * share
}
