//! Scales with round ticks.

use super::{Anchor, Svg};

/// A scale from numbers to a share of its length.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    ticks: Vec<f64>,
    /// What is beside the ticks.
    unit: &'static str,
}

impl Axis {
    /// Over all numbers that are finite, with round ends.
    pub(in super::super) fn over(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = extent(values, f64::INFINITY, f64::NEG_INFINITY);
        Self::linear(low, high)
    }

    /// As [`over`](Self::over), with zero among them.
    pub(in super::super) fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = extent(values, 0.0, 0.0);
        Self::linear(low, high)
    }

    /// Over the positive numbers, by powers of ten.
    pub(in super::super) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|value| *value > 0.0);
        let (low, high) = extent(positive, f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let (first, last) = (low.log10().floor(), high.log10().ceil());
        let last = last.max(first + 1.0);
        let step = ((last - first) / 5.0).ceil().max(1.0);
        let count = ((last - first) / step).floor() as usize;
        let ticks = (0..=count).map(|i| 10_f64.powf(first + step * i as f64)).collect();
        Self { low: first, high: last, is_log: true, ticks, unit: "" }
    }

    /// From one number to another as they are.
    pub(in super::super) fn between(low: f64, high: f64) -> Self {
        Self { low, high, ..Self::linear(low, high) }
    }

    fn linear(low: f64, high: f64) -> Self {
        let (low, high) = match (low, high) {
            (low, high) if low > high => (0.0, 1.0),
            (low, high) if low == high => {
                (low - 0.5 * low.abs().max(1e-9), high + 0.5 * high.abs().max(1e-9))
            }
            ends => ends,
        };
        let step = round_step((high - low) / 4.0);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let ticks = (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect();
        Self { low: first * step, high: last * step, is_log: false, ticks, unit: "" }
    }

    /// With a unit behind each number.
    pub(in super::super) fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Where a number is, from 0 to 1.
    pub(in super::super) fn share(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = (value - self.low) / (self.high - self.low);
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// A number as the axis writes it.
    pub(in super::super) fn label(&self, value: f64) -> String {
        let text = match self.is_log {
            true => power(value),
            false => {
                short(value, self.ticks.get(1).zip(self.ticks.first()).map_or(1.0, |(b, a)| b - a))
            }
        };
        format!("{text}{}", self.unit)
    }

    fn shown(&self) -> impl Iterator<Item = f64> {
        let is_within = |tick: &&f64| {
            let at = if self.is_log { tick.log10() } else { **tick };
            at >= self.low - 1e-9 && at <= self.high + 1e-9
        };
        self.ticks.iter().filter(is_within).copied()
    }

    /// Draws it below a drawing, with its name.
    pub(in super::super) fn across(&self, svg: &mut Svg, name: &str) {
        let bottom = svg.height();
        for tick in self.shown() {
            let x = self.share(tick);
            svg.line((x, bottom), (x, bottom + 4.0), "axis");
            let anchor = match x {
                x if x < 0.02 => Anchor::Start,
                x if x > 0.98 => Anchor::End,
                _ => Anchor::Middle,
            };
            svg.text((x, bottom), (0.0, 17.0), anchor, "tick", &self.label(tick));
        }
        svg.text((1.0, bottom), (0.0, 34.0), Anchor::End, "name", name);
    }

    /// Draws it at the left of a drawing, with lines across and its name above.
    pub(in super::super) fn down(&self, svg: &mut Svg, name: &str) {
        for tick in self.shown() {
            let y = self.y(tick, svg.height());
            svg.line((0.0, y), (1.0, y), "grid");
            svg.text((0.0, y), (-6.0, 4.0), Anchor::End, "tick", &self.label(tick));
        }
        svg.text((0.0, 0.0), (0.0, -10.0), Anchor::Start, "name", name);
    }

    /// The pixel of a number from above.
    pub(in super::super) fn y(&self, value: f64, height: f64) -> f64 {
        (1.0 - self.share(value)) * height
    }
}

fn extent(values: impl IntoIterator<Item = f64>, low: f64, high: f64) -> (f64, f64) {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold((low, high), |(low, high), value| (low.min(value), high.max(value)))
}

/// The next of 1, 2, 2.5 and 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

/// As many decimals as a step needs; thousands and millions by their letters.
fn short(value: f64, step: f64) -> String {
    for (unit, letter) in [(1e9, "G"), (1e6, "M"), (1e4, "k")] {
        if value.abs() >= unit || (step >= unit / 10.0 && unit > 1e4) {
            let unit = if letter == "k" { 1e3 } else { unit };
            return format!("{} {letter}", trimmed(value / unit, 3));
        }
    }
    let decimals = (-(step.abs().max(1e-12).log10()).floor()).clamp(0.0, 9.0) as usize + 1;
    trimmed(value, decimals)
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    if text == "-0" { "0".to_owned() } else { text }
}

fn power(value: f64) -> String {
    let exponent = value.log10().round() as i32;
    match exponent {
        -3..=3 => trimmed(value, 3),
        _ => format!("1e{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.shown().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ends_and_ticks_are_round() {
        assert_eq!(labels(&Axis::from_zero([0.3, 97.0])), ["0", "25", "50", "75", "100"]);
        assert_eq!(labels(&Axis::over([0.912, 0.935])), ["0.91", "0.92", "0.93", "0.94"]);
        assert_eq!(labels(&Axis::over([2.0, 2.0])).len(), 5);
        assert_eq!(labels(&Axis::from_zero([31_000_000.0]))[1], "10 M");
        assert_eq!(labels(&Axis::log([0.002, 0.7])), ["0.001", "0.01", "0.1", "1"]);
    }

    #[test]
    fn nothing_to_show_is_a_scale_too() {
        assert_eq!(labels(&Axis::over([])), ["0", "0.25", "0.5", "0.75", "1"]);
        assert_eq!(Axis::over([f64::NAN, 1.0, 3.0]).share(2.0), 0.5);
        assert_eq!(Axis::log([0.0]).share(0.0), 0.0);
    }
}
