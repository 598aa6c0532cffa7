//! The packed file: writing, and reading what nobody vouches for.

use super::plan::Coding;
use super::{mask, relative};
use crate::onnx::{Payload, payloads_without};
use crate::{ElementType, Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The key of the metadata that makes a `safetensors` file a packed model.
pub const METADATA: &str = "kerf.pack";

/// Bytes that a model may have beyond what its packed file justifies.
const MODEL_BASE: u64 = 64 << 20;

/// Bytes of the model for each of the packed file: an index of gaps alone, as all zeros have it,
/// stands for 120 times its size in 32-bit floats.
pub(super) const MODEL_PER_BYTE: usize = 128;

const VERSION: u32 = 1;
const SKELETON: &str = "skeleton";

/// A tensor that was cut out, in its coding.
pub(super) struct Entry {
    pub(super) payload: Payload,
    pub(super) coding: Coding,
    pub(super) index: Vec<u8>,
    pub(super) values: Vec<u8>,
}

/// What the metadata say.
#[derive(Serialize, Deserialize)]
struct Plan {
    version: u32,
    /// Of the model file.
    bytes: u64,
    sha256: String,
    tensors: Vec<Cut>,
}

/// One cut tensor.
#[derive(Serialize, Deserialize)]
struct Cut {
    /// For people; nothing depends on it.
    name: String,
    /// Where its data starts in the model file.
    offset: u64,
    /// The `TensorProto.DataType` number.
    element: i32,
    /// Elements.
    count: u64,
    coding: Coding,
}

fn index_name(place: usize, coding: Coding) -> String {
    let kind = if coding == Coding::Gaps { "gaps" } else { "mask" };
    format!("{place}.{kind}")
}

fn values_name(place: usize) -> String {
    format!("{place}.values")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dtype(element: ElementType) -> Option<Dtype> {
    Some(match element {
        ElementType::F32 => Dtype::F32,
        ElementType::F16 => Dtype::F16,
        ElementType::BF16 => Dtype::BF16,
        ElementType::F64 => Dtype::F64,
        _ => return None,
    })
}

/// The packed file of a model from which `entries` are cut, in file order.
pub(super) fn write(model: &[u8], entries: &[Entry]) -> Result<Vec<u8>> {
    let broken = |error| Error::internal(format!("the packed file cannot be made: {error}"));
    let mut skeleton = Vec::new();
    let mut end = 0;
    for entry in entries {
        skeleton.extend_from_slice(&model[end..entry.payload.range.start]);
        end = entry.payload.range.end;
    }
    skeleton.extend_from_slice(&model[end..]);
    let octets = |bytes| TensorView::new(Dtype::U8, vec![<[u8]>::len(bytes)], bytes);
    let mut parts = vec![(SKELETON.to_owned(), octets(&skeleton).map_err(broken)?)];
    let mut tensors = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        let element = entry.payload.element;
        let (Some(dtype), Some(width)) = (dtype(element), element.size()) else {
            return Err(Error::internal(format!("{element:?} is no float")));
        };
        let values = TensorView::new(dtype, vec![entry.values.len() / width], &entry.values);
        parts.push((values_name(place), values.map_err(broken)?));
        let index = octets(&entry.index).map_err(broken)?;
        parts.push((index_name(place, entry.coding), index));
        tensors.push(Cut {
            name: entry.payload.name.clone(),
            offset: entry.payload.range.start as u64,
            element: element.to_onnx(),
            count: (entry.payload.range.len() / width) as u64,
            coding: entry.coding,
        });
    }
    let plan = Plan { version: VERSION, bytes: model.len() as u64, sha256: sha256(model), tensors };
    let plan = serde_json::to_string(&plan)
        .map_err(|error| Error::internal(format!("the plan cannot be written: {error}")))?;
    // One key only, so that the order of the map does not show.
    let metadata = HashMap::from([(METADATA.to_owned(), plan)]);
    safetensors::serialize(parts, Some(metadata)).map_err(broken)
}

/// The bytes of the model file that was packed.
///
/// # Errors
/// `E0171` when the file is no packed model, is damaged or contradicts itself, and when the model is
/// larger than such a file justifies or than memory. Sizes are checked against the tensors of the
/// model inside before memory is taken.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let damaged = |error| bad(format!("no readable `safetensors` file: {error}"));
    let (length, header) = SafeTensors::read_metadata(packed).map_err(damaged)?;
    let end = length.checked_add(8).and_then(|start| start.checked_add(header.data_len()));
    if end != Some(packed.len()) {
        return Err(bad("its header claims other bytes than it has"));
    }
    let plan = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA));
    let plan = plan.ok_or_else(|| bad(format!("without the metadata `{METADATA}`")))?;
    let plan: Plan =
        serde_json::from_str(plan).map_err(|error| bad(format!("its plan: {error}")))?;
    if plan.version != VERSION {
        return Err(Error::unsupported(format!(
            "the packed file has version {}, this program reads {VERSION}",
            plan.version
        ))
        .code_is("E0171")
        .hint("unpack it with the version that packed it"));
    }
    let parts = SafeTensors::deserialize(packed).map_err(damaged)?;
    if parts.len() != 1 + 2 * plan.tensors.len() {
        return Err(bad("its tensors are not those of its plan"));
    }
    let mut skeleton = part(&parts, SKELETON, Dtype::U8)?;
    check_sizes(&plan, skeleton.len())?;
    check_budget(&plan, packed.len())?;
    check_tensors(&plan, skeleton)?;
    let mut model = Vec::new();
    let bytes = usize::try_from(plan.bytes).unwrap_or(usize::MAX);
    model.try_reserve_exact(bytes).map_err(|_| {
        Error::unsupported(format!("no memory for a model of {bytes} bytes"))
            .code_is("E0171")
            .hint("unpack it where there is more memory")
    })?;
    for (place, cut) in plan.tensors.iter().enumerate() {
        // The sizes were checked: cut ranges are in order and the skeleton fills what is between.
        let between = usize::try_from(cut.offset).unwrap_or(usize::MAX).checked_sub(model.len());
        let (head, rest) = between
            .and_then(|between| skeleton.split_at_checked(between))
            .ok_or_else(|| overlap(&cut.name))?;
        skeleton = rest;
        model.extend_from_slice(head);
        decode(&parts, (place, cut), &mut model)?;
    }
    model.extend_from_slice(skeleton);
    if model.len() as u64 != plan.bytes || sha256(&model) != plan.sha256 {
        return Err(bad("its content is not what was packed"));
    }
    Ok(model)
}

