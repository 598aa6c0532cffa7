//! Bars: in pairs along rows, mirrored in columns, stacked.

use super::{Anchor, Axis, Svg};

/// A value before and after.
#[derive(Debug, Clone)]
pub(in super::super) struct Bar {
    /// What it is of.
    pub(in super::super) label: String,
    /// What stands at the end of its row.
    pub(in super::super) note: String,
    /// Before.
    pub(in super::super) before: f64,
    /// After.
    pub(in super::super) after: f64,
    /// What a pointer shows.
    pub(in super::super) title: String,
}

/// One row for each bar: what is kept is filled, what is gone is an outline. `ticks` are marked along
/// every bar, as long as they do not run together.
pub(in super::super) fn rows(bars: &[Bar], tick: Option<f64>, label: &str) -> String {
    const ROW: f64 = 34.0;
    let most = bars.iter().map(|bar| bar.before.max(bar.after)).fold(0.0, f64::max).max(1.0);
    let mut svg = Svg::new(ROW * bars.len() as f64, [0.0, 1.0, 4.0, 1.0]);
    for (at, bar) in bars.iter().enumerate() {
        let y = ROW * at as f64;
        svg.text((0.0, y), (0.0, 13.0), Anchor::Start, "label", &bar.label);
        svg.text((1.0, y), (0.0, 13.0), Anchor::End, "value", &bar.note);
        svg.rect((0.0, bar.before / most), (y + 18.0, 10.0), "was", &bar.title);
        svg.rect((0.0, bar.after / most), (y + 18.0, 10.0), "f1", &bar.title);
        let Some(tick) = tick.filter(|tick| most / tick <= 40.0) else { continue };
        let count = (bar.before.max(bar.after) / tick).floor() as usize;
        for i in 1..=count {
            let x = i as f64 * tick / most;
            svg.line((x, y + 18.0), (x, y + 28.0), "notch");
        }
    }
    svg.finish(label)
}

/// Two values for each column, one upwards and one downwards, with the classes of their bars.
pub(in super::super) struct Mirrored<'a> {
    /// Upwards, downwards, class, title.
    pub(in super::super) bars: &'a [(f64, f64, &'static str, String)],
    /// Names of both directions.
    pub(in super::super) names: [&'static str; 2],
    /// The largest value of both.
    pub(in super::super) most: f64,
    /// A thin line across, each from 0 to 1, where there is one.
    pub(in super::super) line: &'a [f64],
}

/// Mirrored columns along an index.
pub(in super::super) fn columns(of: &Mirrored, label: &str) -> String {
    const HALF: f64 = 96.0;
    const GAP: f64 = 6.0;
    let mut svg = Svg::new(2.0 * HALF + GAP, [24.0, 1.0, 22.0, 28.0]);
    let count = of.bars.len().max(1) as f64;
    let scale = |value: f64| HALF * value / of.most.max(1.0);
    for step in [of.most, of.most / 2.0] {
        let text = format!("{step:.0}");
        for y in [HALF - scale(step), HALF + GAP + scale(step)] {
            svg.line((0.0, y), (1.0, y), "grid");
            svg.text((0.0, y), (-6.0, 4.0), Anchor::End, "tick", &text);
        }
    }
    for (at, (up, down, class, title)) in of.bars.iter().enumerate() {
        let (from, to) = ((at as f64 + 0.12) / count, (at as f64 + 0.88) / count);
        svg.rect((from, to), (HALF - scale(*up), scale(*up)), class, title);
        svg.rect((from, to), (HALF + GAP, scale(*down)), &format!("{class} soft"), title);
    }
    if of.line.len() > 1 {
        let point = |(at, &share): (usize, &f64)| {
            ((at as f64 + 0.5) / count, (1.0 - share.clamp(0.0, 1.0)) * (2.0 * HALF + GAP))
        };
        let points: Vec<_> = of.line.iter().enumerate().map(point).collect();
        svg.path(&points, "s4 thin", "");
    }
    svg.text((0.0, 0.0), (0.0, -10.0), Anchor::Start, "name", of.names[0]);
    let bottom = svg.height();
    svg.text((0.0, bottom), (0.0, 16.0), Anchor::Start, "name", of.names[1]);
    svg.finish(label)
}

/// A part of a whole: its value, the class of its bar, and what a pointer shows.
pub(in super::super) type Piece = (f64, &'static str, String);

/// Parts of a whole, one bar for each, with its label.
pub(in super::super) fn stacked(
    bars: &[(String, Vec<Piece>)],
    axis: &Axis,
    name: &str,
    label: &str,
) -> String {
    const ROW: f64 = 52.0;
    let mut svg = Svg::new(ROW * bars.len() as f64, [4.0, 12.0, 42.0, 1.0]);
    for (at, (title, parts)) in bars.iter().enumerate() {
        let y = ROW * at as f64;
        svg.text((0.0, y), (0.0, 13.0), Anchor::Start, "label", title);
        let mut from = 0.0;
        for (value, class, part) in parts {
            let to = from + value;
            svg.rect((axis.share(from), axis.share(to)), (y + 20.0, 22.0), class, part);
            from = to;
        }
    }
    axis.across(&mut svg, name);
    svg.finish(label)
}
