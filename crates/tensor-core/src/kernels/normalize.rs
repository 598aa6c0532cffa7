//! Normalization by the statistics of the values themselves, with gradients.
//!
//! Values are seen as `[outer, channels, inner]`, and each channel is normalized over the other two
//! axes: batch normalization in training. One outer element gives normalization of rows, on which
//! instance, group and layer normalization rest.

use super::channelwise::lane_sum;
use super::parallel::{Output, filled, for_each};
use super::simd::{Kernel, Simd, dispatch};
use super::storage::{candle_error, elements, with_elements};
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
use std::sync::{Arc, OnceLock};

/// Normalized values, and the statistics that they were normalized by.
#[derive(Debug, Clone)]
pub struct Normalized {
    /// The values, of the input's shape.
    pub y: Tensor,
    /// Mean of each channel, without gradient.
    pub mean: Tensor,
    /// Biased variance of each channel (the sum of squares divided by the number of values),
    /// without gradient.
    pub variance: Tensor,
}

/// Batch normalization in training: for each position on axis 1, over all other axes,
/// `y = scale (x - mean) / sqrt(variance + epsilon) + bias` (Ioffe and Szegedy 2015, algorithm 1).
///
/// Gradients flow to `x`, through mean and variance too, and to `scale` and `bias`, which have one
/// value per channel. Values are normalized by the biased variance; for running statistics
/// frameworks differ: PyTorch takes the unbiased one, `n / (n - 1)` times larger for n values per
/// channel.
///
/// # Errors
/// When `x` has fewer than two axes or no elements, parameters do not fit the channels, or elements
/// are not `f32`.
pub fn batch_norm_train(
    x: &Tensor,
    scale: &Tensor,
    bias: &Tensor,
    epsilon: f64,
) -> Result<Normalized> {
    let &[outer, channels, ref inner @ ..] = x.dims() else {
        bail!("batch normalization of shape {:?}", x.dims());
    };
    let view = View { outer, channels, inner: inner.iter().product() };
    let statistics = Statistics::default();
    let normalize = Normalize { view, epsilon, statistics: statistics.clone() };
    let (scale, bias) = (scale.contiguous()?, bias.contiguous()?);
    let y = x.contiguous()?.apply_op3(&scale, &bias, normalize)?;
    statistics.normalized(y)
}

/// Normalizes each row of `[rows, length]` to mean 0 and variance 1, with gradient:
/// `y = (x - mean) / sqrt(variance + epsilon)`.
///
/// # Errors
/// When `x` does not have two axes or has no elements, or elements are not `f32`.
pub fn normalize_rows(x: &Tensor, epsilon: f64) -> Result<Normalized> {
    let (rows, length) = x.dims2()?;
    let view = View { outer: 1, channels: rows, inner: length };
    let statistics = Statistics::default();
    let normalize = Normalize { view, epsilon, statistics: statistics.clone() };
    let y = x.contiguous()?.apply_op1(normalize)?;
    statistics.normalized(y)
}

/// Mean and biased variance of each channel, one after the other; set by the forward pass.
#[derive(Clone, Default)]
struct Statistics(Arc<OnceLock<Vec<f32>>>);

impl Statistics {
    fn get(&self) -> Result<(&[f32], &[f32])> {
        match self.0.get() {
            Some(values) => Ok(values.split_at(values.len() / 2)),
            None => bail!("normalization without a forward pass"),
        }
    }

    fn normalized(&self, y: Tensor) -> Result<Normalized> {
        let (mean, variance) = self.get()?;
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        Ok(Normalized { y, mean: tensor(mean)?, variance: tensor(variance)? })
    }
}

#[derive(Clone, Copy)]
struct View {
    outer: usize,
    channels: usize,
    inner: usize,
}

impl View {
    /// The runs of a channel's elements.
    fn runs(self, channel: usize) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
        (0..self.outer).map(move |outer| {
            let start = (outer * self.channels + channel) * self.inner;
            start..start + self.inner
        })
    }

    fn count(self) -> usize {
        self.outer * self.inner
    }
}

struct Normalize {
    view: View,
    epsilon: f64,
    statistics: Statistics,
}

impl Normalize {
    fn forward(&self, x: &[f32], parameters: Option<(&[f32], &[f32])>) -> Result<Vec<f32>> {
        let View { channels, .. } = self.view;
        let fits = |values: &[f32]| values.len() == channels;
        if x.len() != self.view.count() * channels || x.is_empty() {
            bail!("normalization of {} elements", x.len());
        }
        if !parameters.is_none_or(|(scale, bias)| fits(scale) && fits(bias)) {
            bail!("parameters of another length than {channels} channels");
        }
        let mut statistics = vec![0.0; 2 * channels];
        let shared = Output::over(&mut statistics);
        // SAFETY: each task writes all runs of its channel, and its two statistics.
        let y = unsafe {
            filled(x.len(), |output| {
                for_each(channels, 8 * self.view.count(), |channel| {
                    let (scale, bias) = parameters
                        .map_or((1.0, 0.0), |(scale, bias)| (scale[channel], bias[channel]));
                    let (view, epsilon) = (self.view, self.epsilon);
                    let statistics = &shared;
                    dispatch(Forward {
                        view,
                        channel,
                        x,
                        scale,
                        bias,
                        epsilon,
                        output,
                        statistics,
                    });
                });
            })
        };
        // A second run of the same operation finds the same values.
        let _ = self.statistics.0.set(statistics);
        y.map_err(candle_error)
    }

