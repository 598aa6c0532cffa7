//! What follows a convolution while its output is still in cache.

use super::simd::Simd;
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
    /// Scale and zero of the way back from integers: only behind a quantization, and alone.
    pub dequantize: Option<(f32, i64)>,
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
    /// The instruction set of `S` must be there, and `out` valid for `sums.len()` writes.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(
        &self,
        channel: usize,
        sums: &[f32],
        out: *mut f32,
        start: usize,
    ) {
        let (factor, shift) = self.affine(channel);
        let len = sums.len();
        let residual = self.residual.map(|residual| residual[start..start + len].as_ptr());
        // SAFETY: all vectors lie within `len` elements; the last one may be partial.
        unsafe {
            let (factor, shift) = (S::splat(factor), S::splat(shift));
            let bounds = self.clamp.map(|(low, high)| (S::splat(low), S::splat(high)));
            let mut at = 0;
            while at < len {
                let rest = len - at;
                let load = |from: *const f32| {
                    if rest < S::LANES {
                        S::load_first(from.add(at), rest)
                    } else {
                        S::load(from.add(at))
                    }
                };
                let mut value = S::mul_add(load(sums.as_ptr()), factor, shift);
                if let Some(residual) = residual {
                    value = S::add(value, load(residual));
                }
                if let Some((low, high)) = bounds {
                    value = S::at_most(high, S::at_least(low, value));
                }
                if rest < S::LANES {
                    S::store_first(out.add(at), value, rest);
                } else {
                    S::store(out.add(at), value);
                }
                at += S::LANES;
            }
        }
    }
}
