//! Feature maps of two networks at one resolution.

use crate::log_softmax::widen;
use candle_core::{Device, Result, Tensor, bail};

/// Both maps `(samples, channels, height, width)`, averaged down to the smaller height and width.
/// The windows are those of PyTorch's `adaptive_avg_pool2d`.
pub(crate) fn to_common_size(
    op: &'static str,
    student: &Tensor,
    teacher: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let ([n, _, h, w], [n2, _, h2, w2]) = (maps(op, student)?, maps(op, teacher)?);
    if n != n2 {
        bail!("{op}: {n} samples of the student, {n2} of the teacher")
    }
    let (height, width) = (h.min(h2), w.min(w2));
    let teacher = shrink(&widen(&teacher.detach())?, height, width)?;
    Ok((shrink(&widen(student)?, height, width)?, teacher))
}

fn maps(op: &'static str, features: &Tensor) -> Result<[usize; 4]> {
    match *features.dims() {
        [n, c, h, w] if n * c * h * w > 0 => Ok([n, c, h, w]),
        _ => bail!(
            "{op}: features must have shape (samples, channels, height, width), none of them 0, \
             but have {:?}",
            features.dims()
        ),
    }
}

/// Averages as two matrix products, which have gradients for every ratio of sizes.
fn shrink(features: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (n, c, h, w) = features.dims4()?;
    if (h, w) == (height, width) {
        return Ok(features.clone());
    }
    let (dtype, device) = (features.dtype(), features.device());
    let across = windows(w, width, device)?.to_dtype(dtype)?;
    let down = windows(h, height, device)?.to_dtype(dtype)?;
    let narrow = features.reshape((n * c * h, w))?.matmul(&across.t()?)?;
    let columns = narrow.reshape((n * c, h, width))?.transpose(1, 2)?.contiguous()?;
    let small = columns.reshape((n * c * width, h))?.matmul(&down.t()?)?;
    small.reshape((n * c, width, height))?.transpose(1, 2)?.reshape((n, c, height, width))
}

/// The `(to, from)` matrix that averages over `floor(i from / to) .. ceil((i + 1) from / to)`.
fn windows(from: usize, to: usize, device: &Device) -> Result<Tensor> {
    let mut matrix = vec![0_f64; from * to];
    for (i, row) in matrix.chunks_mut(from).enumerate() {
        let (start, end) = (i * from / to, ((i + 1) * from).div_ceil(to));
        row[start..end].fill(1.0 / (end - start) as f64);
    }
    Tensor::from_vec(matrix, (to, from), device)
}
