//! A factor and a shift for every channel.

use super::parallel::{Output, filled, for_each};
use super::simd::{Kernel, Simd, dispatch};
use super::storage::{candle_error, elements};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// `y = factor x + shift` with one factor and one shift per position on axis 1; an input of one
/// axis has a single channel.
///
/// # Errors
/// When there are not as many factors and shifts as channels, or elements are not `f32`.
pub fn scale_channels(x: &Tensor, factors: Vec<f32>, shifts: Vec<f32>) -> Result<Tensor> {
    x.contiguous()?.apply_op1(ScaleChannels { factors, shifts })
}

struct ScaleChannels {
    factors: Vec<f32>,
    shifts: Vec<f32>,
}

impl CustomOp1 for ScaleChannels {
    fn name(&self) -> &'static str {
        "channel scale"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(storage, layout)?;
        let (channels, area) = match layout.dims() {
            [] => bail!("a scalar has no channels"),
            [n] => (1, *n),
            [_, channels, inner @ ..] => (*channels, inner.iter().product()),
        };
        if self.factors.len() != channels || self.shifts.len() != channels {
            bail!("{} factors for {channels} channels", self.factors.len());
        }
        let planes = x.len().checked_div(area).unwrap_or(0);
        // SAFETY: each plane's task writes the whole plane.
        let values = unsafe {
            filled(x.len(), |output| {
                for_each(planes, area, |plane| {
                    let channel = plane % channels;
                    let (factor, shift) = (self.factors[channel], self.shifts[channel]);
                    let start = plane * area;
                    dispatch(Plane { x: &x[start..start + area], factor, shift, output, start });
                });
            })
        };
        Ok((CpuStorage::F32(values.map_err(candle_error)?), layout.shape().clone()))
    }
}

struct Plane<'a> {
    x: &'a [f32],
    factor: f32,
    shift: f32,
    output: &'a Output<'a>,
    start: usize,
}

impl Kernel for Plane<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: this task alone writes this plane.
        unsafe {
            let out = self.output.part(self.start, self.x.len());
            for (i, x) in self.x.iter().enumerate() {
                out.add(i).write(x * self.factor + self.shift);
            }
        }
    }
}
