//! Plain loops over contiguous elements, split over threads when that pays.

use candle_core::{CpuStorage, Layout, Storage, Tensor, WithDType};
use rayon::prelude::*;

/// Elements per task; a smaller output is computed by the calling thread.
const CHUNK: usize = 1 << 15;

/// Fills `out` in chunks: `fill` gets the position of its chunk and the chunk.
pub(super) fn fill<T: Send>(out: &mut [T], fill: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() < 2 * CHUNK {
        fill(0, out);
    } else {
        out.par_chunks_mut(CHUNK).enumerate().for_each(|(i, chunk)| fill(i * CHUNK, chunk));
    }
}

/// Fills `out` row by row: `fill` gets the row number and the row of `length` elements.
pub(super) fn fill_rows<T: Send>(
    out: &mut [T],
    length: usize,
    work_per_row: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    if length == 0 || out.is_empty() {
        return;
    }
    let rows = out.len() / length;
    let per_task = (CHUNK / work_per_row.max(1)).max(1);
    if rows <= per_task {
        out.chunks_mut(length).enumerate().for_each(|(row, chunk)| fill(row, chunk));
        return;
    }
    out.par_chunks_mut(length * per_task).enumerate().for_each(|(task, rows)| {
        for (i, row) in rows.chunks_mut(length).enumerate() {
            fill(task * per_task + i, row);
        }
    });
}

/// The elements of a custom operator's argument, which must be contiguous.
pub(super) fn slice<'a, T: WithDType>(
    storage: &'a CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a [T]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(candle_core::Error::RequiresContiguous { op: "elementwise" })?;
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// Hands the elements of a tensor on the CPU to `read`.
pub(super) fn with_slice<T: WithDType, R>(
    tensor: &Tensor,
    read: impl FnOnce(&[T]) -> R,
) -> candle_core::Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(read(slice(storage, layout)?)),
        _ => candle_core::bail!("this operator runs on the CPU only"),
    }
}
