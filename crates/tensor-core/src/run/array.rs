//! Run-time values.

use crate::{Constant, ElementType, Error, Result};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use std::ops::{Deref, Range};

/// A run-time value: a candle tensor and the ONNX element type it stands for.
///
/// candle lacks some of ONNX's types, so integers and booleans are carried as `i64` and halves as
/// `f32` (see [`ElementType::storage`]).
#[derive(Debug, Clone)]
pub struct Array {
    /// The elements, in the storage type of `element`.
    pub tensor: Tensor,
    /// What ONNX calls the type.
    pub element: ElementType,
}

impl Array {
    /// A float array from an `f32` tensor.
    pub fn float(tensor: Tensor) -> Self {
        Self { tensor, element: ElementType::F32 }
    }

    /// An array of any type from a tensor in the storage type.
    ///
    /// # Errors
    /// When the tensor is not in the storage type of `element`.
    pub fn new(tensor: Tensor, element: ElementType) -> Result<Self> {
        match element.storage() {
            Some(storage) if storage == tensor.dtype() => Ok(Self { tensor, element }),
            _ => Err(Error::internal(format!("{element:?} stored as {:?}", tensor.dtype()))),
        }
    }

    /// An `i64` array.
    ///
    /// # Errors
    /// When the number of values does not match the dimensions.
    pub fn from_i64s(dims: &[usize], values: Vec<i64>) -> Result<Self> {
        Ok(Self {
            tensor: Tensor::from_vec(values, dims, &Device::Cpu)?,
            element: ElementType::I64,
        })
    }

    /// From a constant.
    ///
    /// # Errors
    /// When the element type is not understood.
    pub fn from_constant(constant: &Constant) -> Result<Self> {
        let element = constant.element();
        let (dims, device) = (constant.dims(), &Device::Cpu);
        let tensor = match element.storage() {
            Some(DType::F32) => Tensor::from_vec(constant.to_f32s()?, dims, device)?,
            Some(DType::F64) => Tensor::from_vec(constant.to_f64s()?, dims, device)?,
            Some(_) => Tensor::from_vec(constant.to_i64s()?, dims, device)?,
            None => return Err(Error::unsupported(format!("computing with elements {element:?}"))),
        };
        Ok(Self { tensor, element })
    }

    /// As a constant.
    ///
    /// # Errors
    /// When an integer does not fit the element type.
    pub fn to_constant(&self) -> Result<Constant> {
        let dims = self.dims().to_vec();
        let flat = self.tensor.flatten_all()?;
        let bytes = match self.element {
            ElementType::F32 => {
                flat.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect()
            }
            ElementType::F64 => {
                flat.to_vec1::<f64>()?.iter().flat_map(|x| x.to_le_bytes()).collect()
            }
            ElementType::F16 => flat
                .to_vec1::<f32>()?
                .iter()
                .flat_map(|&x| half::f16::from_f32(x).to_le_bytes())
                .collect(),
            ElementType::BF16 => flat
                .to_vec1::<f32>()?
                .iter()
                .flat_map(|&x| half::bf16::from_f32(x).to_le_bytes())
                .collect(),
            _ => {
                let values = flat.to_vec1::<i64>()?;
                let Some(size) = self.element.size() else {
                    return Constant::from_integers(self.element, &dims, &values);
                };
                values.iter().flat_map(|x| x.to_le_bytes().into_iter().take(size)).collect()
            }
        };
        Constant::from_bytes(self.element, dims, bytes)
    }

    /// Dimensions.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// All elements as `i64`; floats are refused.
    ///
    /// # Errors
    /// When the elements are floats.
    pub fn to_i64s(&self) -> Result<Vec<i64>> {
        if self.tensor.dtype() != DType::I64 {
            return Err(Error::invalid(format!("expected integers, got {:?}", self.element)));
        }
        Ok(self.tensor.flatten_all()?.to_vec1()?)
    }

    /// All elements as `f32`, in place where they are that already.
    ///
    /// # Errors
    /// As [`to_f32s`](Self::to_f32s).
    pub fn f32s(&self) -> Result<Floats<'_>> {
        let (storage, layout) = self.tensor.storage_and_layout();
        if let (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) =
            (&*storage, layout.contiguous_offsets())
        {
            return Ok(Box::new(InPlace { storage, range: start..end }));
        }
        drop(storage);
        Ok(Box::new(self.to_f32s()?))
    }

    /// All elements as `f32`, whatever the type.
    ///
    /// # Errors
    /// When candle cannot convert.
    pub fn to_f32s(&self) -> Result<Vec<f32>> {
        Ok(self.tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
    }
}

/// The elements of an [`Array`], borrowed where that is possible.
pub type Floats<'a> = Box<dyn Deref<Target = [f32]> + 'a>;

/// A range of a tensor's storage, which is locked meanwhile.
struct InPlace<G> {
    storage: G,
    range: Range<usize>,
}

impl<G: Deref<Target = Storage>> Deref for InPlace<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            // `f32s` takes nothing else.
            _ => &[],
        }
    }
}
