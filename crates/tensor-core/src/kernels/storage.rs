//! Access to the elements of candle tensors.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The elements of a contiguous `f32` operand.
///
/// # Errors
/// When it has another type or is not contiguous.
pub(super) fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        (CpuStorage::F32(_), None) => bail!("the operand is not contiguous"),
        _ => bail!("the operand is not of 32-bit floats"),
    }
}

/// Calls `read` with the elements of a contiguous `f32` tensor on the CPU.
///
/// # Errors
/// As [`elements`], and when the tensor is on another device.
pub(super) fn with_elements<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(read(elements(storage, layout)?)),
        _ => bail!("the operand is not on the CPU"),
    }
}

/// Calls `read` with the elements of several tensors.
///
/// # Errors
/// As [`with_elements`].
pub(super) fn with_all<const N: usize, T>(
    tensors: [&Tensor; N],
    read: impl FnOnce([&[f32]; N]) -> T,
) -> Result<T> {
    let storages = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&storages) {
        *slice = match &**storage {
            Storage::Cpu(storage) => elements(storage, layout)?,
            _ => bail!("the operand is not on the CPU"),
        };
    }
    Ok(read(slices))
}

/// An error of this crate as candle's.
pub(super) fn candle_error(error: crate::Error) -> candle_core::Error {
    candle_core::Error::Msg(error.to_string())
}
