//! Just enough of the ZIP format for `.npz`: stored and deflated entries, ZIP64 sizes.

use super::errors::{damaged, not_found, unsupported};
use crate::Result;
use flate2::{Crc, read::DeflateDecoder};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// The end record is 22 bytes and a comment of at most 65,535.
const MAX_END: u64 = 22 + 65_535;
/// A bound on the directory, so that a lying size cannot exhaust memory: 64 MiB is half a million
/// entries.
const MAX_DIRECTORY: u64 = 64 << 20;

/// One file in an archive.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Size when decompressed.
    pub(super) size: u64,
    compressed: u64,
    deflated: bool,
    crc: u32,
    /// Offset of the local header.
    local: u64,
}

/// The files in an archive, in directory order.
///
/// # Errors
/// `E0202` when the directory cannot be read, `E0204` for other compression methods.
pub(super) fn entries(path: &Path) -> Result<Vec<Entry>> {
    let mut file = File::open(path).map_err(|error| not_found(path, error))?;
    let size = file.metadata().map_err(|error| not_found(path, error))?.len();
    let tail_start = size.saturating_sub(MAX_END);
    let tail = read_at(path, &mut file, tail_start, size - tail_start)?;
    let end = tail
        .windows(4)
        .rposition(|window| window == b"PK\x05\x06")
        .ok_or_else(|| damaged(path, "is no .npz archive, or it is truncated"))?;
    let end = Fields { path, bytes: &tail[end..] };
    // The last field, so that a record cut short is noticed.
    end.u16(20)?;
    let (mut length, mut start) = (u64::from(end.u32(12)?), u64::from(end.u32(16)?));
    if start == u64::from(u32::MAX) || length == u64::from(u32::MAX) {
        let locator = tail
            .windows(4)
            .rposition(|window| window == b"PK\x06\x07")
            .ok_or_else(|| damaged(path, "its ZIP64 directory is missing"))?;
        let record = Fields { path, bytes: &tail[locator..] }.u64(8)?;
        let record = read_at(path, &mut file, record, 56)?;
        let record = Fields { path, bytes: &record };
        (length, start) = (record.u64(40)?, record.u64(48)?);
    }
    if length > MAX_DIRECTORY {
        return Err(damaged(path, format!("claims a directory of {length} bytes")));
    }
    let directory = read_at(path, &mut file, start, length)?;
    let mut rest = directory.as_slice();
    let mut entries = Vec::new();
    while rest.starts_with(b"PK\x01\x02") {
        let (entry, used) = parse_entry(&Fields { path, bytes: rest })?;
        if !entry.name.ends_with('/') {
            entries.push(entry);
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok(entries)
}

/// Reads one directory record; also returns its length.
fn parse_entry(fields: &Fields<'_>) -> Result<(Entry, usize)> {
    let path = fields.path;
    let [name_length, extra_length, comment] =
        [fields.u16(28)?, fields.u16(30)?, fields.u16(32)?].map(usize::from);
    let name = String::from_utf8_lossy(fields.slice(46, name_length)?).into_owned();
    let flags = fields.u16(8)?;
    let deflated = match fields.u16(10)? {
        0 => false,
        8 => true,
        method => {
            return Err(unsupported(path, format!("`{name}` uses compression method {method}"))
                .hint("write it with `numpy.savez` or `numpy.savez_compressed`"));
        }
    };
    if flags & 1 != 0 {
        return Err(unsupported(path, format!("`{name}` is encrypted")));
    }
    let mut entry = Entry {
        name,
        size: u64::from(fields.u32(24)?),
        compressed: u64::from(fields.u32(20)?),
        deflated,
        crc: fields.u32(16)?,
        local: u64::from(fields.u32(42)?),
    };
    let mut extra = Fields { path, bytes: fields.slice(46 + name_length, extra_length)? };
    while extra.bytes.len() >= 4 {
        let (kind, length) = (extra.u16(0)?, usize::from(extra.u16(2)?));
        if kind == 1 {
            // ZIP64 replaces, in this order, the sizes that do not fit 32 bits.
            let mut at = 4;
            for value in [&mut entry.size, &mut entry.compressed, &mut entry.local] {
                if *value == u64::from(u32::MAX) {
                    *value = extra.u64(at)?;
                    at += 8;
                }
            }
        }
        extra.bytes = extra.bytes.get(4 + length..).unwrap_or_default();
    }
    Ok((entry, 46 + name_length + extra_length + comment))
}

impl Entry {
    /// The decompressed content of a deflated entry, `None` for a stored one.
    ///
    /// # Errors
    /// `E0202` when the content is damaged, `E0204` when it is larger than `limit` bytes.
    pub(super) fn inflate(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        if !self.deflated {
            return Ok(None);
        }
        if self.size > limit {
            let what = format!("`{}` has {} bytes, too many to decompress", self.name, self.size);
            return Err(unsupported(path, what).hint("write it with `numpy.savez`, uncompressed"));
        }
        let (file, _) = self.open_stored(path)?;
        let mut bytes = Vec::new();
        DeflateDecoder::new(BufReader::new(file).take(self.compressed))
            .take(self.size)
            .read_to_end(&mut bytes)
            .map_err(|error| damaged(path, format!("`{}` is damaged: {error}", self.name)))?;
        let mut crc = Crc::new();
        crc.update(&bytes);
        if bytes.len() as u64 != self.size || crc.sum() != self.crc {
            return Err(damaged(path, format!("`{}` is damaged: wrong checksum", self.name)));
        }
        Ok(Some(bytes))
    }

    /// A file positioned at the entry's (possibly compressed) content, and that position.
    ///
    /// # Errors
    /// `E0202` when the entry lies outside the file.
    pub(super) fn open_stored(&self, path: &Path) -> Result<(File, u64)> {
        let mut file = File::open(path).map_err(|error| not_found(path, error))?;
        let header = read_at(path, &mut file, self.local, 30)?;
        let fields = Fields { path, bytes: &header };
        if !header.starts_with(b"PK\x03\x04") {
            return Err(damaged(path, format!("`{}` is not where the directory says", self.name)));
        }
        let start = self.local + 30 + u64::from(fields.u16(26)?) + u64::from(fields.u16(28)?);
        let size = file.metadata().map_err(|error| not_found(path, error))?.len();
        if start.checked_add(self.compressed).is_none_or(|end| end > size) {
            return Err(damaged(path, format!("`{}` is truncated", self.name)));
        }
        file.seek(SeekFrom::Start(start)).map_err(|error| not_found(path, error))?;
        Ok((file, start))
    }
}

/// Reads `length` bytes at `start`, both checked against the file.
fn read_at(path: &Path, file: &mut File, start: u64, length: u64) -> Result<Vec<u8>> {
    let size = file.metadata().map_err(|error| not_found(path, error))?.len();
    if start.checked_add(length).is_none_or(|end| end > size) {
        return Err(damaged(path, "is no .npz archive, or it is truncated"));
    }
    let mut bytes = vec![0; length as usize];
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|error| not_found(path, error))?;
    Ok(bytes)
}

/// Little-endian fields of a record, with checked offsets.
struct Fields<'a> {
    path: &'a Path,
    bytes: &'a [u8],
}

impl Fields<'_> {
    fn slice(&self, at: usize, length: usize) -> Result<&[u8]> {
        at.checked_add(length)
            .and_then(|end| self.bytes.get(at..end))
            .ok_or_else(|| damaged(self.path, "its archive directory is truncated"))
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(at, N)?);
        Ok(array)
    }

    fn u16(&self, at: usize) -> Result<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}
