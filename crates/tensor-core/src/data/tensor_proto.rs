//! Decodes a `TensorProto` with raw data; stands in until `crate::onnx` has it.

use crate::{Constant, ElementType, Error, Result};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    data_type: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "9")]
    raw_data: Option<Vec<u8>>,
}

/// Decodes.
pub(super) fn tensor_from_bytes(bytes: &[u8]) -> Result<Constant> {
    let proto = TensorProto::decode(bytes).map_err(|error| Error::invalid(error.to_string()))?;
    let dims: Option<Vec<usize>> = proto.dims.iter().map(|&dim| dim.try_into().ok()).collect();
    let dims = dims.ok_or_else(|| Error::invalid("negative dimension"))?;
    let element = ElementType::from_onnx(proto.data_type.unwrap_or(0));
    Constant::from_bytes(element, dims, proto.raw_data.unwrap_or_default())
}
