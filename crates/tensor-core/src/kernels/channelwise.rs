//! A factor and a shift for every channel, and sums over channels.

use super::parallel::{Output, filled, for_each};
use super::simd::{Kernel, Simd, dispatch};
use super::storage::{candle_error, elements, with_elements};
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `y = factor x + shift` with one factor and one shift per position on axis 1; an input of one
/// axis has a single channel. Gradients flow to all three.
///
/// # Errors
/// When there are not as many factors and shifts as channels, or elements are not `f32`.
pub fn scale_channels(x: &Tensor, factors: &Tensor, shifts: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3(&factors.contiguous()?, &shifts.contiguous()?, ScaleChannels)
}

struct ScaleChannels;

/// Channels, and elements of each.
fn sizes(dims: &[usize]) -> Result<(usize, usize)> {
    match dims {
        [] => bail!("a scalar has no channels"),
        [n] => Ok((1, *n)),
        [_, channels, inner @ ..] => Ok((*channels, inner.iter().product())),
    }
}

impl CustomOp3 for ScaleChannels {
    fn name(&self) -> &'static str {
        "channel scale"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        factors: &CpuStorage,
        factors_layout: &Layout,
        shifts: &CpuStorage,
        shifts_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = elements(x, x_layout)?;
        let (factors, shifts) =
            (elements(factors, factors_layout)?, elements(shifts, shifts_layout)?);
        let values = scale(x, sizes(x_layout.dims())?, factors, shifts)?;
        Ok((CpuStorage::F32(values), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        factors: &Tensor,
        _shifts: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (channels, area) = sizes(x.dims())?;
        let dy = dy.contiguous()?;
        let dx = with_elements(&dy, |dy| {
            with_elements(factors, |factors| {
                scale(dy, (channels, area), factors, &vec![0.0; channels])
            })
        })???;
        let parameter = |sums: Vec<f64>| {
            let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
            Tensor::from_vec(sums, channels, &Device::Cpu)
        };
        let dfactors = with_elements(x, |x| {
            with_elements(&dy, |dy| channel_sums(channels, area, x.len(), |i| x[i] * dy[i]))
        })??;
        let dshifts = with_elements(&dy, |dy| channel_sums(channels, area, dy.len(), |i| dy[i]))?;
        Ok((
            Some(Tensor::from_vec(dx, x.dims(), &Device::Cpu)?),
            Some(parameter(dfactors)?),
            Some(parameter(dshifts)?),
        ))
    }
}

/// Sums over everything but the channels, plane by plane in lanes of `f32`.
pub(super) fn channel_sums(
    channels: usize,
    area: usize,
    count: usize,
    term: impl Fn(usize) -> f32 + Send + Sync,
) -> Vec<f64> {
    let planes = count.checked_div(area).unwrap_or(0);
    let channel = |channel| {
        (channel..planes)
            .step_by(channels)
            .map(|plane| lane_sum(area, |i| term(plane * area + i)))
            .sum()
    };
    (0..channels).into_par_iter().map(channel).collect()
}

/// Partial sums that are kept side by side, so that vectors can be used.
const WIDE: usize = 16;

/// Sums over many runs of elements: in lanes of `f32` within a run, and of `f64` over runs.
pub(super) struct LaneSums<const N: usize>([[f64; WIDE]; N]);

impl<const N: usize> LaneSums<N> {
    pub(super) fn new() -> Self {
        Self([[0.0; WIDE]; N])
    }

    /// Adds `term(i)` for `0..count`.
    #[inline(always)]
    pub(super) fn add(&mut self, count: usize, term: impl Fn(usize) -> [f32; N]) {
        let mut lanes = [[0.0_f32; WIDE]; N];
        let whole = count / WIDE * WIDE;
        for start in (0..whole).step_by(WIDE) {
            for lane in 0..WIDE {
                let terms = term(start + lane);
                for (lanes, term) in lanes.iter_mut().zip(terms) {
                    lanes[lane] += term;
                }
            }
        }
        for i in whole..count {
            for (lanes, term) in lanes.iter_mut().zip(term(i)) {
                lanes[i - whole] += term;
            }
        }
        for (totals, lanes) in self.0.iter_mut().zip(lanes) {
            for (total, lane) in totals.iter_mut().zip(lanes) {
                *total += f64::from(lane);
            }
        }
    }

    pub(super) fn totals(self) -> [f64; N] {
        self.0.map(|lanes| lanes.iter().sum())
    }
}

/// The sum of `term(i)` for `0..count`: in lanes of `f32`, which are added up in `f64`.
#[inline(always)]
pub(super) fn lane_sum(count: usize, term: impl Fn(usize) -> f32) -> f64 {
    let mut lanes = [0.0_f32; WIDE];
    let whole = count / WIDE * WIDE;
    for start in (0..whole).step_by(WIDE) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    let total: f64 = lanes.iter().map(|&lane| f64::from(lane)).sum();
    total + (whole..count).map(|i| f64::from(term(i))).sum::<f64>()
}

fn scale(
    x: &[f32],
    (channels, area): (usize, usize),
    factors: &[f32],
    shifts: &[f32],
) -> Result<Vec<f32>> {
    if factors.len() != channels || shifts.len() != channels {
        bail!("{} factors for {channels} channels", factors.len());
    }
    let planes = x.len().checked_div(area).unwrap_or(0);
    // SAFETY: each plane's task writes the whole plane.
    let values = unsafe {
        filled(x.len(), |output| {
            for_each(planes, area, |plane| {
                let channel = plane % channels;
                let (factor, shift) = (factors[channel], shifts[channel]);
                let start = plane * area;
                dispatch(Plane { x: &x[start..start + area], factor, shift, output, start });
            });
        })
    };
    values.map_err(candle_error)
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
