//! Gates over a run: how they part into open and closed ones.

use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Axis, Bar, Heat, Mark, Series, Style, heat, plot, rows, shortened};
use super::{list, of_step, root, text};
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "gates",
    title: "Gates",
    make: Make::Alone(make),
    source: "kerf gate MODEL --data D --macs 50% --run DIR -o OUT",
};

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let mut part = Part::default();
    for (document, gates) in evidence.results("gates") {
        let step = document.step.as_deref();
        let history = &gates["history"];
        part.lead.extend(parted(list(gates, "lists")));
        part.blocks.extend(over_time(history, &of_step("Gates over the run", step)));
        part.blocks.extend(by_list(list(gates, "lists"), &of_step("Open gates by group", step)));
        let points =
            numbers(history, "steps").into_iter().zip(numbers(history, "resource")).collect();
        part.blocks.extend(resource(points, &of_step("What is open of the resource", step)));
    }
    if part.blocks.is_empty() {
        for (step, record) in evidence.trainings() {
            part.blocks.extend(so_far(&record.entries, step));
        }
    }
    Ok((!part.blocks.is_empty()).then_some(part))
}

fn numbers(value: &Value, key: &str) -> Vec<f64> {
    list(value, key).iter().filter_map(Value::as_f64).collect()
}

/// How many gates lie between open and closed, in words.
fn parted(lists: &[Value]) -> Option<String> {
    let values: Vec<f64> = lists.iter().flat_map(|gates| numbers(gates, "values")).collect();
    if values.is_empty() {
        return None;
    }
    let between = values.iter().filter(|&&value| value > 0.0 && value < 0.5).count();
    let closed = values.iter().filter(|&&value| value == 0.0).count();
    Some(format!(
        "{closed} of {} gates are exactly 0 at the end, and {between} lie between 0 and 0.5.",
        values.len()
    ))
}

/// Gates by value at each moment; the lowest row are closed ones.
fn over_time(history: &Value, name: &str) -> Option<Block> {
    let steps = numbers(history, "steps");
    let counts: Vec<Vec<f64>> = list(history, "histogram")
        .iter()
        .map(|moment| moment.as_array().into_iter().flatten().filter_map(Value::as_f64).collect())
        .collect();
    let bins = counts.first().map(Vec::len).filter(|&bins| bins > 1)?;
    let low = |bin: usize| (bin - 1) as f64 / (bins - 1) as f64;
    let range = |bin: usize| match bin {
        0 => "closed".to_owned(),
        bin => format!("{:.2} to {:.2}", low(bin), low(bin + 1)),
    };
    let mut sheet = Sheet::new(name, &["step"]);
    sheet.columns.extend((0..bins).map(|bin| (range(bin), "")));
    for (step, counts) in steps.iter().zip(&counts) {
        let cells = counts.iter().map(|count| Cell::Count(*count as u64));
        sheet.row(std::iter::once(Cell::Count(*step as u64)).chain(cells));
    }
    // From above: open gates first.
    let order: Vec<usize> = (0..bins).rev().collect();
    let shade = |bin: usize, counts: &Vec<f64>| {
        let all: f64 = counts.iter().sum();
        // One gate of many is still to be seen.
        let count = counts.get(bin).copied().unwrap_or(0.0);
        Some(if count > 0.0 { 0.08 + 0.92 * (count / all.max(1.0)).sqrt() } else { 0.0 })
    };
    let title = |bin: usize, (step, counts): (&f64, &Vec<f64>)| {
        format!("step {step:.0}, {}: {}", range(bin), counts.get(bin).copied().unwrap_or(0.0))
    };
    let map = Heat {
        rows: order.iter().map(|&bin| named(bin, bins)).collect(),
        columns: steps.iter().map(|step| format!("{step:.0}")).collect(),
        shades: order.iter().map(|&bin| counts.iter().map(|c| shade(bin, c)).collect()).collect(),
        titles: order
            .iter()
            .map(|&bin| steps.iter().zip(&counts).map(|moment| title(bin, moment)).collect())
            .collect(),
        chosen: Vec::new(),
        name: "optimizer step".to_owned(),
    };
    Some(Block::Figure(Figure {
        is_small: false,
        svg: heat(&map, &format!("{name}: two lumps at the end, open above and closed below")),
        legend: vec![("box h16", "many gates".into()), ("box h2", "few".into())],
        caption: format!(
            "{name}. Upwards the value of a gate from 0 to 1, the lowest row those that are exactly 0. \
             Polarized gates end as two lumps."
        ),
        sheet,
    }))
}

