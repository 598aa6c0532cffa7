//! Error layer by layer: of its own, and with the errors of all before it.

use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Axis, Mark, Series, Style, plot};
use super::{list, of_step, text};
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "errors",
    title: "Error by layer",
    make: Make::Alone(make),
    source: "kerf quantize, prune, factor or sparsify MODEL --data D -o OUT --report DIR",
};

/// Layers in the list of the worst.
const WORST: usize = 10;

/// A curve over the layers: key in the document, name, class.
type Curve = (&'static str, &'static str, usize);

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let mut blocks = Vec::new();
    for (document, report) in evidence.results("quantization") {
        let step = document.step.as_deref();
        let layers = list(report, "layers");
        let curves = [
            ("local_sqnr_db", "of its own", 1),
            ("accumulated_sqnr_db", "with all before it", 2),
            ("weight_sqnr_db", "of the weights", 3),
        ];
        let name = of_step("Signal over error", step);
        let caption = "Signal over error in dB of each layer's response, in execution order: the lower, the \
                       worse. Where the second line falls and the first does not, errors of earlier layers \
                       add up.";
        blocks.extend(figure(layers, &name, &curves, false, caption));
        blocks.extend(worst(layers, list(report, "activations"), evidence));
    }
    let relative: [(&str, &str, &[Curve], &str); 3] = [
        (
            "pruning",
            "Error after pruning",
            &[
                ("error", "as written", 1),
                ("held_out_error", "held out", 2),
                ("first_k_error", "first k channels", 4),
                ("max_response_error", "largest filters", 5),
            ],
            "Squared error of each layer's response over its variance, after least squares, beside that of \
             two simple ways to choose as many channels.",
        ),
        (
            "factoring",
            "Error after factorization",
            &[("error", "as written", 1), ("held_out_error", "held out", 2)],
            "Squared error of each layer's response over its variance.",
        ),
        (
            "sparsity",
            "Error after sparsifying",
            &[
                ("error", "as written", 1),
                ("uncompensated_error", "without compensation", 2),
                ("magnitude_error", "smallest magnitudes", 4),
            ],
            "Squared error of each layer's response over its variance: with the other weights solved \
             again, as they were, and with as many of the smallest weights zero.",
        ),
    ];
    for (key, name, curves, caption) in relative {
        for (document, report) in evidence.results(key) {
            let name = of_step(name, document.step.as_deref());
            blocks.extend(figure(list(report, "layers"), &name, curves, true, caption));
        }
    }
    Ok((!blocks.is_empty()).then(|| Part { lead: Vec::new(), blocks }))
}

fn figure(
    layers: &[Value],
    name: &str,
    curves: &[Curve],
    is_relative: bool,
    caption: &str,
) -> Option<Block> {
    let mut sheet = Sheet::new(name, &["layer", "op"]);
    let known: Vec<&Curve> =
        curves.iter().filter(|(key, ..)| layers.iter().any(|layer| layer[*key].is_f64())).collect();
    if known.is_empty() {
        return None;
    }
    let unit = if is_relative { "%" } else { "dB" };
    sheet.columns.extend(known.iter().map(|(_, name, _)| ((*name).to_owned(), unit)));
    for layer in layers {
        let value =
            |key: &str| layer[key].as_f64().map(|v| if is_relative { 100.0 * v } else { v });
        let cells =
            known.iter().map(|(key, ..)| Cell::number(value(key), if is_relative { 4 } else { 1 }));
        let head = [Cell::Node(text(layer, "key").to_owned()), Cell::text(text(layer, "op"))];
        sheet.row(head.into_iter().chain(cells));
    }
    let scale = if is_relative { 100.0 } else { 1.0 };
    let marks = [Mark::Dot, Mark::Square, Mark::Triangle, Mark::Cross];
    let series: Vec<Series> = known
        .iter()
        .zip(marks)
        .map(|((key, name, class), mark)| {
            let points = layers.iter().enumerate().filter_map(|(at, layer)| {
                Some((((at + 1) as f64, scale * layer[*key].as_f64()?), text(layer, "key")))
            });
            let titled = points
                .map(|(point, layer)| (point, format!("{layer}, {name}: {:.3} {unit}", point.1)));
            let style = if layers.len() > 60 { Style::Line } else { Style::Both(mark) };
            Series::marks(name, *class, mark, titled.collect()).styled(style)
        })
        .collect();
    let values = || series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
    let y = if is_relative { Axis::log(values()) } else { Axis::from_zero(values()) };
    let x = Axis::between(0.5, layers.len() as f64 + 0.5);
    let up = if is_relative { "error, %, logarithmic" } else { "dB" };
    let swatches = ["dot", "square", "triangle", "cross"];
    let legend = known
        .iter()
        .zip(swatches)
        .map(|((_, name, class), form)| (swatch(form, *class), (*name).to_owned()));
    Some(Block::Figure(Figure {
        is_small: false,
        svg: plot(&series, (&x, "layer in execution order"), (&y, up), &[], 220.0, name),
        legend: legend.collect(),
        caption: format!("{name}. {caption}"),
        sheet,
    }))
}

