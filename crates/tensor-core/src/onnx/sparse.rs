//! Sparse initializers: weights as values and places.

use super::external::External;
use super::proto::{ModelProto, SparseTensorProto, TensorProto};
use super::tensor::{self, Place, bad};
use super::{sniff, wire, write};
use crate::graph::Constant;
use crate::{ElementType, Error, Result};
use prost::Message;
use prost::bytes::Bytes;

/// The first IR version that knows sparse initializers.
const FIRST_IR: i64 = 6;

/// Bytes that the fields around values and indices may take.
const FRAME: usize = 64;

/// Dense bytes that the sparse initializers of a model may take beyond what they store.
const DENSE_BASE: usize = 64 << 20;

/// Dense bytes for each stored one: more than at 99 % sparsity, where 12 bytes stand for 400.
const DENSE_PER_STORED: usize = 64;

/// A model file with sparse initializers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseModel {
    /// The file.
    pub bytes: Vec<u8>,
    /// Initializers that became sparse.
    pub converted: usize,
}

/// Turns 32-bit float initializers into sparse ones where that is smaller: each value that is not
/// zero takes 12 bytes, its place included, so from two thirds of zeros on. All else stays.
///
/// ONNX Runtime reads such files and makes dense weights of them; it is not faster by them.
///
/// # Errors
/// `E0100` when the bytes are not ONNX, `E0103` when the IR version is too old.
pub fn to_sparse(model: &[u8]) -> Result<SparseModel> {
    let damaged = |error: Error| error.hint(sniff::hint(model));
    wire::check_model(model).map_err(damaged)?;
    let mut proto = ModelProto::decode(model).map_err(|error| {
        let message = format!("not a readable ONNX file: {error}");
        damaged(Error::invalid(message).code_is("E0100"))
    })?;
    let version = proto.ir_version();
    if version < FIRST_IR {
        return Err(Error::unsupported(format!(
            "IR version {version} has no sparse initializers, {FIRST_IR} is the first"
        ))
        .code_is("E0103")
        .hint("save the model again with a current version of the `onnx` package"));
    }
    let Some(graph) = proto.graph.as_mut() else {
        return Err(damaged(Error::invalid("the file holds no graph").code_is("E0100")));
    };
    let mut dense = Vec::new();
    let mut converted = 0;
    for one in std::mem::take(&mut graph.initializer) {
        // A default value of an input must stay where callers expect it.
        let is_input = graph.input.iter().any(|input| input.name() == one.name());
        match (!is_input).then(|| sparse(&one)).flatten() {
            Some(sparse) => {
                graph.sparse_initializer.push(sparse);
                converted += 1;
            }
            None => dense.push(one),
        }
    }
    graph.initializer = dense;
    write::check_size(proto.encoded_len(), write::MAX_MESSAGE)?;
    Ok(SparseModel { bytes: proto.encode_to_vec(), converted })
}

/// The sparse form of a tensor of 32-bit floats in raw form, when it is smaller.
fn sparse(dense: &TensorProto) -> Option<SparseTensorProto> {
    let raw = dense.raw_data.as_ref().filter(|_| dense.float_data.is_empty())?;
    let is_plain = dense.data_type() == ElementType::F32.to_onnx()
        && dense.external_data.is_empty()
        && dense.segment.is_none()
        && raw.len().is_multiple_of(4);
    let (mut values, mut places) = (Vec::new(), Vec::new());
    for (place, value) in raw.chunks_exact(4).enumerate() {
        // Negative zero and NaN are values as well.
        if value != [0; 4] {
            values.extend_from_slice(value);
            places.extend_from_slice(&(place as i64).to_le_bytes());
        }
    }
    if !is_plain || values.len() + places.len() + FRAME >= raw.len() {
        return None;
    }
    let count = (values.len() / 4) as i64;
    let indices = TensorProto {
        data_type: Some(ElementType::I64.to_onnx()),
        dims: vec![count],
        raw_data: Some(Bytes::from(places)),
        ..TensorProto::default()
    };
    let values =
        TensorProto { dims: vec![count], raw_data: Some(Bytes::from(values)), ..dense.clone() };
    Some(SparseTensorProto {
        values: Some(values),
        indices: Some(indices),
        dims: dense.dims.clone(),
    })
}

