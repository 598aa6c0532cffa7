//! NumPy's `.npy` header and arrays, and `.npz` archives of them.
//!
//! candle's own reader allocates what the header claims and reads no compressed archives.

use super::array::{Array, Header, MAX_INFLATED, Store};
use super::errors::{damaged, not_found, unsupported};
use super::zip;
use crate::{ElementType, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Mutex;

/// Headers are a line of text; NumPy itself refuses more than 10,000 bytes.
const MAX_HEADER: u32 = 65_536;

/// Opens a `.npy` file.
///
/// # Errors
/// `E0202` when it is damaged, `E0204` for element types and orders that are not handled.
pub(super) fn open(path: &Path) -> Result<Array> {
    let file = File::open(path).map_err(|error| not_found(path, error))?;
    let size = file.metadata().map_err(|error| not_found(path, error))?.len();
    let (header, offset) = read_header(path, &mut BufReader::new(&file))?;
    let store = Store::File { file: Mutex::new(file), offset };
    Array::new(path, header, store, size.saturating_sub(offset))
}

/// Opens an `.npz` file: names (without `.npy`) and arrays in file order. Stored entries are read
/// on demand, compressed ones are held in memory.
///
/// # Errors
/// As [`open`].
pub(super) fn open_archive(path: &Path) -> Result<Vec<(String, Array)>> {
    let mut arrays = Vec::new();
    for entry in zip::entries(path)? {
        let name = entry.name.strip_suffix(".npy").unwrap_or(&entry.name).to_owned();
        let array = match entry.inflate(path, MAX_INFLATED)? {
            Some(bytes) => {
                let (header, offset) = read_header(path, &mut bytes.as_slice())?;
                let data = bytes.get(offset as usize..).unwrap_or_default().to_vec();
                let available = data.len() as u64;
                Array::new(path, header, Store::Memory(data), available)?
            }
            None => {
                let (file, start) = entry.open_stored(path)?;
                let (header, length) = read_header(path, &mut BufReader::new(&file))?;
                let store = Store::File { file: Mutex::new(file), offset: start + length };
                Array::new(path, header, store, entry.size.saturating_sub(length))?
            }
        };
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// Reads the header; also returns its length in bytes.
fn read_header(path: &Path, reader: &mut impl Read) -> Result<(Header, u64)> {
    let cut = |error: std::io::Error| damaged(path, format!("is no complete .npy array: {error}"));
    let mut start = [0_u8; 8];
    reader.read_exact(&mut start).map_err(cut)?;
    if &start[..6] != b"\x93NUMPY" {
        return Err(damaged(path, "is no .npy array (wrong first bytes)")
            .hint("write it with `numpy.save`"));
    }
    let (length, prefix) = if start[6] == 1 {
        let mut length = [0_u8; 2];
        reader.read_exact(&mut length).map_err(cut)?;
        (u32::from(u16::from_le_bytes(length)), 10)
    } else {
        let mut length = [0_u8; 4];
        reader.read_exact(&mut length).map_err(cut)?;
        (u32::from_le_bytes(length), 12)
    };
    if length > MAX_HEADER {
        return Err(damaged(path, format!("claims a header of {length} bytes")));
    }
    let mut text = vec![0; length as usize];
    reader.read_exact(&mut text).map_err(cut)?;
    let text = String::from_utf8_lossy(&text);
    Ok((parse_header(path, &text)?, prefix + u64::from(length)))
}

/// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse_header(path: &Path, text: &str) -> Result<Header> {
    let field = |name: &str| {
        let key = format!("'{name}':");
        text.find(&key)
            .map(|at| text[at + key.len()..].trim_start())
            .ok_or_else(|| damaged(path, format!("its .npy header has no `{name}`")))
    };
    let descr = field("descr")?;
    let quoted = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
    let Some(descr) = quoted else {
        return Err(unsupported(path, "holds records instead of one element type")
            .hint("store plain arrays"));
    };
    let (big_endian, code) = match descr.strip_prefix('>') {
        Some(code) => (true, code),
        None => (false, descr.trim_start_matches(['<', '|', '='])),
    };
    let element = match code {
        "f2" => ElementType::F16,
        "f4" => ElementType::F32,
        "f8" => ElementType::F64,
        "i1" => ElementType::I8,
        "i2" => ElementType::I16,
        "i4" => ElementType::I32,
        "i8" => ElementType::I64,
        "u1" => ElementType::U8,
        "u2" => ElementType::U16,
        "u4" => ElementType::U32,
        "u8" => ElementType::U64,
        "b1" => ElementType::Bool,
        _ => {
            return Err(unsupported(path, format!("elements of type `{descr}`"))
                .hint("convert with `.astype(numpy.float32)` or `numpy.uint8`"));
        }
    };
    let shape = field("shape")?;
    let dims = shape
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .and_then(|(inside, _)| {
            inside
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| part.parse().ok())
                .collect::<Option<Vec<usize>>>()
        })
        .ok_or_else(|| damaged(path, "its .npy header has no readable `shape`"))?;
    if field("fortran_order")?.starts_with("True") && dims.len() > 1 {
        return Err(unsupported(path, "is stored in Fortran order")
            .hint("store `numpy.ascontiguousarray(x)`"));
    }
    Ok(Header { element, dims, big_endian })
}
