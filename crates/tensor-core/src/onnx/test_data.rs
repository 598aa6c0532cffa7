//! Files that hold one `TensorProto`, such as `input_0.pb` of the ONNX test-data sets.

use super::external::External;
use super::proto::TensorProto;
use super::tensor::{self, Place};
use super::{sniff, wire};
use crate::graph::Constant;
use crate::{Error, Result};
use prost::Message;

/// The tensor in the bytes of a `TensorProto` file.
///
/// # Errors
/// `E0100` when the bytes are not a `TensorProto`, `E0101` when type, dimensions and data do not
/// fit together.
pub fn tensor_from_bytes(bytes: &[u8]) -> Result<Constant> {
    wire::check_tensor(bytes).map_err(|error| error.hint(sniff::hint(bytes)))?;
    let proto = TensorProto::decode(bytes).map_err(|error| {
        Error::invalid(format!("not a readable ONNX tensor: {error}"))
            .code_is("E0100")
            .hint(sniff::hint(bytes))
    })?;
    tensor::decode(proto, Place::File, &mut External::new(None))
}

/// The bytes of a `TensorProto` file for a constant; `name` replaces the name it was read with.
///
/// # Errors
/// When the constant's opaque part was tampered with.
pub fn tensor_to_bytes(constant: &Constant, name: Option<&str>) -> Result<Vec<u8>> {
    Ok(tensor::encode(constant, name)?.encode_to_vec())
}
