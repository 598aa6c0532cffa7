//! The models that a run names: found again, and the same as they were.

use super::super::model::Model;
use super::super::network::Network;
use crate::input;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tensor_core::{Error, Result, onnx};

/// A model as a document names it.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub(super) path: Option<PathBuf>,
    pub(super) sha256: Option<String>,
}

impl Source {
    /// From the fields of a document.
    pub(super) fn of(path: &Value, sha256: &Value) -> Self {
        Self { path: path.as_str().map(PathBuf::from), sha256: sha256.as_str().map(str::to_owned) }
    }
}

/// What became of looking for a model.
#[derive(Debug)]
pub(super) enum Sought {
    /// The run names none.
    Unnamed,
    /// It cannot be shown, and why.
    Lost(String),
    /// As it was in the run.
    Found(Box<Found>),
}

/// A model that is there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) sha256: String,
    pub(super) file_bytes: u64,
    pub(super) network: Network,
}

impl Sought {
    /// The model, where it was found.
    pub(super) fn found(&self) -> Option<&Found> {
        match self {
            Self::Found(found) => Some(found),
            _ => None,
        }
    }
}

/// Looks for a model from each of the folders, and reads it where its bytes are those of the run.
pub(super) fn find(
    source: &Source,
    bases: &[PathBuf],
    shapes: &BTreeMap<String, Vec<usize>>,
    role: &str,
) -> Sought {
    let Some(path) = &source.path else { return Sought::Unnamed };
    let is_onnx = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
    // A plan of bits is no model.
    if !is_onnx {
        return Sought::Unnamed;
    }
    let beside = path.file_name().map(Path::new);
    let mut places: Vec<PathBuf> = Vec::new();
    for path in std::iter::once(path.as_path()).chain(beside) {
        places.extend(bases.iter().map(|base| base.join(path)));
    }
    let mut changed = None;
    for place in places.into_iter().filter(|place| place.is_file()) {
        match (input::sha256(&place), &source.sha256) {
            (Err(error), _) => changed = Some(error.to_string()),
            (Ok(now), Some(was)) if now != *was => {
                let start = |hash: &str| hash.chars().take(12).collect::<String>();
                changed.get_or_insert(format!(
                    "the model that the run {role} has changed since: {} (sha256 {}\u{2026} then, {}\u{2026} now)",
                    place.display(),
                    start(was),
                    start(&now)
                ));
            }
            (Ok(now), _) => return read(place, now, shapes),
        }
    }
    Sought::Lost(changed.unwrap_or_else(|| {
        format!("the model that the run {role} is not there any more: {}", path.display())
    }))
}

fn read(path: PathBuf, sha256: String, shapes: &BTreeMap<String, Vec<usize>>) -> Sought {
    let network = || -> Result<(Network, u64)> {
        let bytes = std::fs::metadata(&path).map_err(|error| Error::io(&path, &error))?.len();
        let model = Model::of(onnx::read(&path)?, shapes)?;
        Ok((Network::of(&model, shapes)?, bytes))
    };
    match network() {
        Ok((network, file_bytes)) => {
            Sought::Found(Box::new(Found { path, sha256, file_bytes, network }))
        }
        Err(error) => Sought::Lost(format!("{} cannot be shown: {error}", name(&path))),
    }
}

fn name(path: &Path) -> String {
    super::super::model::file_name(path)
}
