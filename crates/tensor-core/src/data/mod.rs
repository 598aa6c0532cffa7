//! Data sets: IDX, image folders, `.npy`, `.npz`, `.safetensors` and ONNX test data, with the
//! preprocessing that the model was trained with.
//!
//! [`open`] finds out what a path holds:
//!
//! | path | samples | labels |
//! |---|---|---|
//! | IDX file, `.gz` or not | first axis | the `-labels-idx1-ubyte` file beside it |
//! | folder with one IDX pair, or `folder/train` for one of several | the same | the same |
//! | folder of JPEG and PNG files, or one such file | sorted by name | none |
//! | folder of class sub-folders | by class, then by name | classes numbered in order of name |
//! | `.npy` | first axis | none |
//! | `.npz`, `.safetensors` | the arrays named as the model inputs; else `x`, `images`, `data` or `input`; else the only one, or the first of two in an `.npz` | `y`, `labels`, `label` or `targets`; else the second of two |
//! | folder with `test_data_set_*/input_*.pb`, or with `input_*.pb` | first axis, sets in order | `output_0.pb` when it holds one integer per sample |
//!
//! [`Options::labels`] replaces whatever labels were found. 8-bit unsigned values are pixels and
//! are scaled to 0..1 for float inputs; all other values are taken as they are. Images are decoded
//! without applying an EXIF orientation, as the usual training pipelines do.
//!
//! Memory is bounded: plain files are read sample by sample, images are decoded when asked for;
//! only compressed arrays are held, up to 4 GiB.

mod array;
mod dataset;
mod errors;
mod folder;
mod idx;
mod image;
mod labels;
mod npy;
mod prepare;
mod preprocess;
mod safetensors;
mod sample;
mod summary;
mod testdata;
mod zip;

pub use dataset::{Batch, Dataset};
pub use idx::Idx;
pub use preprocess::{Layout, PerChannel, Preprocess, SCHEMA, Size};
pub use summary::{ChannelStats, InputSummary, Summary};

use crate::graph::Dim;
use crate::text::counted;
use crate::{Constant, ElementType, Graph, Result};
use array::{Array, Header, Store};
use dataset::Parts;
use errors::{ambiguous, misfit, not_found};
use prepare::Prepare;
use sample::Source;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to read a data set.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A file with one class number per sample, where labels are apart.
    pub labels: Option<PathBuf>,
    /// Preprocessing; applies to sets with one input.
    pub preprocess: Preprocess,
    /// The model's inputs; empty when there is no model, and then nothing is checked against it.
    pub inputs: Vec<InputSpec>,
}

/// What a model input takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// Name.
    pub name: String,
    /// Element type.
    pub element: ElementType,
    /// Shape with the batch axis; `None` when the rank, or a dimension, is not stated.
    pub dims: Option<Vec<Option<usize>>>,
}

impl InputSpec {
    /// The inputs that a model declares. An undeclared element type counts as `F32`.
    pub fn of(graph: &Graph) -> Vec<Self> {
        graph
            .inputs
            .iter()
            .map(|&value| {
                let declared = graph.declared(value);
                let dims = declared.and_then(|declared| declared.dims.as_ref());
                let known = |dim: &Dim| match dim {
                    Dim::Known(size) => Some(*size),
                    _ => None,
                };
                Self {
                    name: graph.name(value).to_owned(),
                    element: declared.and_then(|d| d.element).unwrap_or(ElementType::F32),
                    dims: dims.map(|dims| dims.iter().map(known).collect()),
                }
            })
            .collect()
    }

    /// Shape without the batch axis.
    fn sample_dims(&self) -> Option<Vec<Option<usize>>> {
        self.dims.as_ref().map(|dims| dims.get(1..).unwrap_or_default().to_vec())
    }
}

/// Names that mean samples in archives.
const SAMPLE_NAMES: [&str; 4] = ["x", "images", "data", "input"];