    /// Gradients of the input, of the scale and of the bias.
    fn backward(&self, x: &Tensor, scale: Option<&Tensor>, dy: &Tensor) -> Result<[Tensor; 3]> {
        let (means, variances) = self.statistics.get()?;
        let dy = dy.contiguous()?;
        let channels = self.view.channels;
        let mut sums = vec![0.0; 2 * channels];
        let mut run = |scale: Option<&[f32]>| {
            with_elements(x, |x| {
                with_elements(&dy, |dy| {
                    let shared = Output::over(&mut sums);
                    // SAFETY: each task writes all runs of its channel, and its two sums.
                    unsafe {
                        filled(x.len(), |output| {
                            for_each(channels, 8 * self.view.count(), |channel| {
                                let variance = f64::from(variances[channel]);
                                dispatch(Backward {
                                    view: self.view,
                                    channel,
                                    x,
                                    dy,
                                    scale: scale.map_or(1.0, |scale| scale[channel]),
                                    mean: means[channel],
                                    inverse: (variance + self.epsilon).sqrt().recip(),
                                    output,
                                    sums: &shared,
                                });
                            });
                        })
                    }
                })
            })
        };
        let dx = match scale {
            Some(scale) => with_elements(scale, |scale| run(Some(scale)))?,
            None => run(None),
        };
        let dx = Tensor::from_vec(dx??.map_err(candle_error)?, x.dims(), &Device::Cpu)?;
        let (dscale, dbias) = sums.split_at(channels);
        let tensor = |values: &[f32]| Tensor::from_slice(values, channels, &Device::Cpu);
        Ok([dx, tensor(dscale)?, tensor(dbias)?])
    }
}

impl CustomOp1 for Normalize {
    fn name(&self) -> &'static str {
        "normalization"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(elements(x, layout)?, None)?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [dx, _, _] = self.backward(x, None, dy)?;
        Ok(Some(dx))
    }
}

impl CustomOp3 for Normalize {
    fn name(&self) -> &'static str {
        "batch normalization"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let parameters = (elements(scale, scale_layout)?, elements(bias, bias_layout)?);
        let y = self.forward(elements(x, x_layout)?, Some(parameters))?;
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dscale, dbias] = self.backward(x, Some(scale), dy)?;
        Ok((Some(dx), Some(dscale), Some(dbias)))
    }
}

/// One channel forward: mean, then variance around it, then the values.
struct Forward<'a> {
    view: View,
    channel: usize,
    x: &'a [f32],
    scale: f32,
    bias: f32,
    epsilon: f64,
    output: &'a Output<'a>,
    statistics: &'a Output<'a>,
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { view, channel, x, .. } = self;
        let count = view.count() as f64;
        let (mut total, mut squares) = (0.0, 0.0);
        for run in view.runs(channel) {
            let x = &x[run];
            total += lane_sum(x.len(), |i| x[i]);
        }
        let mean = (total / count) as f32;
        for run in view.runs(channel) {
            let x = &x[run];
            squares += lane_sum(x.len(), |i| (x[i] - mean) * (x[i] - mean));
        }
        let variance = (squares / count) as f32;
        let inverse = (f64::from(variance) + self.epsilon).sqrt().recip();
        let factor = (f64::from(self.scale) * inverse) as f32;
        for run in view.runs(channel) {
            let x = &x[run.clone()];
            // SAFETY: this task alone writes this channel.
            let y = unsafe { self.output.part(run.start, run.len()) };
            for (i, x) in x.iter().enumerate() {
                // SAFETY: `i` lies within the part.
                unsafe { y.add(i).write((x - mean) * factor + self.bias) };
            }
        }
        // SAFETY: this task alone writes these two elements.
        unsafe {
            self.statistics.part(channel, 1).write(mean);
            self.statistics.part(view.channels + channel, 1).write(variance);
        }
    }
}

/// One channel backward. With `n` values `u = (x - mean) / sqrt(variance + epsilon)`:
/// `dx = scale / sqrt(variance + epsilon) (dy - (sum dy + u sum(dy u)) / n)`.
struct Backward<'a> {
    view: View,
    channel: usize,
    x: &'a [f32],
    dy: &'a [f32],
    scale: f32,
    mean: f32,
    inverse: f64,
    output: &'a Output<'a>,
    /// Gradients of the scales, then of the biases.
    sums: &'a Output<'a>,
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { view, channel, mean, .. } = self;
        let count = view.count() as f64;
        let (mut total, mut weighted) = (0.0, 0.0);
        for run in view.runs(channel) {
            let (x, dy) = (&self.x[run.clone()], &self.dy[run]);
            let len = x.len().min(dy.len());
            total += lane_sum(len, |i| dy[i]);
            weighted += lane_sum(len, |i| dy[i] * (x[i] - mean));
        }
        let dscale = weighted * self.inverse;
        let factor = (f64::from(self.scale) * self.inverse) as f32;
        let shift = (total / count) as f32;
        let slope = (dscale / count * self.inverse) as f32;
        for run in view.runs(channel) {
            let (x, dy) = (&self.x[run.clone()], &self.dy[run.clone()]);
            // SAFETY: this task alone writes this channel.
            let dx = unsafe { self.output.part(run.start, run.len()) };
            for (i, (x, dy)) in x.iter().zip(dy).enumerate() {
                // SAFETY: `i` lies within the part.
                unsafe { dx.add(i).write(factor * (dy - shift - slope * (x - mean))) };
            }
        }
        // SAFETY: this task alone writes these two elements.
        unsafe {
            self.sums.part(channel, 1).write(dscale as f32);
            self.sums.part(view.channels + channel, 1).write(total as f32);
        }
    }
}
