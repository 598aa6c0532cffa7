//! What is cut out of a model file, and in which coding it is stored.

use super::container::{self, Entry};
use super::{expected_bytes, mask, relative};
use crate::onnx::{Payload, payloads};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the elements of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// All of them, in the skeleton.
    Dense,
    /// Those that are not zero, and a bit for each element.
    Mask,
    /// Those that are not zero, and 4 bits for each gap between them.
    Gaps,
}

/// A float tensor of a packed model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackedTensor {
    /// Its name in the model; empty for most tensors in attributes.
    pub name: String,
    /// Elements.
    pub elements: u64,
    /// Elements that are not zero.
    pub nonzeros: u64,
    /// Those of them that are negative zeros, which a mask times a negative weight gives.
    pub negative_zeros: u64,
    /// How it is stored.
    pub coding: Coding,
    /// Bytes of values and index.
    pub bytes: u64,
    /// Bytes by the formula, [`expected_bytes`].
    pub expected: f64,
}

/// A packed model.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// The packed file.
    pub bytes: Vec<u8>,
    /// Bytes of the model file that are no float tensor's data.
    pub rest: u64,
    /// All float tensors, in file order.
    pub tensors: Vec<PackedTensor>,
}

impl Packed {
    /// Bytes by the formula: what is no float tensor, and [`expected_bytes`] of those. The header
    /// of the packed file is not counted.
    pub fn expected(&self) -> f64 {
        self.rest as f64 + self.tensors.iter().map(|tensor| tensor.expected).sum::<f64>()
    }
}

/// Bytes that the entries of a tensor take in the header of the file: what a coding has to save
/// before it pays.
const ENTRY_BYTES: usize = 320;

/// Are all bits zero?
pub(super) fn is_zero(element: &[u8]) -> bool {
    element.iter().all(|&byte| byte == 0)
}

/// Is only the sign set?
fn is_negative_zero(element: &[u8]) -> bool {
    element.split_last().is_some_and(|(&last, rest)| last == 0x80 && is_zero(rest))
}

/// Packs the bytes of a model file.
///
/// # Errors
/// `E0100` when it is not ONNX, `E0170` when weights are in another file.
pub fn pack(model: &[u8]) -> Result<Packed> {
    let payloads = payloads(model)?;
    let (mut tensors, mut entries) = (Vec::new(), Vec::new());
    let mut rest = model.len();
    for payload in payloads {
        rest -= payload.range.len();
        let (tensor, entry) = encode(payload, model)?;
        tensors.push(tensor);
        entries.extend(entry);
    }
    let bytes = container::write(model, &entries)?;
    Ok(Packed { bytes, rest: rest as u64, tensors })
}

/// The cheapest coding of a tensor, and its parts unless it stays where it is.
fn encode(payload: Payload, model: &[u8]) -> Result<(PackedTensor, Option<Entry>)> {
    let dense = &model[payload.range.clone()];
    let Some(width) = payload.element.size() else {
        return Err(Error::internal("a float tensor without an element size"));
    };
    let mut values = Vec::new();
    for element in dense.chunks_exact(width).filter(|element| !is_zero(element)) {
        values.extend_from_slice(element);
    }
    let (mask, gaps) = (mask::encode(dense, width), relative::encode(dense, width));
    // Unpacking refuses files that ask for more, which 64-bit zeros in gaps alone would do.
    let is_fair = dense.len() <= container::MODEL_PER_BYTE * (values.len() + gaps.len());
    let (coding, index) = match gaps.len() < mask.len() && is_fair {
        true => (Coding::Gaps, gaps),
        false => (Coding::Mask, mask),
    };
    let negative = values.chunks_exact(width).filter(|element| is_negative_zero(element)).count();
    let (elements, nonzeros) = (dense.len() / width, values.len() / width);
    let packed = values.len() + index.len();
    let pays = packed + ENTRY_BYTES < dense.len();
    let tensor = PackedTensor {
        name: payload.name.clone(),
        elements: elements as u64,
        nonzeros: nonzeros as u64,
        negative_zeros: negative as u64,
        coding: if pays { coding } else { Coding::Dense },
        bytes: if pays { packed } else { dense.len() } as u64,
        expected: expected_bytes(elements as u64, nonzeros as u64, width as u64),
    };
    Ok((tensor, pays.then_some(Entry { payload, coding, index, values })))
}
