//! Which layers hurt: what each loses alone, by bits or by channels.

use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Heat, heat};
use super::{list, root, text};
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "sensitivity",
    title: "Sensitivity",
    make: Make::Alone(make),
    source: "kerf search MODEL --hardware NAME --latency 60% --data D -o PLAN --run DIR, or kerf prune",
};

/// Shares of channels that a heat map has columns for.
const STEPS: usize = 10;

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let mut blocks = Vec::new();
    blocks.extend(by_bits(evidence, "weights", "bits of the layer's weights"));
    blocks.extend(by_bits(evidence, "activations", "bits of the activations that the layer reads"));
    for (_, pruning) in evidence.results("pruning") {
        blocks.extend(by_channels(list(pruning, "sets")));
    }
    if blocks.is_empty() {
        return Ok(None);
    }
    let lead = "Each cell is what is lost when one layer alone has that little: the stronger its colour, the \
                more, by powers of ten. Ringed is what was chosen; grey was not measured.";
    Ok(Some(Part { lead: vec![lead.to_owned()], blocks }))
}

/// Divergence of the outputs by bits.
fn by_bits(evidence: &Evidence, what: &'static str, name: &str) -> Option<Block> {
    let of_run = evidence.sensitivities.as_ref();
    let of_document = evidence.results("sensitivities").next().map(|(_, value)| value);
    let layers = list(of_run.or(of_document)?, "layers");
    let values: Vec<Vec<Option<f64>>> =
        layers.iter().map(|layer| list(layer, what).iter().map(Value::as_f64).collect()).collect();
    let most = values.iter().map(Vec::len).max().filter(|&most| most > 0)?;
    let chosen = chosen_bits(evidence, what);
    let names: Vec<String> = layers.iter().map(|layer| text(layer, "name").to_owned()).collect();
    let columns: Vec<String> = (1..=most).map(|bits| bits.to_string()).collect();
    let rings = names.iter().enumerate().filter_map(|(row, name)| {
        let bits = chosen.iter().find(|(known, _)| known == name)?.1;
        Some((row, usize::try_from(bits).ok()?.checked_sub(1)?))
    });
    let show =
        |value: Option<f64>| value.map_or("not measured".to_owned(), |v| format!("{v:.5} nats"));
    let heading = format!("Loss by {name}");
    Some(figure(
        Heat {
            shades: shades(&values),
            titles: titles(&names, &columns, &values, |bits, v| {
                format!("{bits} bits: {}", show(v))
            }),
            chosen: rings.collect(),
            rows: names,
            columns,
            name: name.to_owned(),
        },
        &values,
        heading,
        "divergence of the outputs, nats",
    ))
}

/// Bits that a search gave the layers.
fn chosen_bits(evidence: &Evidence, what: &str) -> Vec<(String, u64)> {
    let document = evidence.documents.iter().rfind(|document| document.command() == "search");
    let Some(document) = document else { return Vec::new() };
    let result = &document.value["result"];
    let names = list(result, "layers").iter().filter_map(Value::as_str);
    let pairs = names.zip(list(result, "bits"));
    pairs.filter_map(|(name, bits)| Some((name.to_owned(), bits[what].as_u64()?))).collect()
}

/// Held-out error by the share of channels that is kept.
fn by_channels(sets: &[Value]) -> Option<Block> {
    let sets: Vec<&Value> = sets.iter().filter(|set| !list(set, "curve").is_empty()).collect();
    if sets.is_empty() {
        return None;
    }
    let values: Vec<Vec<Option<f64>>> = sets.iter().map(|set| sampled(set)).collect();
    let names: Vec<String> =
        sets.iter().map(|set| format!("{} {}", root(text(set, "name")), text(set, "id"))).collect();
    let columns: Vec<String> = (1..=STEPS).map(|step| format!("{}%", 100 * step / STEPS)).collect();
    let ring = |(row, set): (usize, &&Value)| {
        let share = set["after"].as_f64()? / set["before"].as_f64()?.max(1.0);
        Some((row, ((share * STEPS as f64).round() as usize).clamp(1, STEPS) - 1))
    };
    let chosen = sets.iter().enumerate().filter_map(ring).collect();
    let show =
        |v: Option<f64>| v.map_or("not measured".to_owned(), |v| format!("{:.3}%", 100.0 * v));
    Some(figure(
        Heat {
            shades: shades(&values),
            titles: titles(&names, &columns, &values, |kept, v| {
                format!("{kept} kept: {}", show(v))
            }),
            chosen,
            rows: names,
            columns,
            name: "channels kept".to_owned(),
        },
        &values,
        "Held-out error by channels".to_owned(),
        "squared error of the readers' responses over their energy",
    ))
}

