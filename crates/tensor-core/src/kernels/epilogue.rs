//! What follows a convolution while its output is still in cache.

use candle_core::Tensor;
use std::sync::Arc;

/// Operations fused behind a convolution, in this order.
#[derive(Debug, Clone, Default)]
pub struct Epilogue {
    /// Factor and shift of each output channel, after the bias: a batch normalization.
    pub scale: Option<Arc<(Vec<f32>, Vec<f32>)>>,
    /// Added element by element; of the output's shape.
    pub residual: Option<Tensor>,
    /// Smallest and largest value: a rectifier or a clip.
    pub clamp: Option<(f32, f32)>,
}

/// An [`Epilogue`] with the bias, on slices.
#[derive(Clone, Copy, Default)]
pub(super) struct Finish<'a> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) scale: Option<&'a (Vec<f32>, Vec<f32>)>,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) clamp: Option<(f32, f32)>,
}

impl Finish<'_> {
    /// Factor and shift of a channel, bias included.
    #[inline(always)]
    fn affine(&self, channel: usize) -> (f32, f32) {
        let bias = self.bias.map_or(0.0, |bias| bias[channel]);
        match self.scale {
            Some((factors, shifts)) => {
                (factors[channel], bias * factors[channel] + shifts[channel])
            }
            None => (1.0, bias),
        }
    }

    /// Writes finished sums of one channel to `out`, which starts at element `start` of the
    /// output.
    ///
    /// # Safety
    /// `out` must be valid for `sums.len()` writes, the residual as long as the whole output.
    #[inline(always)]
    pub(super) unsafe fn write(&self, channel: usize, sums: &[f32], out: *mut f32, start: usize) {
        let (factor, shift) = self.affine(channel);
        // SAFETY: the caller vouches for `out`; the memory may be uninitialized, so it is only
        // written.
        unsafe {
            match (self.residual, self.clamp) {
                (None, None) => {
                    for (i, sum) in sums.iter().enumerate() {
                        *out.add(i) = sum * factor + shift;
                    }
                }
                (None, Some((low, high))) => {
                    for (i, sum) in sums.iter().enumerate() {
                        *out.add(i) = clamp(sum * factor + shift, low, high);
                    }
                }
                (Some(residual), None) => {
                    let residual = &residual[start..start + sums.len()];
                    for (i, (sum, other)) in sums.iter().zip(residual).enumerate() {
                        *out.add(i) = sum * factor + shift + other;
                    }
                }
                (Some(residual), Some((low, high))) => {
                    let residual = &residual[start..start + sums.len()];
                    for (i, (sum, other)) in sums.iter().zip(residual).enumerate() {
                        *out.add(i) = clamp(sum * factor + shift + other, low, high);
                    }
                }
            }
        }
    }
}

/// Limits a value; NaN stays NaN.
#[inline(always)]
fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value < low { low } else { value };
    if value > high { high } else { value }
}
