//! What shape rules and evaluation have in common: dimensions, integers, axes and checked sizes.

use crate::run::{Array, Fact};
use crate::{Constant, ElementType, Error, Result};
use candle_core::{DType, Tensor};

/// An input seen by a shape rule: a fact before the run, an array during it.
pub(super) trait Operand {
    /// Dimensions.
    fn dims(&self) -> &[usize];
    /// Element type.
    fn element(&self) -> ElementType;
    /// The elements as integers, where they are known.
    fn integers(&self) -> Result<Vec<i64>>;
    /// The elements as floats, where they are known.
    fn floats(&self) -> Result<Vec<f32>>;
}

impl Operand for Fact {
    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn element(&self) -> ElementType {
        self.element
    }

    fn integers(&self) -> Result<Vec<i64>> {
        Fact::integers(self)
    }

    fn floats(&self) -> Result<Vec<f32>> {
        match &self.value {
            Some(array) => array.to_f32s(),
            None => Err(Error::unsupported("sizes that depend on the data")),
        }
    }
}

impl Operand for Array {
    fn dims(&self) -> &[usize] {
        Array::dims(self)
    }

    fn element(&self) -> ElementType {
        self.element
    }

    fn integers(&self) -> Result<Vec<i64>> {
        self.to_i64s()
    }

    fn floats(&self) -> Result<Vec<f32>> {
        self.to_f32s()
    }
}

/// Largest number of elements an operator makes, against sizes that lie.
const MAX_COUNT: usize = 1 << 30;

/// Number of elements of an output, checked before it is allocated. No axis may be longer than the
/// largest output either, even where another one is empty.
pub(super) fn count(dims: &[usize]) -> Result<usize> {
    dims.iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
        .filter(|&count| count.max(dims.iter().copied().max().unwrap_or(0)) <= MAX_COUNT)
        .ok_or_else(|| Error::invalid(format!("output shape {dims:?} is too large")))
}

/// A dimension from a stated size.
pub(super) fn size(value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::invalid(format!("size {value} is negative")))
}

/// An axis counted from the front; negative ones count from the back.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize> {
    let from_front = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    from_front
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|&axis| axis < rank)
        .ok_or_else(|| Error::invalid(format!("axis {axis} of a tensor of rank {rank}")))
}

/// Axes counted from the front, in the given order; repeated ones are refused.
pub(super) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut axes = Vec::with_capacity(list.len().min(rank));
    for &given in list {
        let axis = axis(given, rank)?;
        if axes.contains(&axis) {
            return Err(Error::invalid(format!("axis {given} is given twice")));
        }
        axes.push(axis);
    }
    Ok(axes)
}

/// A size constant in the element type of the one that it replaces.
pub(super) fn size_constant(element: ElementType, values: &[i64]) -> Result<Constant> {
    if element != ElementType::I32 {
        return Constant::from_i64s(&[values.len()], values);
    }
    let mut bytes = Vec::with_capacity(values.len() * 4);
    for &value in values {
        let value = i32::try_from(value)
            .map_err(|_| Error::invalid(format!("size {value} does not fit 32 bits")))?;
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    Constant::from_bytes(element, vec![values.len()], bytes)
}

/// A result in the element type that was asked for: halves are rounded to what they can hold.
pub(super) fn finish(tensor: Tensor, element: ElementType) -> Result<Array> {
    let narrow = match element {
        ElementType::F16 => Some(DType::F16),
        ElementType::BF16 => Some(DType::BF16),
        _ => None,
    };
    let tensor = match narrow {
        Some(narrow) => tensor.to_dtype(narrow)?.to_dtype(DType::F32)?,
        None => tensor,
    };
    Array::new(tensor, element)
}

/// An integer reduced to what its type holds, by two's complement.
pub(super) fn wrap(element: ElementType, value: i64) -> i64 {
    match element {
        ElementType::I4 => i64::from((value << 4) as i8 >> 4),
        ElementType::U4 => value & 0xF,
        ElementType::I8 => i64::from(value as i8),
        ElementType::I16 => i64::from(value as i16),
        ElementType::I32 => i64::from(value as i32),
        ElementType::U8 => i64::from(value as u8),
        ElementType::U16 => i64::from(value as u16),
        ElementType::U32 => i64::from(value as u32),
        ElementType::Bool => i64::from(value != 0),
        _ => value,
    }
}
