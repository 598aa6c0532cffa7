//! Points and lines over two axes.

use super::{Anchor, Axis, Mark, Svg};

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Style {
    /// A line
    Line,
    /// A line that stays until the next point
    Steps,
    /// Marks alone
    Marks(Mark),
    /// A line with a mark at each point
    Both(Mark),
}

/// Numbers that belong together.
#[derive(Debug, Clone)]
pub(in super::super) struct Series {
    /// Its name.
    pub(in super::super) name: String,
    /// Class of its colour and dashes: a number.
    pub(in super::super) class: usize,
    /// How it is drawn.
    pub(in super::super) style: Style,
    /// Its points.
    pub(in super::super) points: Vec<(f64, f64)>,
    /// What a pointer shows at each point; the numbers where it is empty.
    pub(in super::super) titles: Vec<String>,
}

impl Series {
    /// Points as a line.
    pub(in super::super) fn line(name: &str, class: usize, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), class, style: Style::Line, points, titles: Vec::new() }
    }

    /// Points as marks, with what a pointer shows at each.
    pub(in super::super) fn marks(
        name: &str,
        class: usize,
        mark: Mark,
        points: Vec<((f64, f64), String)>,
    ) -> Self {
        let (points, titles) = points.into_iter().unzip();
        Self { name: name.to_owned(), class, style: Style::Marks(mark), points, titles }
    }

    /// Drawn in another way.
    pub(in super::super) fn styled(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    fn draw(&self, svg: &mut Svg, x: &Axis, y: &Axis) {
        let height = svg.height();
        let place = |&(a, b): &(f64, f64)| (x.share(a), y.y(b, height));
        let finite: Vec<(f64, f64)> =
            self.points.iter().filter(|(a, b)| a.is_finite() && b.is_finite()).map(place).collect();
        if !matches!(self.style, Style::Marks(_)) && finite.len() > 1 {
            let mut points = finite;
            if self.style == Style::Steps {
                points = stairs(&points);
            }
            svg.path(&points, &format!("s{}", self.class), &self.name);
        }
        let mark = match self.style {
            Style::Marks(mark) | Style::Both(mark) => mark,
            _ => return,
        };
        for (at, point) in self.points.iter().enumerate() {
            let title = match self.titles.get(at) {
                Some(title) => title.clone(),
                None => format!("{}: {} at {}", self.name, y.label(point.1), x.label(point.0)),
            };
            svg.mark(place(point), mark, &format!("f{}", self.class), &title);
        }
    }
}

fn stairs(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut stairs: Vec<(f64, f64)> = Vec::with_capacity(2 * points.len());
    for &(x, y) in points {
        if let Some(&(_, before)) = stairs.last() {
            stairs.push((x, before));
        }
        stairs.push((x, y));
    }
    stairs
}

/// Series over two axes with their names, and levels across that are named at their end.
pub(in super::super) fn plot(
    series: &[Series],
    (x, across): (&Axis, &str),
    (y, up): (&Axis, &str),
    levels: &[(f64, String)],
    height: f64,
    label: &str,
) -> String {
    let mut svg = Svg::new(height, [26.0, 12.0, 42.0, 52.0]);
    y.down(&mut svg, up);
    x.across(&mut svg, across);
    for (level, name) in levels {
        let at = y.y(*level, height);
        svg.line((0.0, at), (1.0, at), "level");
        svg.text((1.0, at), (0.0, -5.0), Anchor::End, "tick", name);
    }
    for series in series {
        series.draw(&mut svg, x, y);
    }
    svg.finish(label)
}
