//! Checkpoints: named tensors in one `.safetensors` file, whole or not there.

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

/// Reads a snapshot; `None` when there is none.
///
/// # Errors
/// `E0404` when the file is damaged.
pub(super) fn read(path: &Path) -> Result<Option<Snapshot>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, &error)),
    };
    let tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| {
            let message = format!("{}: no checkpoint: {error}", path.display());
            Error::new(ErrorKind::Invalid, "E0404", message)
                .hint("remove the run folder and begin again")
        })?;
    Ok(Some(tensors.into_iter().collect()))
}
