//! How channels were chosen: the path of the LASSO, and what least squares gave back.

use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Axis, Mark, Series, Style, plot, shortened};
use super::{list, of_step, text};
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "path",
    title: "LASSO path and refit",
    make: Make::Alone(make),
    source: "kerf prune MODEL --method lasso --macs 50% --data D -o OUT --report DIR",
};

/// Layers that are drawn one by one.
const DRAWN: usize = 8;

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let mut blocks = Vec::new();
    for (document, pruning) in evidence.results("pruning") {
        let step = document.step.as_deref();
        let layers = list(pruning, "layers");
        blocks.extend(paths(layers, text(pruning, "method")));
        blocks.extend(refit(layers, &of_step("Error before and after least squares", step)));
    }
    Ok((!blocks.is_empty()).then(|| Part { lead: Vec::new(), blocks }))
}

/// Channels that are active at each penalty, for the layers that chose their own.
fn paths(layers: &[Value], method: &str) -> Vec<Block> {
    let traced: Vec<&Value> =
        layers.iter().filter(|layer| !list(layer, "path").is_empty()).collect();
    // Bisection tries penalties on both sides; the exact path walks down.
    let style = if method == "lasso" { Style::Steps } else { Style::Marks(Mark::Dot) };
    let mut blocks = Vec::new();
    for layer in traced.iter().take(DRAWN) {
        let name = text(layer, "key");
        let points: Vec<(f64, f64)> = list(layer, "path")
            .iter()
            .filter_map(|step| Some((step["penalty"].as_f64()?, step["kept"].as_f64()?)))
            .collect();
        let mut sheet = Sheet::new(&format!("Path of {name}"), &["step", "penalty", "channels"]);
        for (at, (penalty, kept)) in points.iter().enumerate() {
            sheet.row([
                Cell::Count(at as u64 + 1),
                Cell::Number(*penalty, 6),
                Cell::Count(*kept as u64),
            ]);
        }
        let x = Axis::log(points.iter().map(|point| point.0));
        let y = Axis::from_zero(points.iter().map(|point| point.1));
        let wanted = points.last().map_or(0.0, |point| point.1);
        let series = [Series::line("active channels", 1, points).styled(style)];
        blocks.push(Block::Figure(Figure {
            is_small: true,
            svg: plot(
                &series,
                (&x, "penalty, logarithmic"),
                (&y, "channels"),
                &[(wanted, "wanted".to_owned())],
                110.0,
                &format!("Active channels over the penalty, {name}"),
            ),
            legend: Vec::new(),
            caption: format!(
                "{}: {} \u{2192} {} channels, chosen by `{method}`.",
                shortened(name, 48),
                layer["channels_before"],
                layer["channels_after"]
            ),
            sheet,
        }));
    }
    if traced.len() > DRAWN {
        let mut sheet = Sheet::new(
            "Paths of the other layers",
            &["layer", "steps", "last penalty", "channels"],
        );
        for layer in &traced[DRAWN..] {
            let path = list(layer, "path");
            let last = path.last().unwrap_or(&Value::Null);
            sheet.row([
                Cell::Node(text(layer, "key").to_owned()),
                Cell::Count(path.len() as u64),
                Cell::number(last["penalty"].as_f64(), 6),
                Cell::count(last["kept"].as_u64()),
            ]);
        }
        blocks.push(Block::Table(sheet));
    }
    blocks
}

/// What least squares makes of the error of the chosen channels.
fn refit(layers: &[Value], name: &str) -> Option<Block> {
    let errors: Vec<(&str, f64, f64)> = layers
        .iter()
        .filter_map(|layer| {
            Some((text(layer, "key"), layer["unfitted_error"].as_f64()?, layer["error"].as_f64()?))
        })
        .collect();
    if errors.is_empty() {
        return None;
    }
    let mut sheet = Sheet::new(name, &["layer", "before, %", "after, %", "left, %"]);
    for (layer, before, after) in &errors {
        sheet.row([
            Cell::Node((*layer).to_owned()),
            Cell::Number(100.0 * before, 4),
            Cell::Number(100.0 * after, 4),
            Cell::number((*before > 0.0).then(|| 100.0 * after / before), 1),
        ]);
    }
    let points = |which: fn(&(&str, f64, f64)) -> f64| {
        let point = |(at, error): (usize, &(&str, f64, f64))| {
            let value = 100.0 * which(error);
            (((at + 1) as f64, value), format!("{}: {value:.3}%", error.0))
        };
        errors.iter().enumerate().map(point).collect::<Vec<_>>()
    };
    let series = [
        Series::marks("original weights", 4, Mark::Triangle, points(|error| error.1)),
        Series::marks("after least squares", 1, Mark::Dot, points(|error| error.2)),
    ];
    let values = errors.iter().flat_map(|(_, before, after)| [100.0 * before, 100.0 * after]);
    let y = Axis::log(values);
    let x = Axis::between(0.5, errors.len() as f64 + 0.5);
    Some(Block::Figure(Figure {
        is_small: true,
        svg: plot(
            &series,
            (&x, "layer in execution order"),
            (&y, "error, %, logarithmic"),
            &[],
            180.0,
            name,
        ),
        legend: vec![
            ("triangle f4", "with the original weights".into()),
            ("dot f1", "after least squares".into()),
        ],
        caption: format!(
            "{name}: squared error of the response over its variance when a layer reads the kept channels only."
        ),
        sheet,
    }))
}
