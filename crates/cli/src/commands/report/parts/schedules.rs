//! Sparsity as it was wanted and as it was, learning rate, loss and accuracy over training.

use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Axis, Mark, Series, Style, plot};
use super::{list, of_step};
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "schedules",
    title: "Schedules and training",
    make: Make::Alone(make),
    source: "kerf train, finetune, distill or gate MODEL --data D --run DIR -o OUT",
};

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let mut blocks = Vec::new();
    for step in steps(evidence) {
        let of = |name: &str| of_step(name, step.as_deref());
        let entries = entries(evidence, step.as_deref());
        blocks.extend(sparsity(evidence, step.as_deref(), &entries, &of("Sparsity")));
        blocks.extend(rates(evidence, step.as_deref(), &of("Learning rate")));
        blocks.extend(losses(&entries, &of("Loss")));
        blocks.extend(accuracies(&entries, &of("Accuracy")));
    }
    Ok((!blocks.is_empty()).then(|| Part { lead: Vec::new(), blocks }))
}

/// Steps of the run that trained, in order.
fn steps(evidence: &Evidence) -> Vec<Option<String>> {
    let mut steps: Vec<Option<String>> = Vec::new();
    let of_documents = evidence.results("training").map(|(document, _)| document.step.clone());
    let of_journals = evidence.trainings().map(|(step, _)| step.map(str::to_owned));
    for step in of_documents.chain(of_journals) {
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

/// Evaluations: lines of the journal, which say more, or points of the document.
pub(super) fn entries<'a>(evidence: &'a Evidence, step: Option<&str>) -> Vec<&'a Value> {
    let mut journals = evidence.trainings().filter(|(of, _)| *of == step);
    if let Some((_, record)) = journals.next() {
        return record.entries.iter().collect();
    }
    let mut documents = evidence.results("training").filter(|(of, _)| of.step.as_deref() == step);
    documents
        .next()
        .map(|(_, training)| list(training, "points").iter().collect())
        .unwrap_or_default()
}

fn sparsity(
    evidence: &Evidence,
    step: Option<&str>,
    entries: &[&Value],
    name: &str,
) -> Option<Block> {
    let mut reports = evidence.results("sparsity").filter(|(of, _)| of.step.as_deref() == step);
    let curve: Vec<(f64, f64)> = reports
        .next()
        .map(|(_, report)| list(report, "curve"))
        .unwrap_or_default()
        .iter()
        .filter_map(|point| Some((point[0].as_f64()?, 100.0 * point[1].as_f64()?)))
        .collect();
    let measured: Vec<(f64, f64)> = entries
        .iter()
        .filter_map(|entry| {
            Some((entry["step"].as_f64()?, 100.0 * entry["sparsity"]["sparsity"].as_f64()?))
        })
        .collect();
    if curve.is_empty() && measured.is_empty() {
        return None;
    }
    let mut sheet = Sheet::new(name, &["step", "wanted, %", "measured, %"]);
    let mut at: Vec<f64> = curve.iter().chain(&measured).map(|point| point.0).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    for step in at {
        let find = |points: &[(f64, f64)]| points.iter().find(|point| point.0 == step).map(|p| p.1);
        sheet.row([
            Cell::Count(step as u64),
            Cell::number(find(&curve), 2),
            Cell::number(find(&measured), 2),
        ]);
    }
    let x = Axis::from_zero(curve.iter().chain(&measured).map(|point| point.0));
    let y = Axis::between(0.0, 100.0).unit("%");
    let series = [
        Series::line("wanted", 1, curve).styled(Style::Steps),
        Series::line("measured", 2, measured).styled(Style::Marks(Mark::Square)),
    ];
    Some(figure(
        &series,
        (&x, &y),
        "weights that are zero",
        name,
        sheet,
        "as the schedule wants it, and as it was measured",
    ))
}