/// Checks that skeleton and cut ranges make up the announced size, before memory is taken for it.
fn check_sizes(plan: &Plan, skeleton: usize) -> Result<()> {
    let mut end = 0_u64;
    let mut sum = skeleton as u64;
    for cut in &plan.tensors {
        let width = width(cut)?.1 as u64;
        let length = cut.count.checked_mul(width);
        let stop = length.and_then(|length| cut.offset.checked_add(length));
        let (Some(length), Some(stop)) = (length, stop) else {
            return Err(bad(format!("the size of `{}` overflows", cut.name)));
        };
        if cut.offset < end || stop > plan.bytes {
            return Err(overlap(&cut.name));
        }
        end = stop;
        // Ranges that do not overlap cannot overflow their sum.
        sum = sum.saturating_add(length);
    }
    if sum != plan.bytes {
        return Err(bad(format!("its parts make {sum} bytes, not {}", plan.bytes)));
    }
    Ok(())
}

/// Checks that the model is not far larger than its packed file justifies.
fn check_budget(plan: &Plan, packed: usize) -> Result<()> {
    let most = (packed as u64).saturating_mul(MODEL_PER_BYTE as u64).saturating_add(MODEL_BASE);
    if plan.bytes > most {
        return Err(bad(format!(
            "its {packed} bytes ask for {}, more than packing saves",
            plan.bytes
        )));
    }
    Ok(())
}

/// Checks that the cuts are the data of float tensors of the model, as long as their shapes say.
fn check_tensors(plan: &Plan, skeleton: &[u8]) -> Result<()> {
    let mut cuts = Vec::with_capacity(plan.tensors.len());
    for cut in &plan.tensors {
        let length = cut.count.saturating_mul(width(cut)?.1 as u64);
        let start = usize::try_from(cut.offset).ok();
        let end = usize::try_from(cut.offset.saturating_add(length)).ok();
        let (Some(start), Some(end)) = (start, end) else { return Err(overlap(&cut.name)) };
        cuts.push(start..end);
    }
    let tensors = payloads_without(skeleton, &cuts)
        .map_err(|error| bad(format!("the model inside: {}", error.message())))?;
    let mut tensors = tensors.into_iter();
    for (cut, range) in plan.tensors.iter().zip(cuts) {
        // Both are in file order.
        let element = ElementType::from_onnx(cut.element);
        if !tensors.any(|tensor| tensor.range == range && tensor.element == element) {
            return Err(bad(format!(
                "`{}` is not {} elements {element:?} in the model inside",
                cut.name, cut.count
            )));
        }
    }
    Ok(())
}

fn width(cut: &Cut) -> Result<(Dtype, usize)> {
    let element = ElementType::from_onnx(cut.element);
    let known = dtype(element).zip(element.size());
    known.ok_or_else(|| bad(format!("`{}` has elements {element:?}", cut.name)))
}

/// Appends the elements of a cut to the model, which has the room.
fn decode(parts: &SafeTensors, (place, cut): (usize, &Cut), model: &mut Vec<u8>) -> Result<()> {
    let (dtype, width) = width(cut)?;
    let values = part(parts, &values_name(place), dtype)?;
    let index = part(parts, &index_name(place, cut.coding), Dtype::U8)?;
    let start = model.len();
    let length = usize::try_from(cut.count).ok().and_then(|count| count.checked_mul(width));
    let stop = length.and_then(|length| start.checked_add(length));
    model.resize(stop.ok_or_else(|| overlap(&cut.name))?, 0);
    let dense = &mut model[start..];
    let done = match cut.coding {
        Coding::Mask => mask::decode(index, values, dense, width),
        Coding::Gaps => relative::decode(index, values, dense, width),
        Coding::Dense => return Err(bad(format!("`{}` is dense and cut out", cut.name))),
    };
    done.ok_or_else(|| bad(format!("index and values of `{}` do not fit", cut.name)))
}

fn part<'a>(parts: &SafeTensors<'a>, name: &str, dtype: Dtype) -> Result<&'a [u8]> {
    let view = parts.tensor(name).map_err(|_| bad(format!("without the tensor `{name}`")))?;
    if view.dtype() != dtype {
        return Err(bad(format!("`{name}` has elements {:?}, not {dtype:?}", view.dtype())));
    }
    Ok(view.data())
}

fn overlap(name: &str) -> Error {
    bad(format!("the range of `{name}` is outside the model or overlaps another"))
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("not a packed model: {what}"))
        .code_is("E0171")
        .hint("the file is cut off, damaged, or was not made by `kerf pack`")
}
