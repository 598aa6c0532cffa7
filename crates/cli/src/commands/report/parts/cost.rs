//! Where operations are, before and after.

use super::super::super::network::{Network, Shown};
use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Axis, stacked};
use super::list;
use crate::units;
use std::collections::BTreeMap;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "cost",
    title: "Cost breakdown",
    make: Make::Alone(make),
    source: "needs the model files of the run, unchanged",
};

/// Layers in the list of the dearest.
const DEAREST: usize = 10;

/// Classes of operators, from the one that costs most.
const CLASSES: [(&str, &str); 6] = [
    ("f1", "box f1"),
    ("f2", "box f2"),
    ("f3", "box f3"),
    ("f4", "box f4"),
    ("f5", "box f5"),
    ("f7", "box f7"),
];

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let (before, after) = (evidence.before.found(), evidence.after.found());
    let models: Vec<(&str, &Network)> = before
        .map(|found| ("before", &found.network))
        .into_iter()
        .chain(after.map(|found| ("after", &found.network)))
        .collect();
    let Some((_, first)) = models.first() else { return Ok(None) };
    let mut kinds: Vec<&'static str> = Vec::new();
    let mut sums: Vec<BTreeMap<&'static str, u64>> = Vec::new();
    for (_, network) in &models {
        let mut sum = BTreeMap::new();
        for node in network.nodes.iter().filter(|node| node.macs > 0) {
            *sum.entry(kind(node)).or_default() += node.macs;
        }
        sums.push(sum);
    }
    kinds.extend(sums.iter().flat_map(BTreeMap::keys));
    kinds.sort_unstable();
    kinds.dedup();
    kinds
        .sort_by_key(|kind| std::cmp::Reverse(sums.first().and_then(|sum| sum.get(kind)).copied()));
    let mut sheet = Sheet::new("MACs by kind of operator", &["kind"]);
    sheet.columns.extend(models.iter().map(|(name, _)| ((*name).to_owned(), "")));
    for kind in &kinds {
        let cells = sums.iter().map(|sum| Cell::Scaled(sum.get(kind).copied().unwrap_or(0)));
        sheet.row(std::iter::once(Cell::text(*kind)).chain(cells));
    }
    let class = |at: usize| CLASSES[at.min(CLASSES.len() - 1)];
    let bars: Vec<_> = models
        .iter()
        .zip(&sums)
        .map(|((name, network), sum)| {
            let part = |(at, kind): (usize, &&'static str)| {
                let macs = sum.get(kind).copied().unwrap_or(0);
                (macs as f64, class(at).0, format!("{kind}: {} MACs {name}", units::si(macs)))
            };
            let parts = kinds.iter().enumerate().map(part).collect();
            (format!("{name}: {} MACs", units::si(network.cost.macs)), parts)
        })
        .collect();
    let axis = Axis::from_zero(models.iter().map(|(_, network)| network.cost.macs as f64));
    let legend =
        kinds.iter().enumerate().map(|(at, kind)| (class(at).1, (*kind).to_owned())).collect();
    let figure = Figure {
        is_small: false,
        svg: stacked(&bars, &axis, "multiply-accumulates", "Multiply-accumulates by kind of operator"),
        legend,
        caption: "Multiply-accumulates by kind of operator, from left to right in the order of the legend. \
                  These are counts; what they take in time is measured above, for the whole network only."
            .to_owned(),
        sheet,
    };
    let mut part = Part { lead: unknown(first), blocks: vec![Block::Figure(figure)] };
    part.blocks
        .push(Block::Table(dearest(first, after.filter(|_| before.is_some()).map(|a| &a.network))));
    part.blocks.extend(latencies(evidence).map(Block::Table));
    Ok(Some(part))
}

fn kind(node: &Shown) -> &'static str {
    match node {
        node if node.is_depthwise => "depthwise convolution",
        node if node.is_spatial => "convolution",
        node if node.op.contains("Conv") => "pointwise convolution",
        _ => "matrix product",
    }
}

fn unknown(network: &Network) -> Vec<String> {
    let uncounted = &network.cost.uncounted;
    match uncounted.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "Not counted, as shapes or operators are not known: {}.",
            uncounted.join(", ")
        )],
    }
}

fn dearest(before: &Network, after: Option<&Network>) -> Sheet {
    let mut sheet =
        Sheet::new("Dearest layers", &["layer", "kind", "MACs", "of all", "after", "parameters"]);
    let mut nodes: Vec<&Shown> = before.nodes.iter().filter(|node| node.macs > 0).collect();
    nodes.sort_by_key(|node| std::cmp::Reverse(node.macs));
    for node in nodes.into_iter().take(DEAREST) {
        let later = after.map(|after| after.find(&node.key).map_or(0, |node| node.macs));
        sheet.row([
            Cell::Node(node.key.clone()),
            Cell::text(kind(node)),
            Cell::Scaled(node.macs),
            Cell::Share(node.macs as f64 / before.cost.macs.max(1) as f64, 1),
            later.map_or(Cell::Unknown, Cell::Scaled),
            Cell::Scaled(node.parameters),
        ]);
    }
    sheet
}

/// Everything that was timed.
fn latencies(evidence: &Evidence) -> Option<Sheet> {
    let result = &evidence.judged()?.value["result"];
    let mut sheet = Sheet::new(
        "Measured latency",
        &[
            "batch",
            "model",
            "p50, ms",
            "p90, ms",
            "p99, ms",
            "MAD, ms",
            "runs",
            "speed-up",
            "95 % interval",
        ],
    );
    for report in list(&result["proof"], "latency").iter().chain(list(result, "latency")) {
        for model in list(report, "models") {
            let ms = |key: &str| Cell::number(model[key].as_f64().map(|us| us / 1000.0), 3);
            let speedup = &model["speedup"];
            let interval = speedup["low"].as_f64().zip(speedup["high"].as_f64());
            sheet.row([
                Cell::count(report["batch"].as_u64()),
                Cell::text(super::text(model, "name")),
                ms("latency_us_p50"),
                ms("latency_us_p90"),
                ms("latency_us_p99"),
                ms("latency_us_mad"),
                Cell::count(model["runs"].as_u64()),
                Cell::number(speedup["median"].as_f64(), 2),
                interval.map_or(Cell::Unknown, |(low, high)| {
                    Cell::Text(format!("{low:.2}\u{2013}{high:.2}"))
                }),
            ]);
        }
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}
