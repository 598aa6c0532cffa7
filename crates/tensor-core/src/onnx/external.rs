//! Weights in files beside the model.

use super::proto::StringStringEntryProto;
use super::tensor::Place;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Reads external data of one model. A region that several tensors name is read once.
pub(super) struct External<'a> {
    folder: Option<&'a Path>,
    files: BTreeMap<PathBuf, DataFile>,
}

struct DataFile {
    file: File,
    size: u64,
    /// Sum of the lengths of all regions.
    used: u64,
    regions: BTreeMap<(u64, usize), Arc<Vec<u8>>>,
}

impl<'a> External<'a> {
    /// `folder` is where the model is; without it, external data is an error.
    pub(super) fn new(folder: Option<&'a Path>) -> Self {
        Self { folder, files: BTreeMap::new() }
    }

    /// The real paths of the files that were read.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.keys().cloned().collect()
    }

    /// The bytes that `entries` point to, `expected` in number.
    ///
    /// # Errors
    /// `E0104` when the file is outside the model's folder or is missing, or the region is not in
    /// it, has another length, or overlaps others.
    pub(super) fn load(
        &mut self,
        entries: &[StringStringEntryProto],
        expected: usize,
        place: Place<'_>,
    ) -> Result<Arc<Vec<u8>>> {
        let value =
            |key| entries.iter().find(|e| e.key() == key).map(StringStringEntryProto::value);
        let location =
            value("location").ok_or_else(|| bad(place, "has external data without a location"))?;
        let number = |key| {
            value(key)
                .map(|text| {
                    text.parse::<u64>().map_err(|_| bad(place, format!("has {key} `{text}`")))
                })
                .transpose()
        };
        let offset = number("offset")?.unwrap_or(0);
        if let Some(length) = number("length")?
            && length != expected as u64
        {
            return Err(bad(
                place,
                format!("needs {expected} bytes, its external data has {length}"),
            ));
        }
        let path = self.resolve(location, place)?;
        if !self.files.contains_key(&path) {
            let file = DataFile::open(&path).map_err(|error| io(location, place, &error))?;
            self.files.insert(path.clone(), file);
        }
        match self.files.get_mut(&path) {
            Some(file) => file.region(offset, expected, location, place),
            None => Ok(Arc::default()),
        }
    }

    /// The real path of a location, which must lie in the model's folder.
    fn resolve(&self, location: &str, place: Place<'_>) -> Result<PathBuf> {
        let folder = self.folder.ok_or_else(|| {
            bad(place, format!("is in `{location}`, a file beside the model"))
                .hint("read the model from its path instead of from memory")
        })?;
        let is_inside = Path::new(location)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !is_inside {
            return Err(outside(location, place));
        }
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let real = |path: &Path| path.canonicalize().map_err(|error| io(location, place, &error));
        let path = real(&folder.join(location))?;
        // A link inside the folder may still lead out of it.
        if !path.starts_with(real(folder)?) {
            return Err(outside(location, place));
        }
        Ok(path)
    }
}

impl DataFile {
    fn open(path: &Path) -> std::io::Result<Self> {
        // Opening a pipe would wait for a writer.
        if !path.metadata()?.is_file() {
            return Err(std::io::Error::other("not a regular file"));
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size, used: 0, regions: BTreeMap::new() })
    }

    fn region(
        &mut self,
        offset: u64,
        length: usize,
        location: &str,
        place: Place<'_>,
    ) -> Result<Arc<Vec<u8>>> {
        if let Some(bytes) = self.regions.get(&(offset, length)) {
            return Ok(Arc::clone(bytes));
        }
        let size = self.size;
        if offset.checked_add(length as u64).is_none_or(|end| end > size) {
            return Err(bad(
                place,
                format!(
                    "is at bytes {offset} to {} of `{location}`, which has {size}",
                    offset.saturating_add(length as u64)
                ),
            )
            .hint("the data file is cut off or belongs to another model"));
        }
        // Overlapping regions could multiply the memory that a file takes without bound.
        self.used += length as u64;
        if self.used > size {
            return Err(bad(place, format!("overlaps other tensors in `{location}`")));
        }
        let mut bytes = vec![0; length];
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| io(location, place, &error))?;
        let bytes = Arc::new(bytes);
        self.regions.insert((offset, length), Arc::clone(&bytes));
        Ok(bytes)
    }
}

fn bad(place: Place<'_>, message: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{place} {message}")).code_is("E0104")
}

fn outside(location: &str, place: Place<'_>) -> Error {
    bad(place, format!("has its data in `{location}`, outside the model's folder"))
        .hint("put the data file into the model's folder, as a file and not as a link")
}

fn io(location: &str, place: Place<'_>, error: &std::io::Error) -> Error {
    bad(place, format!("has its data in `{location}`: {error}"))
        .hint("the data file must lie beside the model, under the name the model gives")
}
