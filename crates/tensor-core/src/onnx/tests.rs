//! Byte identity with `prost` itself, which integration tests cannot see.

use super::proto::ModelProto;
use super::{decode, encode};
use prost::Message;
use std::path::{Path, PathBuf};

/// All `.onnx` files below a folder, in order.
fn models_in(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            models_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "onnx") {
            found.push(path);
        }
    }
}

/// The fixtures, and the larger models of `KERF_MODELS` or the folder beside the checkout.
fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("KERF_MODELS")
        .map_or_else(|| root.join("../shared/models"), PathBuf::from);
    let mut found = Vec::new();
    models_in(&root.join("fixtures/models"), &mut found);
    models_in(&shared, &mut found);
    found
}

#[test]
fn untouched_models_keep_their_bytes() {
    let models = models();
    assert!(models.len() >= 4, "the fixtures are always there");
    let (mut same, mut too_old) = (0, 0);
    let mut failures = Vec::new();
    for path in &models {
        let bytes = std::fs::read(path).expect("readable");
        let proto = ModelProto::decode(bytes.as_slice()).expect("a model");
        let opset = proto.opset_import.iter().find(|one| one.domain().is_empty());
        match decode(&bytes, path.parent()).and_then(|graph| encode(&graph)) {
            Ok(again) if again == proto.encode_to_vec() => same += 1,
            Ok(_) => failures.push(format!("{}: other bytes", path.display())),
            Err(error) if error.code() == "E0103" && opset.is_some_and(|o| o.version() < 9) => {
                too_old += 1;
            }
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    assert!(
        failures.is_empty(),
        "{same} the same, {too_old} too old, {} not:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
