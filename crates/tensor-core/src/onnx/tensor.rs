//! `TensorProto` to [`Constant`] and back.

use super::external::External;
use super::proto::TensorProto;
use super::proto::tensor_proto::DataLocation;
use super::typed;
use crate::graph::{Constant, Encoding, Opaque};
use crate::{ElementType, Error, Result};
use prost::Message;
use prost::bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// Largest `TensorProto.DataType` of the schema.
const LAST_TYPE: i32 = 28;
const STRING: i32 = 8;

/// Which tensor a message is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// An initializer of that name.
    Initializer(&'a str),
    /// An attribute of that name.
    Attribute(&'a str),
    /// A tensor inside a sub-graph, function or list, by its own name.
    Nested(&'a str),
    /// A file of its own.
    File,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initializer(name) => write!(f, "initializer `{name}`"),
            Self::Attribute(name) => write!(f, "attribute `{name}`"),
            Self::Nested(name) => write!(f, "nested tensor `{name}`"),
            Self::File => f.write_str("tensor"),
        }
    }
}

/// An error about a tensor.
pub(super) fn bad(place: Place<'_>, message: impl fmt::Display) -> Error {
    Error::invalid(format!("{place} {message}")).code_is("E0101")
}

/// Makes a constant, moving its data. The tensor's own name stays in the opaque rest.
///
/// # Errors
/// `E0101` when type, dimensions and data do not fit together, `E0104` from external data.
pub(super) fn decode(
    mut proto: TensorProto,
    place: Place<'_>,
    external: &mut External<'_>,
) -> Result<Constant> {
    let code = proto.data_type.take().unwrap_or_default();
    let element = ElementType::from_onnx(code);
    let dims = dims(&proto, place)?;
    let count = check_shape(code, &dims, place)?;
    if proto.segment.is_some() {
        return Err(bad(place, "is stored in segments")
            .hint("save the model again with a current version of the `onnx` package"));
    }
    let (own, others) = typed::lengths(&proto, code);
    if others > 0 {
        return Err(bad(place, format!("has data in a field that is not for type {element:?}")));
    }
    let mut encoding = Encoding::Raw;
    let bytes = if is_external(&proto) {
        if own > 0 || proto.raw_data.is_some() {
            return Err(bad(place, "has both external data and data in the model"));
        }
        encoding = Encoding::External;
        load_external(&mut proto, code, count, place, external)?
    } else if let Some(raw) = proto.raw_data.take() {
        if own > 0 {
            return Err(bad(place, "has both raw and typed data"));
        }
        if code == STRING {
            return Err(bad(place, "has strings as raw data"));
        }
        Arc::new(Vec::from(raw))
    } else {
        encoding = Encoding::Typed;
        if typed::entries(code, count) != Some(own) {
            return Err(wrong_length(place, element, &dims, own, "values"));
        }
        if matches!(element, ElementType::Other(_)) {
            // The typed field stays in the opaque rest.
            Arc::default()
        } else {
            Arc::new(typed::take(&mut proto, element).ok_or_else(|| {
                bad(place, format!("has a value out of the range of type {element:?}"))
            })?)
        }
    };
    if encoding != Encoding::Typed && byte_count(code, count) != Some(bytes.len()) {
        return Err(wrong_length(place, element, &dims, bytes.len(), "bytes"));
    }
    proto.dims.clear();
    let mut constant =
        Constant::from_shared(element, dims, bytes).map_err(|error| error.code_is("E0101"))?;
    constant.encoding = encoding;
    constant.opaque = Opaque(proto.encode_to_vec());
    Ok(constant)
}

