//! The parts, one file each; [`PARTS`] is their order.

mod bits;
mod channels;
mod cost;
mod distillation;
mod errors;
mod front;
mod gates;
mod layers;
mod path;
mod provenance;
mod schedules;
mod sensitivity;
mod skipped;
mod verdict;

use super::part::Kind;
use serde_json::Value;

pub(super) use layers::anchors;

/// All parts in reading order.
pub(super) const PARTS: [&Kind; 14] = [
    &verdict::KIND,
    &layers::KIND,
    &channels::KIND,
    &bits::KIND,
    &sensitivity::KIND,
    &front::KIND,
    &errors::KIND,
    &path::KIND,
    &gates::KIND,
    &schedules::KIND,
    &distillation::KIND,
    &cost::KIND,
    &skipped::KIND,
    &provenance::KIND,
];

/// The elements of a list, none where there is no list.
fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text, empty where there is none.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The name of a value without what exporters add to that of its node.
fn root(name: &str) -> &str {
    name.strip_suffix("_output_0").unwrap_or(name)
}

/// What belongs to a step is named after it.
fn of_step(name: &str, step: Option<&str>) -> String {
    step.map_or_else(|| name.to_owned(), |step| format!("{name}, {step}"))
}
