//! One update.

use super::{Interval, Shape};

pub(super) const SHAPE: Shape = Shape {
    name: "one-shot",
    summary: "everything at the begin, in one update",
    parameter: None,
    at,
    is_once: true,
};

fn at(interval: &Interval, _: f64, _: f64) -> f64 {
    interval.target()
}
