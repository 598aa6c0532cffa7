//! The typed repeated fields of a `TensorProto`, which hold elements as protobuf numbers.

use super::proto::TensorProto;
use crate::graph::Constant;
use crate::{ElementType, Result};

/// Number of entries in the typed field that elements of type `code` belong in, and in all others.
pub(super) fn lengths(proto: &TensorProto, code: i32) -> (usize, usize) {
    let fields = [
        (proto.float_data.len(), matches!(code, 1 | 14)),
        (proto.int32_data.len(), matches!(code, 2..=6 | 9 | 10 | 16..=28)),
        (proto.string_data.len(), code == 8),
        (proto.int64_data.len(), code == 7),
        (proto.double_data.len(), matches!(code, 11 | 15)),
        (proto.uint64_data.len(), matches!(code, 12 | 13)),
    ];
    fields.iter().fold((0, 0), |(own, others), &(length, is_own)| match is_own {
        true => (own + length, others),
        false => (own, others + length),
    })
}

/// Entries of the typed field for `count` elements of type `code`; `None` on overflow.
pub(super) fn entries(code: i32, count: usize) -> Option<usize> {
    match code {
        14 | 15 => count.checked_mul(2),
        21..=23 => Some(count.div_ceil(2)),
        25 | 26 => Some(count.div_ceil(4)),
        _ => Some(count),
    }
}

/// Moves the typed elements out as little-endian bytes; `None` when a number does not fit the type.
pub(super) fn take(proto: &mut TensorProto, element: ElementType) -> Option<Vec<u8>> {
    let ints = std::mem::take(&mut proto.int32_data);
    match element {
        ElementType::F32 => pack(&std::mem::take(&mut proto.float_data), |v| Some(v.to_le_bytes())),
        ElementType::F64 => {
            pack(&std::mem::take(&mut proto.double_data), |v| Some(v.to_le_bytes()))
        }
        ElementType::I64 => pack(&std::mem::take(&mut proto.int64_data), |v| Some(v.to_le_bytes())),
        ElementType::U64 => {
            pack(&std::mem::take(&mut proto.uint64_data), |v| Some(v.to_le_bytes()))
        }
        ElementType::U32 => pack(&std::mem::take(&mut proto.uint64_data), |v| {
            Some(u32::try_from(v).ok()?.to_le_bytes())
        }),
        ElementType::I32 => pack(&ints, |v| Some(v.to_le_bytes())),
        ElementType::Bool => pack(&ints, |v| Some([u8::try_from(v).ok().filter(|&b| b < 2)?])),
        // Writers disagree on whether to extend the sign of narrow types.
        // Of 4-bit elements each number is a byte that holds two.
        ElementType::I8 | ElementType::U8 | ElementType::I4 | ElementType::U4 => {
            pack(&ints, |v| (-0x80..=0xff).contains(&v).then_some([v as u8]))
        }
        ElementType::I16 | ElementType::U16 | ElementType::F16 | ElementType::BF16 => {
            pack(&ints, |v| (-0x8000..=0xffff).contains(&v).then(|| (v as u16).to_le_bytes()))
        }
        ElementType::Other(_) => None,
    }
}

/// Stores the elements of a constant in the typed field of their type.
pub(super) fn put(proto: &mut TensorProto, constant: &Constant) -> Result<()> {
    match constant.element() {
        ElementType::F32 => proto.float_data = constant.to_f32s()?,
        ElementType::F64 => proto.double_data = constant.to_f64s()?,
        ElementType::I64 => proto.int64_data = constant.to_i64s()?,
        ElementType::U32 | ElementType::U64 => {
            proto.uint64_data = constant.to_i64s()?.into_iter().map(|v| v as u64).collect();
        }
        ElementType::F16 | ElementType::BF16 => {
            let bits = constant.bytes().as_chunks().0.iter().map(|&b| u16::from_le_bytes(b));
            proto.int32_data = bits.map(i32::from).collect();
        }
        ElementType::I4 | ElementType::U4 => {
            proto.int32_data = constant.bytes().iter().map(|&byte| i32::from(byte)).collect();
        }
        _ => proto.int32_data = constant.to_i64s()?.into_iter().map(|v| v as i32).collect(),
    }
    Ok(())
}

fn pack<T: Copy, const N: usize>(
    values: &[T],
    bytes_of: impl Fn(T) -> Option<[u8; N]>,
) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(values.len() * N);
    for &value in values {
        bytes.extend_from_slice(&bytes_of(value)?);
    }
    Some(bytes)
}
