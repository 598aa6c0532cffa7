//! All values but a few.

use super::{Clip, Distribution, Parameter, Target};

pub(super) const CLIP: Clip = Clip {
    name: "percentile",
    summary: "this percentage of the values, half of the others on each side that has any",
    parameter: Some(Parameter { default: 99.99, range: (50.0, 100.0) }),
    range,
};

fn range(values: &Distribution, target: Target, percent: f64) -> (f32, f32) {
    let outside = (1.0 - percent / 100.0) * values.total() as f64;
    if target.symmetric {
        let mut sizes: Vec<(f32, u64)> =
            values.points().iter().map(|&(value, count)| (value.abs(), count)).collect();
        sizes.sort_by(|a, b| b.0.total_cmp(&a.0));
        let clip = after(sizes.into_iter(), outside);
        return (-clip, clip);
    }
    let (min, max) = values.range();
    let share = if min < 0.0 && max > 0.0 { outside / 2.0 } else { outside };
    let below = values.points().iter().copied().take_while(|point| point.0 < 0.0);
    let above = values.points().iter().rev().copied().take_while(|point| point.0 > 0.0);
    (after(below, share), after(above, share))
}

/// The first value behind `outside` values; zero when all are outside.
fn after(points: impl Iterator<Item = (f32, u64)>, outside: f64) -> f32 {
    let mut passed = 0;
    for (value, count) in points {
        passed += count;
        if passed as f64 > outside {
            return value;
        }
    }
    0.0
}