/// What the dense forms of a model's sparse initializers may take together: a file may not ask for
/// far more memory than its size.
pub(super) struct Budget(usize);

impl Budget {
    /// From all sparse initializers of a model.
    pub(super) fn new(sparse: &[SparseTensorProto]) -> Self {
        let stored: usize = sparse.iter().map(Message::encoded_len).sum();
        Self(DENSE_BASE.saturating_add(stored.saturating_mul(DENSE_PER_STORED)))
    }

    /// The dense form; `None` when it is beyond the budget, or its elements or indices have a type
    /// that is not handled: it then stays as it is.
    ///
    /// # Errors
    /// `E0101` when values, indices and dimensions do not fit together.
    pub(super) fn dense(
        &mut self,
        sparse: &SparseTensorProto,
        name: &str,
        external: &mut External<'_>,
    ) -> Result<Option<Constant>> {
        let place = Place::Initializer(name);
        let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else {
            return Err(bad(place, "is sparse without values or indices"));
        };
        let values = tensor::decode(values.clone(), place, external)?;
        let indices = tensor::decode(indices.clone(), place, external)?;
        let Some(width) = values.element().size().filter(|_| values.element().is_float()) else {
            return Ok(None);
        };
        if indices.element() != ElementType::I64 {
            return Ok(None);
        }
        let dims: Option<Vec<usize>> =
            sparse.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let dims = dims.ok_or_else(|| bad(place, format!("has shape {:?}", sparse.dims)))?;
        let count = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let bytes = count.and_then(|count| count.checked_mul(width));
        let (Some(count), Some(bytes)) = (count, bytes.filter(|&bytes| bytes <= self.0)) else {
            return Ok(None);
        };
        self.0 -= bytes;
        let stored = values.bytes().len() / width;
        let places = places(&indices, &dims, stored, place)?;
        let mut dense = vec![0; bytes];
        for (&to, value) in places.iter().zip(values.bytes().chunks_exact(width)) {
            let Some(element) = dense.get_mut(to * width..(to + 1) * width) else {
                return Err(bad(place, format!("has an index {to} in {count} elements")));
            };
            element.copy_from_slice(value);
        }
        Constant::from_bytes(values.element(), dims, dense)
            .map(Some)
            .map_err(|error| error.code_is("E0101"))
    }
}

/// Linear places of the values, from linear indices or from one index for each axis.
fn places(
    indices: &Constant,
    dims: &[usize],
    stored: usize,
    place: Place<'_>,
) -> Result<Vec<usize>> {
    let numbers = indices.bytes().chunks_exact(8).map(|bytes| {
        let mut number = [0; 8];
        number.copy_from_slice(bytes);
        usize::try_from(i64::from_le_bytes(number)).ok()
    });
    let numbers: Option<Vec<usize>> = numbers.collect();
    let numbers = numbers.ok_or_else(|| bad(place, "has a negative index"))?;
    match *indices.dims() {
        [count] if count == stored => {
            let all: usize = dims.iter().product();
            match numbers.iter().find(|&&number| number >= all) {
                Some(number) => Err(bad(place, format!("has index {number} in shape {dims:?}"))),
                None => Ok(numbers),
            }
        }
        [count, axes] if count == stored && axes == dims.len() && axes > 0 => {
            let linear = |tuple: &[usize]| {
                tuple.iter().zip(dims).try_fold(0_usize, |linear, (&index, &dim)| {
                    linear.checked_mul(dim)?.checked_add(index).filter(|_| index < dim)
                })
            };
            let places: Option<Vec<usize>> = numbers.chunks_exact(axes).map(linear).collect();
            places.ok_or_else(|| bad(place, format!("has an index outside of shape {dims:?}")))
        }
        ref other => Err(bad(
            place,
            format!("has indices of shape {other:?} for {stored} values of shape {dims:?}"),
        )),
    }
}
