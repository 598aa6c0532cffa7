//! The IDX format of the MNIST family, plain or gzip-compressed.
//!
//! Two zero bytes, an element type, the number of axes, one big-endian `u32` per axis, then the
//! elements in big-endian order.

use super::array::{Array, Header, MAX_INFLATED, Store};
use super::errors::{ambiguous, damaged, not_found, shape_text, unsupported};
use crate::text::counted;
use crate::{ElementType, Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// More axes than any data set has; keeps a lying header short.
const MAX_AXES: u8 = 8;

/// The most bytes that a byte of deflated data stands for.
const MAX_DEFLATED: u64 = 1032;

/// Do these first bytes belong to an IDX file, plain or compressed?
pub(super) fn is_magic(start: &[u8]) -> bool {
    matches!(start, [0, 0, 0x08..=0x0E, 1..=MAX_AXES, ..] | [0x1F, 0x8B, ..])
}

/// Opens an IDX file.
///
/// # Errors
/// `E0202` names the file when it is truncated or its header claims more than it holds.
pub(super) fn open(path: &Path) -> Result<Array> {
    let file = File::open(path).map_err(|error| not_found(path, error))?;
    let size = file.metadata().map_err(|error| not_found(path, error))?.len();
    let mut reader = BufReader::new(&file);
    if is_gzip(path)? {
        let mut inflated = MultiGzDecoder::new(reader);
        let (header, _) = read_header(path, &mut inflated)?;
        let claimed = header.bytes(path)?;
        if claimed > MAX_INFLATED {
            return Err(unsupported(
                path,
                format!("claims {claimed} bytes, too many to decompress in memory"),
            )
            .hint("decompress it with `gunzip`; plain files are read piece by piece"));
        }
        let mut bytes = Vec::new();
        // Growing takes up to three times the memory, so there is room for what the header claims, but
        // no more than so many compressed bytes can hold. Where memory is short it grows after all.
        let holds = claimed.min(size.saturating_mul(MAX_DEFLATED));
        let _ = bytes.try_reserve_exact(usize::try_from(holds).unwrap_or(0));
        inflated.take(claimed).read_to_end(&mut bytes).map_err(|error| truncated(path, &error))?;
        let available = bytes.len() as u64;
        return Array::new(path, header, Store::Memory(bytes), available);
    }
    let (header, offset) = read_header(path, &mut reader)?;
    let store = Store::File { file: Mutex::new(file), offset };
    Array::new(path, header, store, size.saturating_sub(offset))
}

/// Reads the header; also returns its length in bytes.
fn read_header(path: &Path, reader: &mut impl Read) -> Result<(Header, u64)> {
    let mut magic = [0_u8; 4];
    reader.read_exact(&mut magic).map_err(|error| truncated(path, &error))?;
    let element = match magic {
        [0, 0, 0x08, _] => ElementType::U8,
        [0, 0, 0x09, _] => ElementType::I8,
        [0, 0, 0x0B, _] => ElementType::I16,
        [0, 0, 0x0C, _] => ElementType::I32,
        [0, 0, 0x0D, _] => ElementType::F32,
        [0, 0, 0x0E, _] => ElementType::F64,
        _ => {
            return Err(damaged(path, format!("is no IDX file (it starts with {magic:02x?})"))
                .hint("an IDX file starts with two zero bytes and an element type"));
        }
    };
    let axes = magic[3];
    if axes == 0 || axes > MAX_AXES {
        return Err(damaged(path, format!("claims {axes} axes")));
    }
    let mut dims = Vec::new();
    for _ in 0..axes {
        let mut dim = [0_u8; 4];
        reader.read_exact(&mut dim).map_err(|error| truncated(path, &error))?;
        dims.push(u32::from_be_bytes(dim) as usize);
    }
    Ok((Header { element, dims, big_endian: true }, 4 + 4 * u64::from(axes)))
}

fn truncated(path: &Path, error: &std::io::Error) -> Error {
    damaged(path, format!("is truncated or damaged: {error}")).hint("copy or download it again")
}

fn is_gzip(path: &Path) -> Result<bool> {
    Ok(super::first_bytes(path)?.starts_with(&[0x1F, 0x8B]))
}

/// An unsigned-byte IDX array in memory, for making smaller sets out of large ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// Shape; the first axis counts samples.
    pub dims: Vec<usize>,
    /// Elements, row-major.
    pub bytes: Vec<u8>,
}

