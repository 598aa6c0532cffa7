//! What the written model says about how it was made.

use crate::args::ModelArgs;
use crate::input;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tensor_core::{Graph, Result, onnx};

/// Settings that cannot change the model: how it is reported, checked and timed, where it goes, and
/// how many threads and how much memory work on it.
const WITHOUT_EFFECT: [&str; 19] = [
    "output",
    "json",
    "report",
    "threads",
    "memory",
    "dry_run",
    "on_unsupported",
    "no_verify",
    "tolerance",
    "eval_data",
    "eval_labels",
    "assert_max_drop",
    "assert_top1",
    "no_bench",
    "run",
    "eval_every",
    "checkpoint_every",
    "model",
    "statistics",
];

/// Stamps a model that was made from another and writes it; gives its recipe.
///
/// # Errors
/// When the original cannot be read or the result not written.
pub(crate) fn write(
    graph: &mut Graph,
    files: &ModelArgs,
    settings: &Value,
    seed: u64,
) -> Result<Value> {
    let recipe = recipe(settings);
    stamp(graph, &recipe, &input::sha256(&files.model)?, seed);
    onnx::write(graph, &files.output)?;
    Ok(recipe)
}

/// The settings that determine the model.
fn recipe(settings: &Value) -> Value {
    let all = settings.as_object().into_iter().flatten();
    let kept = all.filter(|(name, _)| !WITHOUT_EFFECT.contains(&name.as_str()));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Names the producer and adds where the model came from; other metadata stays.
pub(crate) fn stamp(graph: &mut Graph, recipe: &Value, input_sha256: &str, seed: u64) {
    let version = env!("CARGO_PKG_VERSION");
    graph.producer = ("kerf".to_owned(), version.to_owned());
    let hash = Sha256::digest(recipe.to_string());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    for (key, value) in [
        ("kerf.version", version.to_owned()),
        ("kerf.recipe_sha256", hash),
        ("kerf.input_sha256", input_sha256.to_owned()),
        ("kerf.seed", seed.to_string()),
    ] {
        match graph.metadata.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => graph.metadata.push((key.to_owned(), value)),
        }
    }
}

/// Bytes of a graph as a stamped file.
///
/// # Errors
/// When the graph cannot be encoded.
pub(crate) fn bytes(mut graph: Graph, seed: u64) -> Result<usize> {
    stamp(&mut graph, &Value::Null, &"0".repeat(64), seed);
    Ok(onnx::encode(&graph)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn threads_do_not_change_the_stamp() {
        let one = recipe(&json!({ "method": "obs", "threads": 1, "output": "a" }));
        let two = recipe(&json!({ "method": "obs", "threads": 2, "output": "b" }));
        assert_eq!(one, two);
        assert_ne!(one, recipe(&json!({ "method": "lasso" })));
    }

    #[test]
    fn metadata_is_kept_and_replaced_by_key() {
        let mut graph = Graph::default();
        graph.metadata = vec![("author".into(), "me".into()), ("kerf.seed".into(), "9".into())];
        stamp(&mut graph, &json!({}), "00", 1);
        let keys: Vec<_> = graph.metadata.iter().map(|(key, _)| key.as_str()).collect();
        let expected =
            ["author", "kerf.seed", "kerf.version", "kerf.recipe_sha256", "kerf.input_sha256"];
        assert_eq!(keys, expected);
        assert_eq!(graph.metadata[1].1, "1");
    }
}
