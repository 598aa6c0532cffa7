//! Sparse initializers: weights as values and places.

use super::external::External;
use super::proto::{ModelProto, NodeProto, SparseTensorProto, TensorProto};
use super::tensor::{self, Place, bad};
use super::{decode, sniff, wire, write};
use crate::graph::Constant;
use crate::{ElementType, Error, Result};
use prost::Message;
use prost::bytes::Bytes;
use serde::Serialize;

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
    /// Tensors that became sparse.
    pub converted: usize,
    /// Tensors that would be smaller, but have to stay.
    pub kept: Vec<Kept>,
}

/// A tensor that stays dense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Why, to be read after the name.
    pub reason: &'static str,
}

/// Turns float initializers into sparse ones where that is smaller: each value that is not zero
/// takes 8 bytes for its place, so from two thirds of zeros on for 32 bits, 80 % for 16 and half for
/// 64. Tensors of Constant nodes become sparse initializers of the same name, without the node. All
/// else stays, as do tensors in sub-graphs and functions.
///
/// ONNX Runtime reads such files and makes dense weights of them; it is not faster by them.
///
/// # Errors
/// `E0100` when the bytes are not ONNX, `E0101` when a tensor's type, shape and data do not fit
/// together, `E0103` when the IR version is too old, `E0104` when a tensor has its data in another
/// file.
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
    let mut made = Made { spare: DENSE_BASE, ..Made::default() };
    for one in std::mem::take(&mut graph.initializer) {
        // A default value of an input must stay where callers expect it.
        let is_input = graph.input.iter().any(|input| input.name() == one.name());
        let fixed = is_input.then_some("is the default value of an input");
        if !made.take(&one, one.name(), fixed)? {
            graph.initializer.push(one);
        }
    }
    for node in std::mem::take(&mut graph.node) {
        let is_output = |name: &str| graph.output.iter().any(|output| output.name() == name);
        let is_taken = match constant(&node) {
            Some((name, value)) => {
                let fixed = is_output(name).then_some("is an output of the model");
                made.take(value, name, fixed)?
            }
            None => false,
        };
        if !is_taken {
            graph.node.push(node);
        }
    }
    let converted = made.sparse.len();
    graph.sparse_initializer.extend(made.sparse);
    write::check_size(proto.encoded_len(), write::MAX_MESSAGE)?;
    Ok(SparseModel { bytes: proto.encode_to_vec(), converted, kept: made.kept })
}

/// Name and tensor of a Constant node.
fn constant(node: &NodeProto) -> Option<(&str, &TensorProto)> {
    let is_constant = node.op_type() == "Constant" && decode::domain(node.domain()).is_empty();
    match (node.output.as_slice(), node.attribute.as_slice()) {
        ([name], [attribute]) if is_constant && attribute.name() == "value" => {
            Some((name, attribute.t.as_ref()?))
        }
        _ => None,
    }
}

/// What became sparse and what did not.
#[derive(Default)]
struct Made {
    sparse: Vec<SparseTensorProto>,
    kept: Vec<Kept>,
    /// What is left of [`DENSE_BASE`]: what is written has to be read again.
    spare: usize,
}

impl Made {
    /// Takes a tensor where its sparse form is smaller and nothing keeps it as it is.
    fn take(
        &mut self,
        dense: &TensorProto,
        name: &str,
        fixed: Option<&'static str>,
    ) -> Result<bool> {
        let element = ElementType::from_onnx(dense.data_type());
        let Some(width) = element.size().filter(|_| element.is_float()) else { return Ok(false) };
        let place = Place::Initializer(name);
        let tensor = tensor::decode(dense.clone(), place, &mut External::new(None))?;
        let (mut values, mut places) = (Vec::new(), Vec::new());
        for (place, value) in tensor.bytes().chunks_exact(width).enumerate() {
            // Negative zero and NaN are values as well.
            if value.iter().any(|&byte| byte != 0) {
                values.extend_from_slice(value);
                places.extend_from_slice(&(place as i64).to_le_bytes());
            }
        }
        let stored = values.len() + places.len();
        if stored + FRAME >= tensor.bytes().len() {
            return Ok(false);
        }
        let beyond = tensor.bytes().len().saturating_sub(stored * DENSE_PER_STORED);
        let too_empty = "is larger than its few values justify when it is read";
        if let Some(reason) = fixed.or((beyond > self.spare).then_some(too_empty)) {
            self.kept.push(Kept { name: name.to_owned(), reason });
            return Ok(false);
        }
        self.spare -= beyond;
        let count = values.len() / width;
        let mut values = Constant::from_bytes(element, vec![count], values)?;
        values.opaque = tensor.opaque.clone();
        let indices = TensorProto {
            data_type: Some(ElementType::I64.to_onnx()),
            dims: vec![count as i64],
            raw_data: Some(Bytes::from(places)),
            ..TensorProto::default()
        };
        self.sparse.push(SparseTensorProto {
            values: Some(tensor::encode(&values, Some(name))?),
            indices: Some(indices),
            dims: dense.dims.clone(),
        });
        Ok(true)
    }
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
    /// `E0101` when values, indices and dimensions do not fit together, or indices do not ascend.
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
        if let Some([before, after]) = places.array_windows().find(|[a, b]| a >= b) {
            let what =
                if before == after { "the same index twice" } else { "indices out of order" };
            return Err(bad(place, format!("has {what}: {before} before {after}"))
                .hint("indices of a sparse tensor have to ascend, each with one value"));
        }
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
