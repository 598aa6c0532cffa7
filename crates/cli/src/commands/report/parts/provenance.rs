//! How the run was made, and how to make it again.

use super::super::evidence::{Document, Evidence};
use super::super::models::Sought;
use super::super::part::{Block, Cell, Kind, Make, Part, Sheet};
use super::{list, text};
use crate::units;
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind =
    Kind { id: "provenance", title: "Provenance", make: Make::Alone(make), source: "any run" };

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let mut part = Part::default();
    if let Some(command) = &evidence.command {
        part.lead.push("To repeat it:".to_owned());
        part.blocks.push(Block::Command(command.clone()));
    }
    part.blocks.push(Block::Table(origin(evidence)));
    part.blocks.extend(steps(evidence).map(Block::Table));
    for document in &evidence.documents {
        let sheet = settings(document);
        if !sheet.rows.is_empty() {
            part.blocks.push(Block::Table(sheet));
        }
    }
    Ok(Some(part))
}

fn origin(evidence: &Evidence) -> Sheet {
    let mut sheet = Sheet::new("Origin", &["what", "value"]);
    let mut add = |what: &str, value: String| {
        if !value.is_empty() {
            sheet.row([Cell::text(what), Cell::Text(value)]);
        }
    };
    let first = evidence.documents.first().map(|document| &document.value);
    if let Some(value) = first {
        add(
            "tool",
            format!("{} {}", text(&value["tool"], "name"), text(&value["tool"], "version")),
        );
    }
    for (role, sought, key) in
        [("input", &evidence.before, "input"), ("output", &evidence.after, "output")]
    {
        if let Sought::Found(found) = sought {
            add(role, found.path.display().to_string());
            add(&format!("sha256 of the {role}"), found.sha256.clone());
            add(&format!("size of the {role}"), units::bytes(found.file_bytes));
            continue;
        }
        let named =
            first.map(|value| if key == "input" { &value[key] } else { &value["result"][key] });
        if let Some(named) = named {
            add(role, text(named, "path").to_owned());
            add(&format!("sha256 of the {role}"), text(named, "sha256").to_owned());
        }
    }
    if let Some(value) = evidence.judged().map(|document| &document.value) {
        let settings = &value["settings"];
        for (what, key) in [("data", "data"), ("evaluation data", "eval_data"), ("seed", "seed")] {
            let shown = match &settings[key] {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            add(what, shown);
        }
        let result = &value["result"];
        for key in ["pruning", "quantization", "sparsity", "factoring"] {
            if let Some(samples) = result[key]["samples"].as_u64() {
                add("calibration samples", samples.to_string());
            }
        }
        if let Some(report) = list(&result["proof"], "latency").first() {
            let cpu = &report["cpu"];
            let features: Vec<&str> =
                list(cpu, "features").iter().filter_map(Value::as_str).collect();
            add("processor", format!("{} ({})", text(cpu, "name"), features.join(" ")));
            add("engine", text(report, "engine").to_owned());
        }
    }
    for (step, record) in &evidence.records {
        for (name, value) in &record.identity {
            let is_hash = value.as_str().is_some_and(|text| text.len() == 64);
            if step.is_none() && (is_hash || name == "version" || name == "kerf") {
                let shown = value.as_str().unwrap_or_default().to_owned();
                add(&format!("journal: {name}"), shown);
            }
        }
    }
    sheet
}

/// What each step or trial took.
fn steps(evidence: &Evidence) -> Option<Sheet> {
    let mut sheet = Sheet::new("Time", &["step", "verdict", "time, s", "file"]);
    for (_, steps) in evidence.results("steps") {
        for step in steps.as_array().into_iter().flatten() {
            sheet.row([
                Cell::text(text(step, "step")),
                Cell::text(text(step, "verdict")),
                Cell::number(step["seconds"].as_f64(), 1),
                step["file_bytes"].as_u64().map_or(Cell::Unknown, Cell::Bytes),
            ]);
        }
    }
    for trial in evidence.trials() {
        let name = super::super::trials::name(trial).unwrap_or_default();
        let verdict = if super::super::trials::meets(trial) { "pass" } else { "fail" };
        sheet.row([
            Cell::Text(format!("trial {name}")),
            Cell::text(verdict),
            Cell::number(trial["seconds"].as_f64(), 1),
            trial["measured"]["file_bytes"][1].as_u64().map_or(Cell::Unknown, Cell::Bytes),
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

/// Every setting of a document that says something.
fn settings(document: &Document) -> Sheet {
    let command = document.command();
    let name = match &document.step {
        Some(step) => format!("Settings of {step} (kerf {command})"),
        None => format!("Settings of kerf {command}"),
    };
    let mut sheet = Sheet::new(&name, &["setting", "value"]);
    for (name, value) in document.value["settings"].as_object().into_iter().flatten() {
        let shown = match value {
            Value::Null | Value::Bool(false) => continue,
            Value::Array(values) if values.is_empty() => continue,
            Value::Object(values) if values.is_empty() => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        sheet.row([Cell::text(name), Cell::Text(shown)]);
    }
    sheet
}