fn rates(evidence: &Evidence, step: Option<&str>, name: &str) -> Option<Block> {
    let mut trainings = evidence.results("training").filter(|(of, _)| of.step.as_deref() == step);
    let points: Vec<(f64, f64)> = list(trainings.next()?.1, "rates")
        .iter()
        .filter_map(|rate| Some((rate["step"].as_f64()?, rate["rate"].as_f64()?)))
        .collect();
    if points.is_empty() {
        return None;
    }
    let mut sheet = Sheet::new(name, &["step", "rate"]);
    for (step, rate) in &points {
        sheet.row([Cell::Count(*step as u64), Cell::Number(*rate, 6)]);
    }
    let axes =
        (Axis::from_zero(points.iter().map(|p| p.0)), Axis::from_zero(points.iter().map(|p| p.1)));
    let series = [Series::line("learning rate", 1, points)];
    Some(figure(&series, (&axes.0, &axes.1), "learning rate", name, sheet, "over the run"))
}

fn losses(entries: &[&Value], name: &str) -> Option<Block> {
    let held_out = |entry: &Value| entry["evaluation"]["loss"].as_f64();
    pair(entries, (|entry| entry["train_loss"].as_f64(), held_out), 1.0, "loss", name)
}

fn accuracies(entries: &[&Value], name: &str) -> Option<Block> {
    let held_out = |entry: &Value| entry["evaluation"]["accuracy"].as_f64();
    pair(entries, (|entry| entry["train_accuracy"].as_f64(), held_out), 100.0, "top-1", name)
}

/// A number of an evaluation.
type Get = fn(&Value) -> Option<f64>;

/// A number on training samples and on held-out ones.
fn pair(
    entries: &[&Value],
    (train, held_out): (Get, Get),
    scale: f64,
    up: &'static str,
    name: &str,
) -> Option<Block> {
    let of = |get: Get| -> Vec<(f64, f64)> {
        let point = |entry: &&Value| Some((entry["step"].as_f64()?, scale * get(entry)?));
        entries.iter().filter_map(point).collect()
    };
    let (trained, held) = (of(train), of(held_out));
    if trained.is_empty() && held.is_empty() {
        return None;
    }
    let unit = if scale > 1.0 { "%" } else { "" };
    let mut sheet = Sheet::new(name, &["step"]);
    sheet.columns.extend([("training".to_owned(), unit), ("held out".to_owned(), unit)]);
    let decimals = if scale > 1.0 { 2 } else { 4 };
    for entry in entries {
        sheet.row([
            Cell::count(entry["step"].as_u64()),
            Cell::number(train(entry).map(|v| scale * v), decimals),
            Cell::number(held_out(entry).map(|v| scale * v), decimals),
        ]);
    }
    let all = || trained.iter().chain(&held);
    let x = Axis::from_zero(all().map(|point| point.0));
    let y = match scale > 1.0 {
        true => Axis::over(all().map(|point| point.1)).unit("%"),
        false => Axis::from_zero(all().map(|point| point.1)),
    };
    let series = [
        Series::line("training", 1, trained).styled(Style::Both(Mark::Dot)),
        Series::line("held out", 2, held).styled(Style::Both(Mark::Square)),
    ];
    Some(figure(
        &series,
        (&x, &y),
        up,
        name,
        sheet,
        "on training samples since the point before, and on held-out ones",
    ))
}

fn figure(
    series: &[Series],
    (x, y): (&Axis, &Axis),
    up: &str,
    name: &str,
    sheet: Sheet,
    caption: &str,
) -> Block {
    let legend = series.iter().filter(|series| series.points.len() + series.titles.len() > 0);
    let legend = legend.map(|series| {
        let swatch = match series.style {
            Style::Marks(_) | Style::Both(_) if series.class == 2 => "square f2",
            Style::Both(_) => "dot f1",
            _ => "s1",
        };
        (swatch, series.name.clone())
    });
    Block::Figure(Figure {
        is_small: true,
        legend: legend.collect(),
        svg: plot(series, (x, "optimizer step"), (y, up), &[], 170.0, name),
        caption: format!("{name}: {caption}."),
        sheet,
    })
}