/// The message of a constant, sharing its data. `name` replaces the tensor's own.
pub(super) fn encode(constant: &Constant, name: Option<&str>) -> Result<TensorProto> {
    let mut proto = describe(constant, name)?;
    let is_opaque = matches!(constant.element(), ElementType::Other(_));
    match constant.encoding {
        // Typed data that is not understood is in the opaque rest already.
        Encoding::Typed if is_opaque && constant.bytes().is_empty() => {}
        Encoding::Typed if !is_opaque => typed::put(&mut proto, constant)?,
        _ => proto.raw_data = Some(Bytes::from_owner(Shared(constant.shared_bytes()))),
    }
    Ok(proto)
}

/// The message of a constant without its data.
pub(super) fn describe(constant: &Constant, name: Option<&str>) -> Result<TensorProto> {
    let mut proto = TensorProto::decode(constant.opaque.0.as_slice())
        .map_err(|error| Error::internal(format!("opaque part of a tensor: {error}")))?;
    proto.data_type = Some(constant.element().to_onnx());
    proto.dims = constant.dims().iter().map(|&dim| dim as i64).collect();
    if let Some(name) = name {
        proto.name = Some(name.to_owned());
    }
    Ok(proto)
}

/// Replaces external data of a tensor that stays opaque by raw data.
pub(super) fn inline_external(proto: &mut TensorProto, external: &mut External<'_>) -> Result<()> {
    if !is_external(proto) {
        return Ok(());
    }
    let name = proto.name.clone().unwrap_or_default();
    let place = Place::Nested(&name);
    let code = proto.data_type.unwrap_or_default();
    let count = check_shape(code, &dims(proto, place)?, place)?;
    let bytes = load_external(proto, code, count, place, external)?;
    proto.raw_data = Some(Bytes::from_owner(Shared(bytes)));
    Ok(())
}

fn is_external(proto: &TensorProto) -> bool {
    proto.data_location == Some(DataLocation::External as i32)
}

fn load_external(
    proto: &mut TensorProto,
    code: i32,
    count: usize,
    place: Place<'_>,
    external: &mut External<'_>,
) -> Result<Arc<Vec<u8>>> {
    let expected = byte_count(code, count)
        .ok_or_else(|| bad(place, "has a type that cannot be stored externally"))?;
    proto.data_location = None;
    let entries = std::mem::take(&mut proto.external_data);
    external.load(&entries, expected, place)
}

fn dims(proto: &TensorProto, place: Place<'_>) -> Result<Vec<usize>> {
    proto
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| bad(place, format!("has dimension {dim}"))))
        .collect()
}

/// The number of elements, when type and shape make sense.
fn check_shape(code: i32, dims: &[usize], place: Place<'_>) -> Result<usize> {
    if !(1..=LAST_TYPE).contains(&code) {
        return Err(bad(place, format!("has element type {code}, which ONNX does not define")));
    }
    // Even where another dimension is zero, since strides are partial products.
    dims.iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim.max(1)))
        .filter(|&product| product <= isize::MAX as usize / 16)
        .map(|_| dims.iter().product())
        .ok_or_else(|| bad(place, format!("has shape {dims:?}, which no memory can hold")))
}

/// Bytes of raw data for `count` elements of type `code`; `None` for strings.
fn byte_count(code: i32, count: usize) -> Option<usize> {
    match (ElementType::from_onnx(code).size(), code) {
        (Some(size), _) => count.checked_mul(size),
        (None, STRING) => None,
        (None, 14) => count.checked_mul(8),
        (None, 15) => count.checked_mul(16),
        (None, 21..=23) => Some(count.div_ceil(2)),
        (None, 25 | 26) => Some(count.div_ceil(4)),
        (None, 27 | 28) => Some(count.checked_mul(6)?.div_ceil(8)),
        (None, _) => Some(count),
    }
}

fn wrong_length(
    place: Place<'_>,
    element: ElementType,
    dims: &[usize],
    found: usize,
    unit: &str,
) -> Error {
    bad(place, format!("has shape {dims:?} and type {element:?}, but {found} {unit} of data"))
        .hint("the file is damaged, or its writer is at fault; `onnx.checker` says more")
}

/// Lets a message share the bytes of a constant.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
