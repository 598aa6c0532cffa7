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

/// Payloads of all float tensors of a model, wherever in the file they are, in file order.
///
/// # Errors
/// `E0100` when the bytes are not ONNX, `E0170` when a tensor has its data in another file.
pub fn payloads(model: &[u8]) -> Result<Vec<Payload>> {
    let hint = |error: Error| error.hint(sniff::hint(model));
    if model.is_empty() {
        return Err(Error::invalid("the file is empty").code_is("E0100"));
    }
    wire::check_model(model).map_err(hint)?;
    let mut found = Vec::new();
    visit(model, 0, Kind::Model, &mut found)?;
    Ok(found)
}

/// Fields of `TensorProto`.
mod tensor {
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

/// Calls `each` for the fields of a message that starts at `base`. The depth of nesting and all
/// lengths were checked before.
fn fields(
    message: &[u8],
    base: usize,
    mut each: impl FnMut(u64, Field) -> Result<()>,
) -> Result<()> {
    let bad = |problem: String| {
        Error::invalid(format!("not a readable ONNX file: {problem}")).code_is("E0100")
    };
    let mut rest = message;
    while !rest.is_empty() {
        let key = wire::varint(&mut rest).map_err(bad)?;
        let field = match key & 7 {
            0 => Field::Number(wire::varint(&mut rest).map_err(bad)?),
            2 => {
                let length = wire::varint(&mut rest).map_err(bad)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let start = base + message.len() - rest.len();
                wire::take(&mut rest, length).map_err(bad)?;
                Field::Bytes(start..start + length)
            }
            wide => {
                wire::take(&mut rest, if wide == 1 { 8 } else { 4 }).map_err(bad)?;
                Field::Other
            }
        };
        each(key >> 3, field)?;
    }
    Ok(())
}

fn visit(message: &[u8], base: usize, kind: Kind, found: &mut Vec<Payload>) -> Result<()> {
    if kind == Kind::Tensor {
        found.extend(payload(message, base)?);
        return Ok(());
    }
    fields(message, base, |number, field| match (field, kind.field(number)) {
        (Field::Bytes(range), Some((_, child))) if child.has_messages() => {
            visit(&message[range.start - base..range.end - base], range.start, child, found)
        }
        _ => Ok(()),
    })
}

/// The payload of one tensor, if it is of floats and in one piece.
fn payload(message: &[u8], base: usize) -> Result<Option<Payload>> {
    let (mut code, mut name, mut data, mut is_external) = (0, String::new(), None, false);
    fields(message, base, |number, field| {
        match (number, field) {
            (tensor::DATA_TYPE, Field::Number(number)) => code = number,
            (tensor::NAME, Field::Bytes(range)) => {
                let text = &message[range.start - base..range.end - base];
                name = String::from_utf8_lossy(text).into_owned();
            }
            (tensor::RAW_DATA | tensor::FLOAT_DATA, Field::Bytes(range)) => data = Some(range),
            (tensor::EXTERNAL_DATA, _) => is_external = true,
            _ => {}
        }
        Ok(())
    })?;
    if is_external {
        return Err(Error::unsupported(format!("tensor `{name}` has its data in another file"))
            .code_is("E0170")
            .hint("save the model with its weights inside, such as by `onnx.save_model`"));
    }
    let element = ElementType::from_onnx(i32::try_from(code).unwrap_or_default());
    let is_whole = |range: &Range<usize>| match element.size() {
        Some(size) if element.is_float() => range.len().is_multiple_of(size),
        _ => false,
    };
    Ok(data.filter(is_whole).map(|range| Payload { name, element, range }))
}