/// What stands beside the uppermost, the middle and the lowest row.
fn named(bin: usize, bins: usize) -> String {
    let name = match bin {
        0 => "closed",
        bin if bin + 1 == bins => "1",
        bin if bin == bins / 2 => "0.5",
        _ => "",
    };
    name.to_owned()
}

fn by_list(lists: &[Value], name: &str) -> Option<Block> {
    if lists.is_empty() {
        return None;
    }
    let mut sheet = Sheet::new(name, &["group", "root", "gates", "open", "smallest factor"]);
    let mut bars = Vec::new();
    for gates in lists {
        let open = gates["open"].as_u64().unwrap_or(0);
        let count = gates["channels"].as_u64().unwrap_or(0);
        let factors = numbers(gates, "factors");
        let smallest = factors.into_iter().filter(|f| *f > 0.0).fold(f64::INFINITY, f64::min);
        sheet.row([
            Cell::text(text(gates, "id")),
            Cell::text(text(gates, "name")),
            Cell::Count(count),
            Cell::Count(open),
            Cell::number(Some(smallest), 3),
        ]);
        bars.push(Bar {
            label: shortened(root(text(gates, "name")), 30),
            note: format!("{}  {count} \u{2192} {open}", text(gates, "id")),
            before: count as f64,
            after: open as f64,
            title: format!("{}: {open} of {count} gates open", text(gates, "name")),
        });
    }
    Some(Block::Figure(Figure {
        is_small: false,
        svg: rows(&bars, None, name),
        legend: vec![("box f1", "open".into()), ("box was", "all gates".into())],
        caption: format!("{name}, in the order in which channels are first made."),
        sheet,
    }))
}

fn resource(points: Vec<(f64, f64)>, name: &str) -> Option<Block> {
    let last = points.last()?.1;
    let mut sheet = Sheet::new(name, &["step", "open, %"]);
    for (step, share) in &points {
        sheet.row([Cell::Count(*step as u64), Cell::Number(100.0 * share, 2)]);
    }
    let points: Vec<_> = points.into_iter().map(|(step, share)| (step, 100.0 * share)).collect();
    let x = Axis::from_zero(points.iter().map(|point| point.0));
    let y = Axis::between(0.0, 100.0).unit("%");
    let style = if points.len() > 30 { Style::Line } else { Style::Both(Mark::Dot) };
    let series = [Series::line("open", 1, points).styled(style)];
    let level = [(100.0 * last, format!("{:.1}% at the end", 100.0 * last))];
    Some(Block::Figure(Figure {
        is_small: false,
        svg: plot(
            &series,
            (&x, "optimizer step"),
            (&y, "open share of the resource"),
            &level,
            160.0,
            name,
        ),
        legend: Vec::new(),
        caption: format!("{name} (what the budget counts) over the run."),
        sheet,
    }))
}

/// Gates as the journal of an unfinished run notes them.
fn so_far(entries: &[Value], step: Option<&str>) -> Vec<Block> {
    let noted: Vec<(f64, &Value)> = entries
        .iter()
        .filter(|entry| entry["gates"].is_object())
        .filter_map(|entry| Some((entry["step"].as_f64()?, &entry["gates"])))
        .collect();
    let points =
        noted.iter().filter_map(|(step, gates)| Some((*step, gates["resource"].as_f64()?)));
    let mut blocks: Vec<Block> =
        resource(points.collect(), &of_step("What is open of the resource", step))
            .into_iter()
            .collect();
    let Some((at, gates)) = noted.last() else { return blocks };
    let mut sheet =
        Sheet::new(&format!("Gates at step {at:.0}"), &["group", "root", "gates", "open"]);
    for one in list(gates, "lists") {
        let values = numbers(one, "values");
        let open = values.iter().filter(|value| **value > 0.0).count();
        sheet.row([
            Cell::text(text(one, "id")),
            Cell::text(text(one, "name")),
            Cell::Count(values.len() as u64),
            Cell::Count(open as u64),
        ]);
    }
    blocks.push(Block::Table(sheet));
    blocks
}
