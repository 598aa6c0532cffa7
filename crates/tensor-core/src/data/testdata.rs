//! ONNX test data: `test_data_set_0/input_0.pb`, one `TensorProto` per model input and set.

use super::array::from_constant;
use super::errors::{damaged, not_found, shape_text, unsupported};
use super::sample::{Sample, Source};
use crate::{Constant, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The protobuf limit.
const MAX_FILE: u64 = 2 << 30;

/// The files of one model input, one per set; their first axes follow each other.
#[derive(Debug)]
pub(super) struct TestData {
    files: Vec<PathBuf>,
    /// First sample of every file, and the total.
    starts: Vec<usize>,
    /// The file read last.
    cache: Mutex<Option<(usize, Constant)>>,
}

/// Does the folder hold test data?
pub(super) fn is_test_data(folder: &Path) -> bool {
    folder.join("input_0.pb").is_file() || folder.join("test_data_set_0").is_dir()
}

/// Opens the sets of a folder, or the one set that the folder is: one source per input, and class
/// numbers when `output_0.pb` holds one integer per sample.
///
/// # Errors
/// `E0201` without `input_0.pb`, `E0202` when a set has other inputs than the first.
pub(super) fn open(folder: &Path) -> Result<(Vec<TestData>, Option<Vec<u32>>)> {
    let sets = sets(folder)?;
    let count = (0..).take_while(|number| input(&sets[0], *number).is_file()).count();
    if count == 0 {
        return Err(not_found(&sets[0], "holds no input_0.pb"));
    }
    let mut sources = Vec::new();
    for number in 0..count {
        let (mut files, mut starts) = (Vec::new(), vec![0]);
        for set in &sets {
            let file = input(set, number);
            let tensor = read(&file)?;
            let Some(&length) = tensor.dims().first() else {
                return Err(unsupported(&file, "is a scalar; the first axis must count samples"));
            };
            if tensor.count() == 0 {
                let shape = shape_text(tensor.dims());
                return Err(not_found(&file, format!("is empty: shape {shape}")));
            }
            files.push(file);
            starts.push(starts[starts.len() - 1] + length);
        }
        sources.push(TestData { files, starts, cache: Mutex::new(None) });
    }
    let labels = labels(&sets, sources[0].len())?;
    Ok((sources, labels))
}

/// `test_data_set_*` in numerical order, or the folder itself.
fn sets(folder: &Path) -> Result<Vec<PathBuf>> {
    if input(folder, 0).is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let entries = std::fs::read_dir(folder).map_err(|error| not_found(folder, error))?;
    let mut sets: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.strip_prefix("test_data_set_")?.parse().ok()?, entry.path()))
        })
        .collect();
    sets.sort();
    if sets.is_empty() {
        return Err(not_found(folder, "holds no test_data_set_0"));
    }
    Ok(sets.into_iter().map(|(_, path)| path).collect())
}

fn input(set: &Path, number: usize) -> PathBuf {
    set.join(format!("input_{number}.pb"))
}

fn labels(sets: &[PathBuf], samples: usize) -> Result<Option<Vec<u32>>> {
    let mut labels = Vec::new();
    for set in sets {
        let file = set.join("output_0.pb");
        if !file.is_file() {
            return Ok(None);
        }
        let tensor = read(&file)?;
        if tensor.element().is_float() || tensor.dims().len() != 1 {
            return Ok(None);
        }
        labels.extend(super::labels::from_integers(&file, tensor.to_i64s()?)?);
    }
    Ok((labels.len() == samples).then_some(labels))
}

/// Reads one `TensorProto` file.
pub(super) fn read(path: &Path) -> Result<Constant> {
    let io = |error: std::io::Error| not_found(path, error);
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE {
        return Err(unsupported(path, format!("has {size} bytes, more than protobuf allows")));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    crate::onnx::tensor_from_bytes(&bytes).map_err(|error| {
        damaged(path, format!("is no tensor: {error}")).hint("expected an ONNX `TensorProto`")
    })
}

impl Source for TestData {
    fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let set = self.starts.partition_point(|&start| start <= index) - 1;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let tensor = match cache.take() {
            Some((cached, tensor)) if cached == set => tensor,
            _ => read(&self.files[set])?,
        };
        let within = index - self.starts[set];
        if tensor.dims().first() != Some(&(self.starts[set + 1] - self.starts[set])) {
            return Err(damaged(
                &self.files[set],
                format!("changed while in use: shape {}", shape_text(tensor.dims())),
            ));
        }
        let row = tensor.select(0, &[within])?;
        let dims = row.dims()[1..].to_vec();
        *cache = Some((set, tensor));
        from_constant(&Constant::from_bytes(row.element(), dims, row.bytes().to_vec())?)
    }

    fn place(&self, index: usize) -> String {
        let set = self.starts.partition_point(|&start| start <= index) - 1;
        format!("{}, sample {}", self.files[set].display(), index - self.starts[set])
    }
}
