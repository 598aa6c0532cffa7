//! `.safetensors` files: a JSON header of names, types, shapes and byte ranges, then the data.

use super::array::{Array, Header, Store};
use super::errors::{damaged, not_found, unsupported};
use crate::{ElementType, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

/// The limit of the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// Opens a file: names and arrays in header order, read on demand.
///
/// # Errors
/// `E0202` when the header is unreadable or claims data that is not there.
pub(super) fn open(path: &Path) -> Result<Vec<(String, Array)>> {
    let io = |error: std::io::Error| not_found(path, error);
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut length = [0_u8; 8];
    file.read_exact(&mut length).map_err(|_| damaged(path, "is no .safetensors file"))?;
    let length = u64::from_le_bytes(length);
    let data = length.saturating_add(8);
    if length > MAX_HEADER || data > size {
        return Err(damaged(path, format!("claims a header of {length} bytes"))
            .hint("the file is truncated or is no .safetensors file"));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(io)?;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text)
        .map_err(|error| damaged(path, format!("its header is no JSON object: {error}")))?;
    let mut arrays = Vec::new();
    for (name, value) in header {
        if name == "__metadata__" {
            continue;
        }
        let entry: Entry = serde_json::from_value(value)
            .map_err(|error| damaged(path, format!("its entry `{name}`: {error}")))?;
        let header = Header {
            element: element(path, &name, &entry.dtype)?,
            dims: entry.shape,
            big_endian: false,
        };
        let (from, to) = entry.data_offsets;
        let end = data.checked_add(to).filter(|&end| end <= size && from <= to);
        if end.is_none() || header.bytes(path)? != to - from {
            return Err(damaged(path, format!("its entry `{name}` has wrong offsets")));
        }
        let file = File::open(path).map_err(io)?;
        let store = Store::File { file: Mutex::new(file), offset: data + from };
        arrays.push((name, Array::new(path, header, store, to - from)?));
    }
    Ok(arrays)
}

fn element(path: &Path, name: &str, dtype: &str) -> Result<ElementType> {
    Ok(match dtype {
        "F16" => ElementType::F16,
        "BF16" => ElementType::BF16,
        "F32" => ElementType::F32,
        "F64" => ElementType::F64,
        "I8" => ElementType::I8,
        "I16" => ElementType::I16,
        "I32" => ElementType::I32,
        "I64" => ElementType::I64,
        "U8" => ElementType::U8,
        "U16" => ElementType::U16,
        "U32" => ElementType::U32,
        "U64" => ElementType::U64,
        "BOOL" => ElementType::Bool,
        _ => return Err(unsupported(path, format!("`{name}` has elements of type `{dtype}`"))),
    })
}
