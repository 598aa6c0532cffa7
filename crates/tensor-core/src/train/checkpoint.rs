//! Checkpoints: named tensors in one `.safetensors` file, whole or not there.

use crate::group::Group;
use crate::{Error, ErrorKind, Result, files};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Named tensors.
pub(super) type Snapshot = BTreeMap<String, Tensor>;

/// Writes a snapshot.
///
/// # Errors
/// `E0003` when it cannot be written.
pub(super) fn write(path: &Path, snapshot: &Snapshot) -> Result<()> {
    // The format sorts by type and name, so the bytes do not depend on the order of the map.
    let tensors: HashMap<&str, Tensor> =
        snapshot.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    files::write_whole(path, |part| {
        candle_core::safetensors::save(&tensors, part).map_err(std::io::Error::other)
    })
}

/// Reads a snapshot; `None` when there is none. Of several processes the first reads it, for all.
///
/// # Errors
/// `E0404` when the file is damaged.
pub(super) fn read(path: &Path, group: &Group) -> Result<Option<Snapshot>> {
    let damaged = |why: &dyn std::fmt::Display| {
        let message = format!("{}: no checkpoint: {why}", path.display());
        Error::new(ErrorKind::Invalid, "E0404", message)
            .hint("remove the run folder and begin again")
    };
    let bytes = group.broadcast(|| match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Ok(bytes) if bytes.is_empty() => Err(damaged(&"it is empty")),
        bytes => bytes.map_err(|error| Error::io(path, &error)),
    })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|error| damaged(&error))?;
    Ok(Some(tensors.into_iter().collect()))
}