fn swatch(form: &str, class: usize) -> &'static str {
    match (form, class) {
        ("dot", _) => "dot f1",
        ("square", _) => "square f2",
        ("triangle", 3) => "triangle f3",
        ("triangle", _) => "triangle f4",
        _ => "cross f5",
    }
}

/// The layers that lose most, with what they read.
fn worst(layers: &[Value], activations: &[Value], evidence: &Evidence) -> Option<Block> {
    let key = |layer: &Value| layer["local_sqnr_db"].as_f64().unwrap_or(f64::INFINITY);
    let mut layers: Vec<&Value> = layers.iter().collect();
    layers.sort_by(|a, b| key(a).total_cmp(&key(b)));
    layers.truncate(WORST);
    let mut sheet = Sheet::new(
        "The worst layers and the range of what they read",
        &[
            "layer",
            "own, dB",
            "accumulated, dB",
            "seen from",
            "to",
            "represented from",
            "to",
            "outside, %",
        ],
    );
    let found = evidence.before.found().or(evidence.after.found());
    let mut drawings = String::new();
    for layer in layers {
        let name = text(layer, "key");
        let input =
            found.and_then(|found| found.network.find(name)).map(|node| node.input.as_str());
        let read = activations.iter().find(|a| Some(text(a, "value")) == input);
        let at = |pair: &Value, end: usize| Cell::number(pair[end].as_f64(), 3);
        let seen = read.map_or(&Value::Null, |read| &read["seen"]);
        let range = read.map_or(&Value::Null, |read| &read["range"]);
        sheet.row([
            Cell::Node(name.to_owned()),
            Cell::number(layer["local_sqnr_db"].as_f64(), 1),
            Cell::number(layer["accumulated_sqnr_db"].as_f64(), 1),
            at(&seen["range"], 0),
            at(&seen["range"], 1),
            at(range, 0),
            at(range, 1),
            Cell::number(seen["outside"].as_f64().map(|share| 100.0 * share), 3),
        ]);
        drawings.push_str(&thumbnail(name, seen, range));
    }
    if drawings.is_empty() {
        return Some(Block::Table(sheet));
    }
    let html = format!("<div class=\"thumbs\">{drawings}</div>\n");
    Some(Block::Drawn { html, sheet })
}

/// How the values that a layer reads are spread, with the range that its integers can hold.
fn thumbnail(name: &str, seen: &Value, range: &Value) -> String {
    use super::super::svg::{Anchor, Svg, shortened};
    let bins: Vec<f64> = list(seen, "bins").iter().filter_map(Value::as_f64).collect();
    let (Some(low), Some(high)) = (seen["range"][0].as_f64(), seen["range"][1].as_f64()) else {
        return String::new();
    };
    if bins.is_empty() || high <= low {
        return String::new();
    }
    // Counts fall by powers of ten towards the ends, which are what is of interest.
    let most = bins.iter().copied().fold(1.0, f64::max).ln_1p();
    let mut svg = Svg::new(44.0, [18.0, 1.0, 18.0, 1.0]);
    let share = |value: f64| ((value - low) / (high - low)).clamp(0.0, 1.0);
    let ends = [range[0].as_f64(), range[1].as_f64()].map(|end| end.map(share));
    for (at, count) in bins.iter().enumerate() {
        let (from, to) = (at as f64 / bins.len() as f64, (at as f64 + 0.9) / bins.len() as f64);
        let height = 44.0 * count.ln_1p() / most;
        let is_inside =
            ends[0].is_none_or(|low| to > low) && ends[1].is_none_or(|high| from < high);
        let class = if is_inside { "f1" } else { "f7" };
        svg.rect((from, to), (44.0 - height, height), class, &format!("{count} values"));
    }
    for end in ends.into_iter().flatten() {
        svg.line((end, 0.0), (end, 44.0), "level");
    }
    svg.text((0.0, 0.0), (0.0, -6.0), Anchor::Start, "label", &shortened(name, 24));
    svg.text((0.0, 44.0), (0.0, 13.0), Anchor::Start, "tick", &format!("{low:.2}"));
    svg.text((1.0, 44.0), (0.0, 13.0), Anchor::End, "tick", &format!("{high:.2}"));
    let outside = 100.0 * seen["outside"].as_f64().unwrap_or(0.0);
    svg.finish(&format!("Values that {name} reads: from {low:.3} to {high:.3}, {outside:.3}% outside of what is represented"))
}
