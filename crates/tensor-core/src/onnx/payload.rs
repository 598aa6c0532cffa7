//! Where the weights lie in the bytes of a model file.

use super::sniff;
use super::wire::{self, Kind};
use crate::{ElementType, Error, Result};
use std::ops::Range;

/// The data of one float tensor: a range of the model file that holds its elements in row order,
/// little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The tensor's own name; empty for most tensors in attributes.
    pub name: String,
    /// `F32`, `F16`, `BF16` or `F64`.
    pub element: ElementType,
    /// Bytes of the file, a multiple of the element's size.
    pub range: Range<usize>,
}

/// Payloads of all float tensors of a model, wherever in the file they are, in file order: those in
/// one piece whose length is that of their shape.
///
/// # Errors
/// `E0100` when the bytes are not ONNX, `E0170` when a tensor has its data in another file.
pub fn payloads(model: &[u8]) -> Result<Vec<Payload>> {
    let hint = |error: Error| error.hint(sniff::hint(model));
    if model.is_empty() {
        return Err(Error::invalid("the file is empty").code_is("E0100"));
    }
    wire::check_model(model).map_err(hint)?;
    payloads_without(model, &[])
}

/// As [`payloads`], of a model file from which `cuts` are missing: ranges of the whole file,
/// ascending and apart, of which nothing but the lengths is known. Nothing has to be checked before.
///
/// # Errors
/// `E0100` when what is left is no ONNX around the cuts, `E0170` as [`payloads`].
pub(crate) fn payloads_without(rest: &[u8], cuts: &[Range<usize>]) -> Result<Vec<Payload>> {
    let mut holes = Vec::with_capacity(cuts.len());
    let mut missing = 0_usize;
    for cut in cuts {
        holes.push((cut.clone(), missing));
        missing = missing.saturating_add(cut.len());
    }
    let source = Source { bytes: rest, holes };
    let mut found = Vec::new();
    source.visit(0..rest.len().saturating_add(missing), Kind::Model, 0, &mut found)?;
    Ok(found)
}

/// Fields of `TensorProto`.
mod tensor {
    pub(super) const DIMS: u64 = 1;
    pub(super) const DATA_TYPE: u64 = 2;
    pub(super) const FLOAT_DATA: u64 = 4;
    pub(super) const NAME: u64 = 8;
    pub(super) const RAW_DATA: u64 = 9;
    pub(super) const EXTERNAL_DATA: u64 = 13;
}

/// One field of a message.
enum Field {
    Number(u64),
    /// A range of the file.
    Bytes(Range<usize>),
    Other,
}

/// A file with holes. Places are those in the whole file.
struct Source<'a> {
    bytes: &'a [u8],
    /// Ranges that are missing, and the bytes that are missing before each.
    holes: Vec<(Range<usize>, usize)>,
}

impl<'a> Source<'a> {
    /// The bytes of a range, when no hole is in it.
    fn get(&self, range: Range<usize>) -> Option<&'a [u8]> {
        let before = self.holes.partition_point(|(hole, _)| hole.end <= range.start);
        if self.holes.get(before).is_some_and(|(hole, _)| hole.start < range.end) {
            return None;
        }
        let last = before.checked_sub(1).and_then(|last| self.holes.get(last));
        let missing = last.map_or(0, |(hole, missing)| missing + hole.len());
        self.bytes.get(range.start.checked_sub(missing)?..range.end.checked_sub(missing)?)
    }

    /// A number that starts at `at`, which moves behind it.
    fn number(&self, at: &mut usize, end: usize) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let octet = self.get(*at..*at + 1).filter(|_| *at < end).and_then(<[u8]>::first);
            let octet = *octet.ok_or_else(|| bad("it ends in the middle of a number"))?;
            *at += 1;
            value |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(bad("a number has more than 64 bits"))
    }

    /// Calls `each` for the fields of a message.
    fn fields(
        &self,
        message: Range<usize>,
        mut each: impl FnMut(u64, Field) -> Result<()>,
    ) -> Result<()> {
        let Range { start: mut at, end } = message;
        while at < end {
            let key = self.number(&mut at, end)?;
            let (length, is_bytes) = match key & 7 {
                0 => {
                    let number = self.number(&mut at, end)?;
                    each(key >> 3, Field::Number(number))?;
                    continue;
                }
                1 => (8, false),
                2 => (usize::try_from(self.number(&mut at, end)?).unwrap_or(usize::MAX), true),
                5 => (4, false),
                other => return Err(bad(format!("wire type {other} is not used in ONNX"))),
            };
            if length > end - at {
                return Err(bad(format!("{length} bytes are announced, {} are left", end - at)));
            }
            let range = at..at + length;
            at += length;
            each(key >> 3, if is_bytes { Field::Bytes(range) } else { Field::Other })?;
        }
        Ok(())
    }

    fn visit(
        &self,
        message: Range<usize>,
        kind: Kind,
        depth: usize,
        found: &mut Vec<Payload>,
    ) -> Result<()> {
        if depth > wire::MAX_DEPTH {
            return Err(bad(format!("messages nest deeper than {}", wire::MAX_DEPTH)));
        }
        if kind == Kind::Tensor {
            found.extend(self.payload(message)?);
            return Ok(());
        }
        self.fields(message, |number, field| match (field, kind.field(number)) {
            (Field::Bytes(range), Some((_, child))) if child.has_messages() => {
                self.visit(range, child, depth + 1, found)
            }
            _ => Ok(()),
        })
    }

    /// The payload of one tensor, if it is of floats, in one piece and as long as its shape says.
    fn payload(&self, message: Range<usize>) -> Result<Option<Payload>> {
        let (mut code, mut name, mut data, mut is_external) = (0, String::new(), None, false);
        // The number of elements; `None` where no memory holds them.
        let mut count = Some(1_usize);
        let times = |count: Option<usize>, dim: u64| {
            count.and_then(|count| count.checked_mul(usize::try_from(dim).ok()?))
        };
        self.fields(message, |number, field| {
            match (number, field) {
                (tensor::DIMS, Field::Number(dim)) => count = times(count, dim),
                (tensor::DIMS, Field::Bytes(Range { start: mut at, end })) => {
                    while at < end {
                        count = times(count, self.number(&mut at, end)?);
                    }
                }
                (tensor::DATA_TYPE, Field::Number(number)) => code = number,
                (tensor::NAME, Field::Bytes(range)) => {
                    let text = self.get(range).unwrap_or_default();
                    name = String::from_utf8_lossy(text).into_owned();
                }
                (tensor::RAW_DATA | tensor::FLOAT_DATA, Field::Bytes(range)) => data = Some(range),
                (tensor::EXTERNAL_DATA, _) => is_external = true,
                _ => {}
            }
            Ok(())
        })?;
        if is_external {
            return Err(Error::unsupported(format!(
                "tensor `{name}` has its data in another file"
            ))
            .code_is("E0170")
            .hint("save the model with its weights inside, such as by `onnx.save_model`"));
        }
        let element = ElementType::from_onnx(i32::try_from(code).unwrap_or_default());
        let width = element.size().filter(|_| element.is_float());
        let length = width.zip(count).and_then(|(width, count)| count.checked_mul(width));
        let data = data.filter(|range| Some(range.len()) == length);
        Ok(data.map(|range| Payload { name, element, range }))
    }
}

fn bad(problem: impl std::fmt::Display) -> Error {
    Error::invalid(format!("not a readable ONNX file: {problem}")).code_is("E0100")
}
