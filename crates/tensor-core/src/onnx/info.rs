//! `ValueInfoProto` to [`Declared`] and back.

use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{TensorShapeProto, ValueInfoProto, type_proto};
use crate::graph::{Constant, Declared, Dim, Opaque};
use crate::{ElementType, Error, Result};
use prost::Message;

/// Makes a declaration; the name is left to the value.
pub(super) fn decode(mut proto: ValueInfoProto) -> Declared {
    proto.name = None;
    let (element, dims) = parse(&proto);
    Declared { element, dims, opaque: Opaque(proto.encode_to_vec()) }
}

/// The message of a declaration.
pub(super) fn encode(name: &str, declared: &Declared) -> Result<ValueInfoProto> {
    let mut proto = from_opaque(&declared.opaque)?;
    proto.name = Some(name.to_owned());
    let (element, dims) = parse(&proto);
    if element != declared.element || dims != declared.dims {
        let Some(element) = declared.element else {
            proto.r#type = None;
            return Ok(proto);
        };
        let kind = proto.r#type.get_or_insert_default();
        let old = match kind.value.take() {
            Some(type_proto::Value::TensorType(tensor)) => tensor.shape.unwrap_or_default().dim,
            _ => Vec::new(),
        };
        kind.value = Some(type_proto::Value::TensorType(type_proto::Tensor {
            elem_type: Some(element.to_onnx()),
            shape: declared.dims.as_ref().map(|dims| shape(dims, old)),
        }));
    }
    Ok(proto)
}

/// The message of what an opaque part says.
pub(super) fn from_opaque(opaque: &Opaque) -> Result<ValueInfoProto> {
    ValueInfoProto::decode(opaque.0.as_slice())
        .map_err(|error| Error::internal(format!("opaque part of a declaration: {error}")))
}

/// What an initializer's value declares: as before where that still holds.
pub(super) fn of_constant(declared: Option<&Declared>, constant: &Constant) -> Declared {
    let declared = declared.cloned().unwrap_or_default();
    let fits = |dims: &Vec<Dim>| {
        dims.len() == constant.dims().len()
            && dims.iter().zip(constant.dims()).all(|(dim, size)| match dim {
                Dim::Known(known) => known == size,
                Dim::Symbol(_) | Dim::Unknown => true,
            })
    };
    if declared.element == Some(constant.element()) && declared.dims.as_ref().is_none_or(fits) {
        return declared;
    }
    Declared {
        element: Some(constant.element()),
        dims: Some(constant.dims().iter().map(|&dim| Dim::Known(dim)).collect()),
        opaque: declared.opaque,
    }
}

fn parse(proto: &ValueInfoProto) -> (Option<ElementType>, Option<Vec<Dim>>) {
    let value = proto.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return (None, None);
    };
    let element = match tensor.elem_type() {
        0 => None,
        code => Some(ElementType::from_onnx(code)),
    };
    (element, tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect()))
}

fn dim(proto: &Dimension) -> Dim {
    match &proto.value {
        // Some exporters write -1 for "any size".
        Some(dimension::Value::DimValue(size)) => {
            usize::try_from(*size).map_or(Dim::Unknown, Dim::Known)
        }
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => Dim::Symbol(name.clone()),
        _ => Dim::Unknown,
    }
}

/// A shape message that keeps the old message of each dimension that did not change.
fn shape(dims: &[Dim], old: Vec<Dimension>) -> TensorShapeProto {
    let mut old = old.into_iter();
    let dim = dims
        .iter()
        .map(|wanted| match old.next() {
            Some(proto) if dim(&proto) == *wanted => proto,
            _ => Dimension {
                denotation: None,
                value: match wanted {
                    Dim::Known(size) => Some(dimension::Value::DimValue(*size as i64)),
                    Dim::Symbol(name) => Some(dimension::Value::DimParam(name.clone())),
                    Dim::Unknown => None,
                },
            },
        })
        .collect();
    TensorShapeProto { dim }
}
