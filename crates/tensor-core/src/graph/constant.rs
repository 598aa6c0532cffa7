//! Constant tensors.

use super::Opaque;
use crate::{ElementType, Error, Result};
use std::sync::Arc;

/// How a constant was stored in its file, so that it is written back the same way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `raw_data`.
    #[default]
    Raw,
    /// The typed repeated field (`float_data`, `int64_data`, ...).
    Typed,
    /// A file beside the model.
    External,
}

/// A constant tensor: little-endian bytes, row-major.
///
/// Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    element: ElementType,
    dims: Vec<usize>,
    bytes: Arc<Vec<u8>>,
    /// How it was stored.
    pub encoding: Encoding,
    /// What remains of the `TensorProto`.
    pub opaque: Opaque,
}

impl Constant {
    /// From little-endian bytes.
    ///
    /// # Errors
    /// When the byte count does not match the dimensions.
    pub fn from_bytes(element: ElementType, dims: Vec<usize>, bytes: Vec<u8>) -> Result<Self> {
        Self::from_shared(element, dims, Arc::new(bytes))
    }

    /// From little-endian bytes that other constants may share.
    ///
    /// # Errors
    /// When the byte count does not match the dimensions.
    pub fn from_shared(
        element: ElementType,
        dims: Vec<usize>,
        bytes: Arc<Vec<u8>>,
    ) -> Result<Self> {
        let count = checked_count(&dims)?;
        let is_understood = !matches!(element, ElementType::Other(_));
        if is_understood && element.bytes(count) != Some(bytes.len()) {
            return Err(Error::invalid(format!(
                "tensor of shape {dims:?} and type {element:?} has {} bytes",
                bytes.len()
            )));
        }
        Ok(Self { element, dims, bytes, encoding: Encoding::Raw, opaque: Opaque::default() })
    }

