//! The final sparsity from the first update on.

use super::{Interval, Shape};

pub(super) const SHAPE: Shape = Shape {
    name: "constant",
    summary: "the final sparsity from the first update on; later updates may move zeros",
    parameter: None,
    at,
    is_once: false,
};

fn at(interval: &Interval, _: f64, _: f64) -> f64 {
    interval.target()
}
