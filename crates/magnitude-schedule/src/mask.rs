//! Which weights stay.

use crate::candidates::Candidates;
use crate::{Layout, Pattern};
use candle_core::{DType, Device, Tensor};
use tensor_core::{Error, Result};

/// Which weights of a tensor stay: one bit per weight.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use magnitude_schedule::{Mask, Pattern};
///
/// let weight = Tensor::new(&[[4_f32, -1., 3., 2.], [0.5, 0.5, 0.5, -9.]], &Device::Cpu)?;
/// let mask = Mask::magnitude(&weight, 0.5, Pattern::NM(2, 4))?;
/// let sparse = mask.apply(&weight)?.to_vec2::<f32>()?;
/// // Of equal weights the first stays.
/// assert_eq!(sparse, [[4., 0., 3., 0.], [0.5, 0., 0., -9.]]);
/// assert_eq!(mask.sparsity(), 0.5);
/// # Ok::<(), tensor_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    dims: Vec<usize>,
    keep: Vec<bool>,
}

impl Mask {
    /// Masks the smallest weights of a candle weight, `[outputs, inputs, kernel...]`.
    ///
    /// With `count` weights, `round(sparsity * count)` are masked, exactly for
    /// [`Pattern::Unstructured`]; for [`Pattern::NM`] at most what the pattern allows (a lower
    /// sparsity takes the smallest of these), for blocks as near as whole blocks come, ranked by
    /// their mean. Of equal weights the lower index is kept.
    ///
    /// # Errors
    /// `E0430` when the sparsity is not in `[0, 1)`, `E0431` when the pattern is wrong or cannot have
    /// it, `E0432` for fewer than two axes, `E0433` when a weight is NaN or infinite.
    pub fn magnitude(weight: &Tensor, sparsity: f64, pattern: Pattern) -> Result<Self> {
        Self::magnitude_in(weight, Layout::OutputsFirst, sparsity, pattern)
    }

    /// The same for a weight of another layout.
    ///
    /// # Errors
    /// As [`magnitude`](Self::magnitude).
    pub fn magnitude_in(
        weight: &Tensor,
        layout: Layout,
        sparsity: f64,
        pattern: Pattern,
    ) -> Result<Self> {
        pattern.check()?.check_sparsity(sparsity)?;
        let candidates = candidates(weight, layout, pattern, None)?;
        let count = (sparsity * weight.elem_count() as f64).round() as usize;
        Ok(Self { dims: weight.dims().to_vec(), keep: candidates.without(count) })
    }

    /// A mask from what stays, row-major.
    ///
    /// # Errors
    /// When there is not one entry per weight.
    pub fn new(dims: &[usize], keep: Vec<bool>) -> Result<Self> {
        if dims.iter().product::<usize>() != keep.len() {
            return Err(Error::invalid(format!("{} entries for shape {dims:?}", keep.len())));
        }
        Ok(Self { dims: dims.to_vec(), keep })
    }

    /// A mask under which everything stays.
    pub fn full(dims: &[usize]) -> Self {
        Self { dims: dims.to_vec(), keep: vec![true; dims.iter().product()] }
    }

    /// What is not exactly zero stays.
    ///
    /// # Errors
    /// When candle fails.
    pub fn of_nonzeros(weight: &Tensor) -> Result<Self> {
        let keep = values(weight)?.into_iter().map(|v| v != 0.0).collect();
        Ok(Self { dims: weight.dims().to_vec(), keep })
    }

    /// What stays, row-major.
    pub fn keep(&self) -> &[bool] {
        &self.keep
    }

    /// Shape of the weight.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of masked weights.
    pub fn zeros(&self) -> usize {
        self.keep.iter().filter(|&&keep| !keep).count()
    }

    /// The share that is masked; 0 of an empty tensor.
    pub fn sparsity(&self) -> f64 {
        self.zeros() as f64 / self.keep.len().max(1) as f64
    }

    /// The mask as zeros and ones of a type.
    ///
    /// # Errors
    /// When candle fails.
    pub fn tensor(&self, dtype: DType) -> Result<Tensor> {
        let ones: Vec<u8> = self.keep.iter().map(|&keep| u8::from(keep)).collect();
        Ok(Tensor::from_vec(ones, self.dims.as_slice(), &Device::Cpu)?.to_dtype(dtype)?)
    }

    /// The weights with zeros where they are masked, `+0` also for NaN.
    ///
    /// # Errors
    /// When the shape differs.
    pub fn apply(&self, weight: &Tensor) -> Result<Tensor> {
        self.check_dims(weight.dims())?;
        let mask = self.tensor(DType::U8)?.to_device(weight.device())?;
        Ok(mask.where_cond(weight, &weight.zeros_like()?)?)
    }

    /// Keeps what both masks keep.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn and(&self, other: &Self) -> Result<Self> {
        self.check_dims(&other.dims)?;
        let keep = self.keep.iter().zip(&other.keep).map(|(a, b)| *a && *b).collect();
        Ok(Self { dims: self.dims.clone(), keep })
    }

    fn check_dims(&self, dims: &[usize]) -> Result<()> {
        match self.dims == dims {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "a mask of shape {:?} for a weight of shape {dims:?}",
                self.dims
            ))),
        }
    }
}

/// What may go of a weight, the smallest magnitudes first.
pub(crate) fn candidates(
    weight: &Tensor,
    layout: Layout,
    pattern: Pattern,
    masked: Option<&Mask>,
) -> Result<Candidates> {
    let grid = layout.grid(weight.dims())?;
    let scores: Vec<f32> = values(weight)?.into_iter().map(f32::abs).collect();
    Candidates::new(&scores, grid, pattern, masked.map(Mask::keep))
}

/// The elements of a tensor, row-major.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