impl Idx {
    /// Reads a file of unsigned bytes, plain or gzip-compressed.
    ///
    /// # Errors
    /// As [`super::open`]; `E0204` for other element types.
    pub fn read(path: &Path) -> Result<Self> {
        let array = open(path)?;
        if array.element() != ElementType::U8 {
            return Err(unsupported(path, format!("elements of type {:?}", array.element())));
        }
        let dims = array.dims().to_vec();
        let bytes = array.all_bytes()?;
        Ok(Self { dims, bytes })
    }

    /// The first `count` samples.
    ///
    /// # Errors
    /// `E0202` when there are fewer.
    pub fn first(&self, count: usize) -> Result<Self> {
        let samples = self.dims.first().copied().unwrap_or(0);
        if samples < count || samples == 0 {
            return Err(Error::invalid(format!(
                "{} asked for, {samples} present",
                counted(count, "sample")
            ))
            .code_is("E0202"));
        }
        let mut dims = self.dims.clone();
        dims[0] = count;
        Ok(Self { dims, bytes: self.bytes[..self.bytes.len() / samples * count].to_vec() })
    }

    /// Writes a gzip-compressed file. The same content gives the same bytes.
    ///
    /// # Errors
    /// `E0202` when an axis or their number does not fit the format, `E0003` when writing fails.
    pub fn write_gz(&self, path: &Path) -> Result<()> {
        let too_large =
            || damaged(path, format!("shape {} does not fit IDX", shape_text(&self.dims)));
        let axes = u8::try_from(self.dims.len()).map_err(|_| too_large())?;
        let mut header = vec![0, 0, 0x08, axes];
        for &dim in &self.dims {
            header.extend(u32::try_from(dim).map_err(|_| too_large())?.to_be_bytes());
        }
        let write = || {
            let file = File::create(path)?;
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::best());
            encoder.write_all(&header)?;
            encoder.write_all(&self.bytes)?;
            encoder.finish().map(drop)
        };
        write().map_err(|error| Error::io(path, &error))
    }
}

/// The images file that a path means: the file itself, the only `*-images-idx3-ubyte[.gz]` of a
/// folder, or the one that begins with the path (`folder/train`). `None` when there is none.
///
/// # Errors
/// `E0209` lists the candidates when there are several.
pub(super) fn find_images(path: &Path) -> Result<Option<PathBuf>> {
    let (folder, prefix) = if path.is_dir() {
        (path, "")
    } else {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        (path.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new(".")), name)
    };
    let entries = std::fs::read_dir(folder).map_err(|error| not_found(folder, error))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            name.strip_suffix(".gz").unwrap_or(name).ends_with("-images-idx3-ubyte")
                && (prefix.is_empty() || name.starts_with(&format!("{prefix}-images")))
        })
        .collect();
    names.sort();
    match names.as_slice() {
        [] => Ok(None),
        [name] => Ok(Some(folder.join(name))),
        [first, ..] => Err(ambiguous(path, format!("holds several sets: {}", names.join(", ")))
            .hint(format!("name one of them, such as `{}`", folder.join(first).display()))),
    }
}

/// The labels file that stands beside an images file by the naming convention, if it exists.
pub(super) fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gz").unwrap_or(name).strip_suffix("-images-idx3-ubyte")?;
    ["-labels-idx1-ubyte.gz", "-labels-idx1-ubyte"]
        .map(|suffix| images.with_file_name(format!("{stem}{suffix}")))
        .into_iter()
        .find(|labels| labels.is_file())
}
