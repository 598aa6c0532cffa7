//! `AttributeProto` to [`Attribute`] and back.

use super::external::External;
use super::nested;
use super::proto::AttributeProto;
use super::proto::attribute_proto::AttributeType;
use super::tensor::{self, Place};
use crate::graph::{Attribute, Attributes, Opaque, Style};
use crate::{Error, Result};
use prost::Message;

/// Adds an attribute to a node's, which has none of that name.
///
/// # Errors
/// `E0102` without a name, `E0101` and `E0104` from a tensor.
pub(super) fn decode(
    mut proto: AttributeProto,
    attributes: &mut Attributes,
    external: &mut External<'_>,
) -> Result<()> {
    let name = proto.name.clone().unwrap_or_default();
    if name.is_empty() {
        return Err(Error::invalid("an attribute has no name").code_is("E0102"));
    }
    let (value, style) = match understood(&proto) {
        Some((kind, style)) => (typed(&mut proto, kind, &name, external)?, style),
        None => {
            nested::in_attribute(&mut proto, &mut |tensor| {
                tensor::inline_external(tensor, external)
            })?;
            (Attribute::Opaque(Opaque(proto.encode_to_vec())), Style::default())
        }
    };
    attributes.push(name, value, style);
    Ok(())
}

/// The message of an attribute.
pub(super) fn encode(name: &str, value: &Attribute, style: &Style) -> Result<AttributeProto> {
    let mut proto = AttributeProto {
        name: Some(name.to_owned()),
        doc_string: style.doc_string.clone(),
        ..AttributeProto::default()
    };
    let kind = match value {
        Attribute::Int(value) => {
            proto.i = (*value != 0 || !style.implicit).then_some(*value);
            AttributeType::Int
        }
        Attribute::Float(value) => {
            proto.f = (value.to_bits() != 0 || !style.implicit).then_some(*value);
            AttributeType::Float
        }
        Attribute::Bytes(value) => {
            proto.s = (!value.is_empty() || !style.implicit).then(|| value.clone());
            AttributeType::String
        }
        Attribute::Ints(values) => {
            proto.ints.clone_from(values);
            AttributeType::Ints
        }
        Attribute::Floats(values) => {
            proto.floats.clone_from(values);
            AttributeType::Floats
        }
        Attribute::Strings(values) => {
            proto.strings.clone_from(values);
            AttributeType::Strings
        }
        Attribute::Tensor(constant) => {
            proto.t = Some(tensor::encode(constant, None)?);
            AttributeType::Tensor
        }
        Attribute::Opaque(opaque) => {
            return AttributeProto::decode(opaque.0.as_slice())
                .map_err(|error| Error::internal(format!("opaque attribute: {error}")));
        }
    };
    proto.r#type = (!style.untyped).then_some(kind as i32);
    Ok(proto)
}

/// The type of an attribute that has exactly the field of its type, and how it is written.
fn understood(proto: &AttributeProto) -> Option<(AttributeType, Style)> {
    use AttributeType as T;
    if proto.ref_attr_name.is_some() {
        return None;
    }
    let fields = [
        (T::Float, proto.f.is_some()),
        (T::Int, proto.i.is_some()),
        (T::String, proto.s.is_some()),
        (T::Tensor, proto.t.is_some()),
        (T::Graph, proto.g.is_some()),
        (T::SparseTensor, proto.sparse_tensor.is_some()),
        (T::TypeProto, proto.tp.is_some()),
        (T::Floats, !proto.floats.is_empty()),
        (T::Ints, !proto.ints.is_empty()),
        (T::Strings, !proto.strings.is_empty()),
        (T::Tensors, !proto.tensors.is_empty()),
        (T::Graphs, !proto.graphs.is_empty()),
        (T::SparseTensors, !proto.sparse_tensors.is_empty()),
        (T::TypeProtos, !proto.type_protos.is_empty()),
    ];
    let mut present = fields.iter().filter(|(_, is_there)| *is_there).map(|(kind, _)| *kind);
    let (first, second) = (present.next(), present.next());
    let declared = proto.r#type.map(T::try_from).transpose().ok()?;
    let kind = declared.or(first)?;
    let is_scalar = matches!(kind, T::Float | T::Int | T::String);
    let is_list = matches!(kind, T::Floats | T::Ints | T::Strings);
    let fits = match first {
        Some(first) => first == kind && (is_scalar || is_list || kind == T::Tensor),
        None => is_scalar || is_list,
    };
    let style = Style {
        doc_string: proto.doc_string.clone(),
        untyped: declared.is_none(),
        implicit: first.is_none() && is_scalar,
    };
    (fits && second.is_none()).then_some((kind, style))
}

/// Moves the value out.
fn typed(
    proto: &mut AttributeProto,
    kind: AttributeType,
    name: &str,
    external: &mut External<'_>,
) -> Result<Attribute> {
    Ok(match kind {
        AttributeType::Float => Attribute::Float(proto.f()),
        AttributeType::Int => Attribute::Int(proto.i()),
        AttributeType::String => Attribute::Bytes(proto.s.take().unwrap_or_default()),
        AttributeType::Floats => Attribute::Floats(std::mem::take(&mut proto.floats)),
        AttributeType::Ints => Attribute::Ints(std::mem::take(&mut proto.ints)),
        AttributeType::Strings => Attribute::Strings(std::mem::take(&mut proto.strings)),
        _ => {
            let mut tensor = proto.t.take().unwrap_or_default();
            tensor::inline_external(&mut tensor, external)?;
            Attribute::Tensor(tensor::decode(tensor, Place::Attribute(name), external)?)
        }
    })
}
