//! Drawings as inline SVG: a canvas for marks, and axes, bars, lines and heat maps made of them.
//!
//! Across, everything is a share of the width, so that a drawing fits a phone and a desk without its
//! text being scaled; down, everything is in pixels. Numbers have fixed decimals: the same data give
//! the same bytes.

mod axis;
mod bars;
mod heat;
mod line;

pub(super) use axis::Axis;
pub(super) use bars::{Bar, Mirrored, columns, rows, stacked};
pub(super) use heat::{Heat, heat, shortened};
pub(super) use line::{Series, Style, plot};

use std::fmt::Write;

/// Text as HTML and SVG hold it: the only place where anything is escaped.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() && c != '\n' => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// The form of a mark: colours only repeat what forms say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A filled circle
    Dot,
    /// A square
    Square,
    /// A triangle
    Triangle,
    /// A cross
    Cross,
    /// A ring around something
    Ring,
}

/// A drawing under construction.
#[derive(Debug, Clone)]
pub(super) struct Svg {
    /// Pixels between the margins.
    height: f64,
    /// Margins in pixels: top, right, bottom, left.
    margin: [f64; 4],
    body: String,
}

impl Svg {
    /// An empty drawing of that height between its margins (top, right, bottom, left).
    pub(super) fn new(height: f64, margin: [f64; 4]) -> Self {
        Self { height, margin, body: String::new() }
    }

    /// Pixels between the margins.
    pub(super) fn height(&self) -> f64 {
        self.height
    }

    /// A rectangle from one share of the width to another, from `y` downwards.
    pub(super) fn rect(
        &mut self,
        (from, to): (f64, f64),
        (y, height): (f64, f64),
        class: &str,
        title: &str,
    ) {
        let width = (to - from).max(0.0);
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{y:.1}\" width=\"{}\" height=\"{:.1}\"",
            percent(from),
            percent(width),
            height.max(0.0)
        ));
        self.close("rect", title);
    }

    /// A straight line between two points.
    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let (x1, x2) = (percent(x1), percent(x2));
        self.add(format_args!(
            "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1:.1}\" x2=\"{x2}\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// A line through points.
    pub(super) fn path(&mut self, points: &[(f64, f64)], class: &str, title: &str) {
        let mut data = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let command = if at == 0 { 'M' } else { 'L' };
            // The share of a thousand is what the view box below has across.
            let _ = write!(data, "{command}{:.1} {y:.1}", 1000.0 * x);
        }
        let height = self.height;
        self.add(format_args!(
            "<svg width=\"100%\" height=\"{height:.1}\" viewBox=\"0 0 1000 {height:.1}\" \
             preserveAspectRatio=\"none\" overflow=\"visible\"><path class=\"{class}\" d=\"{data}\""
        ));
        self.close("path", title);
        self.body.push_str("</svg>");
    }

    /// A mark of that form.
    pub(super) fn mark(&mut self, (x, y): (f64, f64), mark: Mark, class: &str, title: &str) {
        let x = percent(x);
        if let Mark::Dot | Mark::Ring = mark {
            let radius = if mark == Mark::Ring { 8.0 } else { 4.0 };
            let class = if mark == Mark::Ring { "ring".to_owned() } else { class.to_owned() };
            self.add(format_args!(
                "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y:.1}\" r=\"{radius}\""
            ));
            self.close("circle", title);
            return;
        }
        let data = match mark {
            Mark::Square => "M-4-4H4V4H-4Z",
            Mark::Triangle => "M0-5L5 4H-5Z",
            _ => "M-4-4L4 4M-4 4L4-4",
        };
        let class = if mark == Mark::Cross { format!("{class} open") } else { class.to_owned() };
        self.add(format_args!(
            "<svg x=\"{x}\" y=\"{y:.1}\" overflow=\"visible\"><path class=\"{class}\" d=\"{data}\""
        ));
        self.close("path", title);
        self.body.push_str("</svg>");
    }

    /// A text at a point, moved by so many pixels.
    pub(super) fn text(
        &mut self,
        (x, y): (f64, f64),
        (dx, dy): (f64, f64),
        anchor: Anchor,
        class: &str,
        text: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, text) = (percent(x), escape(text));
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y:.1}\" dx=\"{dx:.1}\" dy=\"{dy:.1}\"{anchor}>{text}</text>"
        ));
    }

    /// The element, with what it shows for those who do not see it.
    pub(super) fn finish(self, label: &str) -> String {
        let [top, right, bottom, left] = self.margin;
        format!(
            "<svg class=\"plot\" role=\"img\" aria-label=\"{}\" style=\"height:{:.0}px;padding:{top:.0}px \
             {right:.0}px {bottom:.0}px {left:.0}px\">{}</svg>",
            escape(label),
            self.height + top + bottom,
            self.body
        )
    }

    fn add(&mut self, element: std::fmt::Arguments) {
        // Writing to a string does not fail.
        let _ = self.body.write_fmt(element);
    }

    /// Ends an open tag, with its title as what a pointer shows.
    fn close(&mut self, tag: &str, title: &str) {
        match title.is_empty() {
            true => self.body.push_str("/>"),
            false => {
                let title = escape(title);
                self.add(format_args!("><title>{title}</title></{tag}>"));
            }
        }
    }
}

fn percent(share: f64) -> String {
    let share = if share.is_finite() { share } else { 0.0 };
    format!("{:.2}%", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_numbers_have_fixed_decimals() {
        let mut svg = Svg::new(10.0, [1.0, 2.0, 3.0, 4.0]);
        svg.rect((0.0, 1.0 / 3.0), (1.0, 2.0), "f1", "<a & \"b\">");
        svg.text((0.5, 2.0), (0.0, -1.0), Anchor::End, "t", "x<\u{1b}y");
        let text = svg.finish("it's");
        assert_eq!(
            text,
            "<svg class=\"plot\" role=\"img\" aria-label=\"it&#39;s\" style=\"height:14px;padding:1px 2px 3px \
             4px\"><rect class=\"f1\" x=\"0.00%\" y=\"1.0\" width=\"33.33%\" height=\"2.0\"><title>&lt;a &amp; \
             &quot;b&quot;&gt;</title></rect><text class=\"t\" x=\"50.00%\" y=\"2.0\" dx=\"0.0\" dy=\"-1.0\" \
             text-anchor=\"end\">x&lt;\u{fffd}y</text></svg>"
        );
    }

    #[test]
    fn what_is_no_number_is_drawn_at_the_edge() {
        let mut svg = Svg::new(10.0, [0.0; 4]);
        svg.line((f64::NAN, 0.0), (f64::INFINITY, 1.0), "s1");
        assert!(!svg.finish("").contains("NaN"));
    }
}
