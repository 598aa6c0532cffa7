//! Arrays whose first axis counts samples, in memory or read from their file on demand.

use super::errors::{damaged, not_found, shape_text, unsupported};
use super::sample::{Sample, Source, Values};
use crate::{Constant, ElementType, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Decompressed arrays are held in memory up to this many bytes.
pub(super) const MAX_INFLATED: u64 = 4 << 30;

/// Element type, shape and byte order of an array, as its header states them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) element: ElementType,
    pub(super) dims: Vec<usize>,
    pub(super) big_endian: bool,
}

impl Header {
    /// Bytes of the whole array.
    pub(super) fn bytes(&self, path: &Path) -> Result<u64> {
        let size = self
            .element
            .size()
            .ok_or_else(|| unsupported(path, format!("elements of type {:?}", self.element)))?;
        self.dims.iter().try_fold(size as u64, |all, &dim| all.checked_mul(dim as u64)).ok_or_else(
            || damaged(path, format!("claims the impossible shape {}", shape_text(&self.dims))),
        )
    }
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Store {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file, from `offset` on.
    File {
        /// The file.
        file: Mutex<File>,
        /// First byte of the array.
        offset: u64,
    },
}

/// An array.
#[derive(Debug)]
pub(super) struct Array {
    path: PathBuf,
    header: Header,
    store: Store,
}

impl Array {
    /// An array of which `available` bytes are present.
    ///
    /// # Errors
    /// `E0202` when they are fewer than the header claims.
    pub(super) fn new(path: &Path, header: Header, store: Store, available: u64) -> Result<Self> {
        let claimed = header.bytes(path)?;
        if claimed > available {
            return Err(damaged(
                path,
                format!(
                    "claims shape {} ({claimed} bytes) but holds {available} bytes of data",
                    shape_text(&header.dims)
                ),
            )
            .hint("the file is truncated or its header is wrong; copy or create it again"));
        }
        Ok(Self { path: path.to_owned(), header, store })
    }

    /// Shape.
    pub(super) fn dims(&self) -> &[usize] {
        &self.header.dims
    }

    /// Element type.
    pub(super) fn element(&self) -> ElementType {
        self.header.element
    }

    /// Checks that the first axis can count samples.
    ///
    /// # Errors
    /// `E0204` when there is no axis, `E0201` when there is no element: an empty array may claim
    /// any number of samples.
    pub(super) fn require_samples(&self) -> Result<()> {
        if self.header.dims.is_empty() {
            return Err(unsupported(&self.path, "is a scalar; the first axis must count samples"));
        }
        if self.header.dims.contains(&0) {
            let shape = shape_text(&self.header.dims);
            return Err(not_found(&self.path, format!("is empty: shape {shape}")));
        }
        Ok(())
    }

    /// Elements `from..from + count`, as little-endian bytes.
    fn read(&self, from: u64, count: u64) -> Result<Vec<u8>> {
        let size = self.header.element.size().unwrap_or(1) as u64;
        // Inside the bounds that `new` checked, hence no overflow.
        let (start, length) = ((from * size), (count * size) as usize);
        let mut bytes = match &self.store {
            Store::Memory(bytes) => bytes[start as usize..start as usize + length].to_vec(),
            Store::File { file, offset } => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let mut bytes = vec![0; length];
                file.seek(SeekFrom::Start(offset + start))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(|error| not_found(&self.path, error))?;
                bytes
            }
        };
        if self.header.big_endian {
            bytes.chunks_exact_mut(size as usize).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }

    /// All elements, as little-endian bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn all_bytes(&self) -> Result<Vec<u8>> {
        self.read(0, self.header.dims.iter().map(|&dim| dim as u64).product())
    }

    /// All elements as class numbers.
    ///
    /// # Errors
    /// `E0207` when they are not non-negative integers.
    pub(super) fn to_labels(&self) -> Result<Vec<u32>> {
        let squeezed = self.header.dims.iter().filter(|&&dim| dim != 1).count() <= 1;
        if !squeezed || self.header.element.is_float() {
            return Err(super::errors::labels(
                &self.path,
                format!(
                    "labels have shape {} and type {:?}, expected one integer per sample",
                    shape_text(&self.header.dims),
                    self.header.element
                ),
            )
            .hint("store class numbers 0, 1, 2, ... as a one-dimensional integer array"));
        }
        let count: u64 = self.header.dims.iter().map(|&dim| dim as u64).product();
        let bytes = self.read(0, count)?;
        let constant = Constant::from_bytes(self.header.element, vec![count as usize], bytes)?;
        super::labels::from_integers(&self.path, constant.to_i64s()?)
    }
}

impl Source for Array {
    fn len(&self) -> usize {
        self.header.dims.first().copied().unwrap_or(0)
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let dims = self.header.dims[1..].to_vec();
        let count: u64 = dims.iter().map(|&dim| dim as u64).product();
        let bytes = self.read(index as u64 * count, count)?;
        from_constant(&Constant::from_bytes(self.header.element, dims, bytes)?)
    }

    fn place(&self, index: usize) -> String {
        format!("{}, sample {index}", self.path.display())
    }
}

/// A sample from a tensor without batch axis.
pub(super) fn from_constant(tensor: &Constant) -> Result<Sample> {
    let values = match tensor.element() {
        ElementType::U8 => Values::Pixels(tensor.bytes().to_vec()),
        element if element.is_float() => Values::Floats(tensor.to_f32s()?),
        _ => Values::Integers(tensor.to_i64s()?),
    };
    Ok(Sample { dims: tensor.dims().to_vec(), values, decoded: false })
}
