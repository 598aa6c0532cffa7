//! Class numbers that stand in a file of their own.

use super::errors::{labels, not_found};
use super::{idx, npy, safetensors};
use crate::text::counted;
use crate::{Error, Result};
use std::path::Path;

/// Reads class numbers from IDX, `.npy`, `.npz`, `.safetensors`, or text with one number a line.
///
/// # Errors
/// `E0207` when the content is no list of class numbers.
pub(super) fn read(path: &Path) -> Result<Vec<u32>> {
    match super::extension(path).as_str() {
        "npy" => npy::open(path)?.to_labels(),
        "npz" => only(path, npy::open_archive(path)?)?.to_labels(),
        "safetensors" => only(path, safetensors::open(path)?)?.to_labels(),
        "txt" | "csv" => {
            let text = std::fs::read_to_string(path).map_err(|error| not_found(path, error))?;
            let numbers = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let numbers: Option<Vec<i64>> = numbers.map(|line| line.parse().ok()).collect();
            let numbers = numbers.ok_or_else(|| {
                labels(path, "is not a list of class numbers").hint("write one number a line")
            })?;
            from_integers(path, numbers)
        }
        _ if idx::is_magic(&super::first_bytes(path)?) => idx::open(path)?.to_labels(),
        _ => Err(labels(path, "is no labels file").hint(
            "labels are read from IDX, .npy, .npz, .safetensors, or .txt with one number a line",
        )),
    }
}

/// The labels array of an archive: its only array, or the one that is named like labels.
fn only(path: &Path, arrays: Vec<(String, super::array::Array)>) -> Result<super::array::Array> {
    let single = arrays.len() == 1;
    arrays
        .into_iter()
        .find(|(name, _)| single || LABEL_NAMES.contains(&name.as_str()))
        .map(|(_, array)| array)
        .ok_or_else(|| labels(path, format!("has no array named {}", LABEL_NAMES.join(", "))))
}

/// Names that mean labels in archives.
pub(super) const LABEL_NAMES: [&str; 4] = ["y", "labels", "label", "targets"];

/// Checks that integers are class numbers.
///
/// # Errors
/// `E0207` names the first that is not.
pub(super) fn from_integers(path: &Path, numbers: Vec<i64>) -> Result<Vec<u32>> {
    numbers
        .into_iter()
        .enumerate()
        .map(|(index, number)| {
            u32::try_from(number)
                .map_err(|_| labels(path, format!("label {index} is {number}, no class number")))
        })
        .collect()
}

/// The error for labels that are not as many as the samples.
pub(super) fn count_mismatch(path: &Path, labels_count: usize, samples: usize) -> Error {
    labels(
        path,
        format!("has {} for {}", counted(labels_count, "label"), counted(samples, "sample")),
    )
    .hint("check that both files belong to the same split")
}
