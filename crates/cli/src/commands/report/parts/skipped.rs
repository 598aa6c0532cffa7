//! Decisions that were not taken, with their reasons, and parts that this report does not have.

use super::super::evidence::Evidence;
use super::super::models::Sought;
use super::super::part::{Block, Cell, Kind, Make, Part, Sheet};
use super::super::trials;
use super::{list, text};
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "skipped",
    title: "Skipped and frozen",
    make: Make::Behind(make),
    source: "any run",
};

/// Where results list what was left alone: key of the result, of the list, of name and reason, and what it
/// means.
const LISTS: [(&str, &str, &str, &str, &str); 7] = [
    ("pruning", "frozen", "name", "reason", "channels kept"),
    ("gates", "ungated", "name", "reason", "no gates"),
    ("quantization", "left", "key", "reason", "stays float"),
    ("quantization", "without_blocks", "key", "reason", "a scale per channel"),
    ("quantization", "not_equalized", "before", "reason", "not equalized"),
    ("sparsity", "layers", "key", "dense", "stays dense"),
    ("training", "frozen", "", "", "not trained"),
];

fn make(evidence: &Evidence, missing: &[&Kind]) -> Result<Option<Part>> {
    let mut part = Part::default();
    let sheet = decisions(evidence);
    match sheet.rows.is_empty() {
        true => part.lead.push("Nothing was frozen, left out or refused.".to_owned()),
        false => part.blocks.push(Block::Table(sheet)),
    }
    let mut absent = Sheet::new("Parts without data", &["part", "what would give it"]);
    for kind in missing {
        let mut source = kind.source.to_owned();
        if ["layers", "cost"].contains(&kind.id) {
            let lost = lost(evidence);
            if !lost.is_empty() {
                source = lost.join("; ");
            }
        }
        absent.row([Cell::text(kind.title), Cell::Text(source)]);
    }
    if !absent.rows.is_empty() {
        part.blocks.push(Block::Table(absent));
    }
    Ok(Some(part))
}

/// Why models cannot be shown.
fn lost(evidence: &Evidence) -> Vec<String> {
    let why = |sought: &Sought| match sought {
        Sought::Lost(why) => Some(why.clone()),
        _ => None,
    };
    [&evidence.before, &evidence.after].into_iter().filter_map(why).collect()
}

fn decisions(evidence: &Evidence) -> Sheet {
    let mut sheet = Sheet::new("Decisions not taken", &["what", "where", "reason"]);
    let mut add = |what: &str, place: &str, reason: &str| {
        let node = Cell::Node(place.to_owned());
        sheet.row([Cell::text(what), node, Cell::text(reason)]);
    };
    for why in lost(evidence) {
        add("not shown", "model", &why);
    }
    for (key, of, name, reason, what) in LISTS {
        for (_, result) in evidence.results(key) {
            for entry in list(result, of) {
                match entry {
                    Value::String(name) => add(what, name, "frozen by `--freeze`"),
                    entry if !entry[reason].is_null() => {
                        add(what, text(entry, name), text(entry, reason))
                    }
                    _ => {}
                }
            }
        }
    }
    for (_, names) in evidence.results("uncounted") {
        for name in names.as_array().into_iter().flatten().filter_map(Value::as_str) {
            add("not counted", name, "its shape or operator is not known");
        }
    }
    for (_, shares) in evidence.results("left_out") {
        for share in shares.as_array().into_iter().flatten().filter_map(Value::as_f64) {
            add("left out", &format!("{:.1}%", 100.0 * share), "no widths meet this share");
        }
    }
    for trial in evidence.trials() {
        if let (Some(error), Some(name)) = (trial["error"].as_str(), trials::name(trial)) {
            add("trial not made", &name, error);
        }
    }
    let mut said: Vec<&str> = Vec::new();
    for document in &evidence.documents {
        let place = document.step.as_deref().unwrap_or_else(|| document.command());
        for warning in list(&document.value, "warnings").iter().filter_map(Value::as_str) {
            // Steps repeat what the run says.
            if !said.contains(&warning) {
                said.push(warning);
                add("warning", place, warning);
            }
        }
    }
    sheet
}