/// Opens what the path holds (see the [module](self) table).
///
/// The first sample is decoded and prepared; further samples are read when a batch asks for them.
///
/// # Errors
/// `E0201` nothing there, `E0202` damaged, `E0204` not handled, `E0205` does not fit the model,
/// `E0206` samples or inputs differ, `E0207` wrong labels, `E0209` ambiguous, `E0210` wrong
/// preprocessing. Every message names the file.
pub fn open(path: &Path, options: &Options) -> Result<Dataset> {
    let parts = find(path, options)?;
    let expected = options.inputs.len();
    if expected != 0 && parts.sources.len() != expected {
        let names: Vec<&str> = options.inputs.iter().map(|input| input.name.as_str()).collect();
        return Err(misfit(format!(
            "{}: feeds {}, the model has {expected}: {}",
            path.display(),
            counted(parts.sources.len(), "input"),
            names.join(", ")
        ))
        .hint(
            "for several inputs use an .npz or .safetensors file with one array per input name, \
             or ONNX test data",
        ));
    }
    let set = Dataset::new(path, parts, &options.inputs, &options.preprocess)?;
    match &options.labels {
        Some(labels) => set.labelled(labels),
        None => Ok(set),
    }
}

/// A data set from tensors in memory: input names and tensors whose first axes count samples.
///
/// # Errors
/// As [`open`].
pub fn from_memory(
    inputs: Vec<(String, Constant)>,
    labels: Option<Vec<u32>>,
    options: &Options,
) -> Result<Dataset> {
    let path = Path::new("memory");
    let mut sources = Vec::new();
    for (name, tensor) in inputs {
        let header =
            Header { element: tensor.element(), dims: tensor.dims().to_vec(), big_endian: false };
        let bytes = tensor.bytes().to_vec();
        let available = bytes.len() as u64;
        sources.push((name, source(Array::new(path, header, Store::Memory(bytes), available)?)?));
    }
    if sources.is_empty() {
        return Err(not_found(path, "no inputs given"));
    }
    let parts = Parts { sources, labels, classes: Vec::new(), notes: Vec::new() };
    Dataset::new(path, parts, &options.inputs, &options.preprocess)
}

fn find(path: &Path, options: &Options) -> Result<Parts> {
    if path.is_dir() {
        if testdata::is_test_data(path) {
            return test_data(path, options);
        }
        return match idx::find_images(path)? {
            Some(images) => idx_file(&images, options),
            None => image_folder(path, options),
        };
    }
    if !path.is_file() {
        return match idx::find_images(path) {
            Ok(Some(images)) => idx_file(&images, options),
            Err(error) if error.code() == "E0209" => Err(error),
            _ if path.exists() => Err(not_found(path, "is neither a file nor a folder")),
            _ => Err(not_found(path, "no such file or folder")),
        };
    }
    match extension(path).as_str() {
        "npy" => single(options, npy::open(path)?),
        "npz" => archive(path, npy::open_archive(path)?, options, true),
        "safetensors" => archive(path, safetensors::open(path)?, options, false),
        "jpg" | "jpeg" | "png" => image_folder(path, options),
        _ if idx::is_magic(&first_bytes(path)?) => idx_file(path, options),
        _ => Err(not_found(path, "is no data set that is known").hint(
            "expected IDX (.gz or not), .npy, .npz, .safetensors, an image, a folder of images, \
             or a folder of ONNX test data",
        )),
    }
}

/// The name under which a set with one input delivers it.
fn only_name(options: &Options) -> String {
    options.inputs.first().map_or_else(|| "input".to_owned(), |input| input.name.clone())
}

fn source(array: Array) -> Result<Arc<dyn Source>> {
    array.require_samples()?;
    Ok(Arc::new(array))
}

fn single(options: &Options, array: Array) -> Result<Parts> {
    let sources = vec![(only_name(options), source(array)?)];
    Ok(Parts { sources, labels: None, classes: Vec::new(), notes: Vec::new() })
}

