//! What a student learned from: the terms of its loss.

use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Axis, Mark, Series, Style, plot};
use super::{list, of_step, schedules, text};
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "distillation",
    title: "Distillation",
    make: Make::Alone(make),
    source: "kerf distill, or kerf finetune MODEL --teacher ORIGINAL --data D --run DIR -o OUT",
};

/// Marks, with the swatches of the legend, for terms one after the other.
const FORMS: [(Mark, usize, &str); 4] = [
    (Mark::Dot, 1, "dot f1"),
    (Mark::Square, 2, "square f2"),
    (Mark::Triangle, 4, "triangle f4"),
    (Mark::Cross, 5, "cross f5"),
];

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let mut part = Part::default();
    for (document, report) in evidence.results("distillation") {
        part.blocks.push(Block::Table(teachers(report, document.step.as_deref())));
    }
    let of_documents = evidence.results("distillation").map(|(document, _)| document.step.clone());
    let of_journals = evidence.trainings().map(|(step, _)| step.map(str::to_owned));
    let mut steps: Vec<Option<String>> = Vec::new();
    for step in of_documents.chain(of_journals) {
        if steps.contains(&step) {
            continue;
        }
        let entries = schedules::entries(evidence, step.as_deref());
        part.blocks.extend(terms(&entries, &of_step("Terms of the loss", step.as_deref())));
        steps.push(step);
    }
    Ok((!part.blocks.is_empty()).then_some(part))
}

fn teachers(report: &Value, step: Option<&str>) -> Sheet {
    let mut sheet = Sheet::new(
        &of_step("Teachers", step),
        &["teacher", "top-1, %", "loss", "weight of the labels", "sha256"],
    );
    let loss = match &report["loss"] {
        Value::String(loss) => loss.clone(),
        loss => text(loss, "name").to_owned(),
    };
    for teacher in list(report, "teachers") {
        sheet.row([
            Cell::text(text(teacher, "path")),
            Cell::number(teacher["top1"].as_f64().map(|share| 100.0 * share), 2),
            Cell::text(&loss),
            Cell::number(report["hard_weight"].as_f64(), 2),
            Cell::text(text(teacher, "sha256").chars().take(12).collect::<String>()),
        ]);
    }
    sheet
}

/// The terms over the run, each as it counts in the sum.
fn terms(entries: &[&Value], name: &str) -> Option<Block> {
    let mut names: Vec<&str> = Vec::new();
    for key in entries.iter().filter_map(|entry| entry["terms"].as_object()).flat_map(|t| t.keys())
    {
        if !names.contains(&key.as_str()) {
            names.push(key);
        }
    }
    if names.is_empty() {
        return None;
    }
    let mut sheet = Sheet::new(name, &["step", "sum"]);
    sheet.columns.extend(names.iter().map(|name| ((*name).to_owned(), "")));
    for entry in entries {
        let cells = names.iter().map(|name| Cell::number(entry["terms"][*name].as_f64(), 4));
        let head =
            [Cell::count(entry["step"].as_u64()), Cell::number(entry["train_loss"].as_f64(), 4)];
        sheet.row(head.into_iter().chain(cells));
    }
    let series: Vec<Series> = names
        .iter()
        .zip(FORMS.iter().cycle())
        .map(|(name, (mark, class, _))| {
            let point =
                |entry: &&Value| Some((entry["step"].as_f64()?, entry["terms"][*name].as_f64()?));
            let points = entries.iter().filter_map(point).collect();
            Series::line(name, *class, points).styled(Style::Both(*mark))
        })
        .collect();
    let all = || series.iter().flat_map(|series| &series.points);
    let x = Axis::from_zero(all().map(|point| point.0));
    let y = Axis::from_zero(all().map(|point| point.1));
    let legend = names.iter().zip(FORMS.iter().cycle());
    Some(Block::Figure(Figure {
        is_small: true,
        svg: plot(&series, (&x, "optimizer step"), (&y, "loss"), &[], 180.0, name),
        legend: legend.map(|(name, (_, _, swatch))| (*swatch, (*name).to_owned())).collect(),
        caption: format!("{name}, each with its weight: together they are the training loss."),
        sheet,
    }))
}
