//! Trials of a search for a model, as its journal has them.

use super::super::compress;
use serde_json::Value;

/// The kind of run that makes trials.
pub(super) const KIND: &str = "compress";

/// The name of a trial: that of its folder.
pub(super) fn name(trial: &Value) -> Option<String> {
    compress::variant_name(&trial["variant"])
}

/// Share of samples that are lost: of right answers where there are labels, else of those for which both
/// models name the same class.
pub(super) fn lost(trial: &Value) -> Option<f64> {
    let measured = &trial["measured"];
    let (before, after) = (measured["accuracy"][0].as_f64(), measured["accuracy"][1].as_f64());
    before
        .zip(after)
        .map(|(before, after)| before - after)
        .or_else(|| measured["agreement"].as_f64().map(|agreement| 1.0 - agreement))
}

/// Was every goal met?
pub(super) fn meets(trial: &Value) -> bool {
    trial["measured"]["failures"].as_array().is_some_and(Vec::is_empty)
}