fn idx_file(path: &Path, options: &Options) -> Result<Parts> {
    let mut parts = single(options, idx::open(path)?)?;
    if options.labels.is_none()
        && let Some(beside) = idx::labels_beside(path)
    {
        let labels = labels::read(&beside)?;
        let samples = parts.sources[0].1.len();
        if labels.len() != samples {
            return Err(labels::count_mismatch(&beside, labels.len(), samples));
        }
        parts.labels = Some(labels);
        parts.notes.push(format!("labels from {}", beside.display()));
    }
    Ok(parts)
}

fn image_folder(path: &Path, options: &Options) -> Result<Parts> {
    let prepare = Prepare::new(&options.preprocess, options.inputs.first())?;
    let listing = folder::list(path, prepare.channels().unwrap_or(3))?;
    let mut notes = Vec::new();
    if listing.skipped > 0 {
        notes.push(format!("skipped {} entries that are no JPEG or PNG files", listing.skipped));
    }
    let source: Arc<dyn Source> = Arc::new(listing.folder);
    let sources = vec![(only_name(options), source)];
    Ok(Parts { sources, labels: listing.labels, classes: listing.classes, notes })
}

fn test_data(path: &Path, options: &Options) -> Result<Parts> {
    let (inputs, labels) = testdata::open(path)?;
    let sources = inputs
        .into_iter()
        .enumerate()
        .map(|(index, input)| {
            let name = options.inputs.get(index).map(|input| input.name.clone());
            let input: Arc<dyn Source> = Arc::new(input);
            (name.unwrap_or_else(|| format!("input_{index}")), input)
        })
        .collect();
    Ok(Parts { sources, labels, classes: Vec::new(), notes: Vec::new() })
}

/// Chooses arrays by name, or (in a format that keeps their order) by position.
fn archive(
    path: &Path,
    arrays: Vec<(String, Array)>,
    options: &Options,
    ordered: bool,
) -> Result<Parts> {
    let arrays: Vec<(String, Arc<Array>)> =
        arrays.into_iter().map(|(name, array)| (name, Arc::new(array))).collect();
    let all: Vec<String> = arrays.iter().map(|(name, _)| name.clone()).collect();
    let position = |name: &str| all.iter().position(|other| other == name);
    let wanted: Option<Vec<usize>> =
        options.inputs.iter().map(|input| position(&input.name)).collect();
    let named_labels = labels::LABEL_NAMES.iter().find_map(|name| position(name));
    let (samples, label_at) = match wanted {
        Some(wanted) if !wanted.is_empty() => {
            let free = named_labels.filter(|at| !wanted.contains(at));
            (wanted, free)
        }
        _ => {
            let named = SAMPLE_NAMES.iter().find_map(|name| position(name));
            match (named, all.len()) {
                (Some(at), _) => (vec![at], named_labels),
                (None, 1) => (vec![0], None),
                (None, 2) if ordered => (vec![0], Some(1)),
                _ => {
                    return Err(ambiguous(path, format!("holds the arrays {}", all.join(", ")))
                        .hint("name the arrays after the model inputs, or `x` and `y`"));
                }
            }
        }
    };
    let labels = label_at.map(|at| arrays[at].1.to_labels()).transpose()?;
    let mut sources = Vec::new();
    for (index, &at) in samples.iter().enumerate() {
        let name = options.inputs.get(index).map_or("input", |input| input.name.as_str());
        let array = Arc::clone(&arrays[at].1);
        array.require_samples()?;
        let array: Arc<dyn Source> = array;
        sources.push((name.to_owned(), array));
    }
    Ok(Parts { sources, labels, classes: Vec::new(), notes: Vec::new() })
}

/// Lower-case extension, or nothing.
fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// The first four bytes, fewer in a shorter file.
fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut bytes))
        .map_err(|error| not_found(path, error))?;
    Ok(bytes)
}

/// Shape and elements of an `.npy` array that is no data set.
pub(crate) fn npy_f64s(path: &Path) -> Result<(Vec<usize>, Vec<f64>)> {
    let array = npy::open(path)?;
    let dims = array.dims().to_vec();
    let constant = Constant::from_bytes(array.element(), dims.clone(), array.all_bytes()?)?;
    Ok((dims, constant.to_f64s()?))
}
