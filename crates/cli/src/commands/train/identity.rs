//! What determines a training run beside its parameters: a run goes on only when it is the same.

use super::TrainArgs;
use crate::commands::Settings;
use crate::commands::gate::GatesArgs;
use crate::input;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensor_core::data::Dataset;
use tensor_core::journal::Identity;
use tensor_core::{Error, Result};

/// Flags that say how samples are read and prepared.
const DATA: [&str; 8] =
    ["preprocess", "resize", "crop", "mean", "std", "layout", "samples", "hold_out"];

/// Version, hashes of the inputs, and how samples are prepared.
pub(super) fn of(
    (args, gates): (&TrainArgs, Option<&GatesArgs>),
    set: &Dataset,
    held_out: Option<&Dataset>,
) -> Result<Identity> {
    let mut identity = Identity::new();
    let mut add = |name: &str, value: Value| identity.insert(name.to_owned(), value);
    add("kerf", json!(env!("CARGO_PKG_VERSION")));
    add("model", json!(input::sha256(&args.files.model)?));
    add("data", json!(input::fingerprint(args.data.path())?));
    add("labels", json!(if set.has_labels() { Some(hash(&set.labels()?)) } else { None }));
    let eval_data = args.eval_data.as_deref().map(input::fingerprint).transpose()?;
    add("eval_data", json!(eval_data));
    let eval_labels = held_out.map(|set| Ok::<_, Error>(hash(&set.labels()?))).transpose()?;
    add("eval_labels", json!(eval_labels));
    add("distillation", args.distill.identity()?);
    add("sparsity", json!(args.sparse));
    if args.quantization.is_used() {
        add("quantization", args.quantization.identity()?);
    }
    if let Some(gates) = gates {
        add("gates", gates.identity()?);
    }
    let settings = args.settings();
    for name in DATA {
        add(name, settings.get(name).cloned().unwrap_or(Value::Null));
    }
    if let Some(path) = settings.get("preprocess").and_then(Value::as_str) {
        add("preprocess", json!(input::sha256(path.as_ref())?));
    }
    Ok(identity)
}

fn hash(labels: &[u32]) -> String {
    let mut hash = Sha256::new();
    for label in labels {
        hash.update(label.to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