/// A curve at the shares of the columns, between its points as a straight line.
fn sampled(set: &Value) -> Vec<Option<f64>> {
    let full = set["before"].as_f64().unwrap_or(1.0);
    let points: Vec<(f64, f64)> = list(set, "curve")
        .iter()
        .filter_map(|point| Some((point["kept"].as_f64()?, point["error"].as_f64()?)))
        .collect();
    let at = |kept: f64| {
        let above = points.iter().position(|(width, _)| *width >= kept)?;
        let (x, y) = points[above];
        let Some(&(x0, y0)) = above.checked_sub(1).and_then(|below| points.get(below)) else {
            return Some(y);
        };
        Some(y0 + (y - y0) * (kept - x0) / (x - x0).max(1e-9))
    };
    (1..=STEPS).map(|step| at((full * step as f64 / STEPS as f64).max(1.0))).collect()
}

/// Values from 0 to 1 over five powers of ten below the largest.
fn shades(values: &[Vec<Option<f64>>]) -> Vec<Vec<Option<f64>>> {
    const POWERS: f64 = 5.0;
    let most = values.iter().flatten().flatten().copied().fold(0.0, f64::max);
    let shade = |value: f64| match value > 0.0 && most > 0.0 {
        true => (1.0 + (value / most).log10() / POWERS).clamp(0.0, 1.0),
        false => 0.0,
    };
    values.iter().map(|row| row.iter().map(|value| value.map(shade)).collect()).collect()
}

fn titles(
    rows: &[String],
    columns: &[String],
    values: &[Vec<Option<f64>>],
    show: impl Fn(&str, Option<f64>) -> String,
) -> Vec<Vec<String>> {
    let row = |(name, values): (&String, &Vec<Option<f64>>)| {
        let cell =
            |(column, value): (&String, &Option<f64>)| format!("{name}, {}", show(column, *value));
        columns.iter().zip(values).map(cell).collect()
    };
    rows.iter().zip(values).map(row).collect()
}

fn figure(map: Heat, values: &[Vec<Option<f64>>], heading: String, unit: &str) -> Block {
    let mut sheet = Sheet::new(&heading, &["layer"]);
    sheet.columns.extend(map.columns.iter().map(|column| (column.clone(), "")));
    sheet.columns.push(("chosen".to_owned(), ""));
    for (row, (name, values)) in map.rows.iter().zip(values).enumerate() {
        let chosen = map.chosen.iter().find(|(of, _)| *of == row);
        let chosen = chosen.and_then(|(_, column)| map.columns.get(*column)).cloned();
        let cells = values.iter().map(|value| Cell::number(*value, 5));
        sheet.row(
            std::iter::once(Cell::Node(name.clone()))
                .chain(cells)
                .chain([chosen.map_or(Cell::Unknown, Cell::Text)]),
        );
    }
    let label = format!("{heading}: {} rows, {} columns", map.rows.len(), map.columns.len());
    Block::Figure(Figure {
        is_small: false,
        svg: heat(&map, &label),
        legend: vec![
            ("box h16", "much is lost".into()),
            ("box h2", "little".into()),
            ("box chosen", "chosen".into()),
        ],
        caption: format!("{heading} ({unit})."),
        sheet,
    })
}