    /// A float tensor.
    ///
    /// # Errors
    /// When the number of values does not match the dimensions.
    pub fn from_f32s(dims: &[usize], values: &[f32]) -> Result<Self> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::from_bytes(ElementType::F32, dims.to_vec(), bytes)
    }

    /// An integer tensor.
    ///
    /// # Errors
    /// When the number of values does not match the dimensions.
    pub fn from_i64s(dims: &[usize], values: &[i64]) -> Result<Self> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::from_bytes(ElementType::I64, dims.to_vec(), bytes)
    }

    /// An integer tensor of any integer type; 4-bit elements are packed, the even ones in the low
    /// half of each byte.
    ///
    /// # Errors
    /// When the type is no integer, a value is outside of its range, or the number of values does
    /// not match the dimensions.
    pub fn from_integers(element: ElementType, dims: &[usize], values: &[i64]) -> Result<Self> {
        let Some((low, high)) = element.integer_range() else {
            return Err(Error::invalid(format!("integers as elements of type {element:?}")));
        };
        if let Some(value) = values.iter().find(|value| !(low..=high).contains(value)) {
            return Err(Error::invalid(format!("{value} is outside of the range of {element:?}")));
        }
        if values.len() != checked_count(dims)? {
            return Err(Error::invalid(format!("{} values for shape {dims:?}", values.len())));
        }
        let bytes = match element.size() {
            Some(size) => {
                values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(size)).collect()
            }
            None => values.chunks(2).map(packed_pair).collect(),
        };
        Self::from_bytes(element, dims.to_vec(), bytes)
    }

    /// Element type.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same bytes, shared.
    pub fn shared_bytes(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.bytes)
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// All elements as `f32`; integers convert.
    ///
    /// # Errors
    /// When the element type is not understood.
    pub fn to_f32s(&self) -> Result<Vec<f32>> {
        if self.element == ElementType::F32 {
            return Ok(self.chunks(f32::from_le_bytes));
        }
        // Halves and integers up to 24 bits are exact in f64, and so is the way back to f32.
        Ok(self.to_f64s()?.into_iter().map(|value| value as f32).collect())
    }

    /// All elements as `f64`; integers convert.
    ///
    /// # Errors
    /// When the element type is not understood.
    pub fn to_f64s(&self) -> Result<Vec<f64>> {
        Ok(match self.element {
            ElementType::F32 => self.chunks(|b| f64::from(f32::from_le_bytes(b))),
            ElementType::F64 => self.chunks(f64::from_le_bytes),
            ElementType::F16 => self.chunks(|b| f64::from(half::f16::from_le_bytes(b))),
            ElementType::BF16 => self.chunks(|b| f64::from(half::bf16::from_le_bytes(b))),
            _ => self.to_i64s()?.into_iter().map(|value| value as f64).collect(),
        })
    }

    /// All elements as `i64`; floats are refused.
    ///
    /// # Errors
    /// When the element type is not an integer or boolean.
    pub fn to_i64s(&self) -> Result<Vec<i64>> {
        Ok(match self.element {
            // The shifts extend the sign.
            ElementType::I4 => self.halves(|half| i64::from((half << 4) as i8 >> 4)),
            ElementType::U4 => self.halves(i64::from),
            ElementType::I8 => self.chunks(|b| i64::from(i8::from_le_bytes(b))),
            ElementType::U8 | ElementType::Bool => self.chunks(|b| i64::from(u8::from_le_bytes(b))),
            ElementType::I16 => self.chunks(|b| i64::from(i16::from_le_bytes(b))),
            ElementType::U16 => self.chunks(|b| i64::from(u16::from_le_bytes(b))),
            ElementType::I32 => self.chunks(|b| i64::from(i32::from_le_bytes(b))),
            ElementType::U32 => self.chunks(|b| i64::from(u32::from_le_bytes(b))),
            ElementType::I64 => self.chunks(i64::from_le_bytes),
            ElementType::U64 => self.chunks(|b| u64::from_le_bytes(b) as i64),
            other => {
                return Err(Error::unsupported(format!("elements of type {other:?} as integers")));
            }
        })
    }

    /// The slices `keep` along `axis`, in that order; the type and encoding stay.
    ///
    /// # Errors
    /// When the axis or an index is out of range, or elements are not whole bytes.
    pub fn select(&self, axis: usize, keep: &[usize]) -> Result<Self> {
        let size = self.element.size().ok_or_else(|| {
            Error::unsupported(format!("slicing a tensor of type {:?}", self.element))
        })?;
        let &length = self.dims.get(axis).ok_or_else(|| {
            Error::invalid(format!("axis {axis} of a tensor of shape {:?}", self.dims))
        })?;
        if let Some(bad) = keep.iter().find(|&&index| index >= length) {
            return Err(Error::invalid(format!("index {bad} on an axis of length {length}")));
        }
        let inner: usize = self.dims[axis + 1..].iter().product::<usize>() * size;
        let outer: usize = self.dims[..axis].iter().product();
        let mut bytes = Vec::with_capacity(outer * keep.len() * inner);
        for o in 0..outer {
            for &index in keep {
                let start = (o * length + index) * inner;
                bytes.extend_from_slice(&self.bytes[start..start + inner]);
            }
        }
        let mut dims = self.dims.clone();
        dims[axis] = keep.len();
        Ok(Self { dims, bytes: Arc::new(bytes), ..self.clone() })
    }

    /// Elements of which two share a byte; the last byte may hold one.
    fn halves(&self, read: impl Fn(u8) -> i64) -> Vec<i64> {
        let halves = self.bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        halves.take(self.count()).map(read).collect()
    }

    fn chunks<const N: usize, T>(&self, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.bytes.as_chunks::<N>().0.iter().map(|&chunk| read(chunk)).collect()
    }
}

/// One or two 4-bit integers in a byte.
fn packed_pair(pair: &[i64]) -> u8 {
    pair.iter().enumerate().fold(0, |byte, (i, &value)| byte | ((value as u8 & 15) << (4 * i)))
}

/// Product of dimensions that refuses to overflow, even where another dimension is zero: strides
/// are partial products.
fn checked_count(dims: &[usize]) -> Result<usize> {
    dims.iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim.max(1)))
        .map(|_| dims.iter().product())
        .ok_or_else(|| Error::invalid(format!("shape {dims:?} is too large")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn four_bits_are_packed_low_half_first_and_padded() {
        let values = [-8, 7, -1, 0, 3];
        let constant = Constant::from_integers(ElementType::I4, &[5], &values).unwrap();
        assert_eq!(constant.bytes(), [0x78, 0x0f, 0x03]);
        assert_eq!(constant.to_i64s().unwrap(), values);
        let unsigned = Constant::from_integers(ElementType::U4, &[3], &[15, 1, 9]).unwrap();
        assert_eq!(unsigned.bytes(), [0x1f, 0x09]);
        assert_eq!(unsigned.to_i64s().unwrap(), [15, 1, 9]);
        assert!(Constant::from_integers(ElementType::I4, &[1], &[8]).is_err());
        assert!(Constant::from_integers(ElementType::I4, &[2], &[1]).is_err());
        assert!(Constant::from_bytes(ElementType::U4, vec![3], vec![0]).is_err());
    }
}
