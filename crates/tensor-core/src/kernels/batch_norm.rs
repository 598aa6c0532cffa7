//! Batch normalization in training together with a residual and a clamp behind it, and its
//! gradients, channel by channel: memory is read once, and what is needed again is in cache. Where
//! processes share the batch, a pass over all channels comes first, whose sums they add up.

use super::channelwise::LaneSums;
use super::parallel::{Output, filled, for_each};
use super::simd::{Kernel, Simd, dispatch};
use super::storage::candle_error;
use crate::group::Group;
use candle_core::{Result, bail};
use rayon::prelude::*;

/// Values `[outer, channels, inner]`, each channel normalized over the other two axes.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) outer: usize,
    pub(super) channels: usize,
    pub(super) inner: usize,
}

impl View {
    /// Channels on axis 1.
    pub(super) fn of(dims: &[usize]) -> Result<Self> {
        let &[outer, channels, ref inner @ ..] = dims else {
            bail!("batch normalization of shape {dims:?}");
        };
        Ok(Self { outer, channels, inner: inner.iter().product() })
    }

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

/// What is fixed for one normalization.
#[derive(Debug, Clone)]
pub(super) struct Normalization {
    pub(super) view: View,
    pub(super) epsilon: f64,
    /// Smallest and largest value.
    pub(super) clamp: Option<(f32, f32)>,
    /// Who has the other values of each channel.
    pub(super) group: Group,
}

/// Statistics by which values were normalized.
#[derive(Debug, Clone)]
pub(super) struct Statistics {
    /// Means, then biased variances.
    pub(super) values: Vec<f32>,
    /// Values per channel, those of other processes too.
    pub(super) count: usize,
}

impl Normalization {
    /// The values, and what they were normalized by.
    pub(super) fn forward(
        &self,
        x: &[f32],
        parameters: Option<(&[f32], &[f32])>,
        residual: Option<&[f32]>,
    ) -> Result<(Vec<f32>, Statistics)> {
        let View { channels, .. } = self.view;
        let fits = |values: &[f32]| values.len() == channels;
        if x.len() != self.view.count() * channels || x.is_empty() {
            bail!("normalization of {} elements", x.len());
        }
        if !parameters.is_none_or(|(scale, bias)| fits(scale) && fits(bias)) {
            bail!("parameters of another length than {channels} channels");
        }
        if residual.is_some_and(|residual| residual.len() != x.len()) {
            bail!("a residual of another size");
        }
        let (known, count) = match self.group.is_alone() {
            true => (None, self.view.count()),
            false => {
                let (known, count) = self.moments_of_all(x)?;
                (Some(known), count)
            }
        };
        let known = known.as_deref();
        let mut statistics = vec![0.0; 2 * channels];
        let shared = Output::over(&mut statistics);
        // SAFETY: each task writes all runs of its channel, and its two statistics.
        let y = unsafe {
            filled(x.len(), |output| {
                for_each(channels, 8 * self.view.count(), |channel| {
                    let (scale, bias) = parameters
                        .map_or((1.0, 0.0), |(scale, bias)| (scale[channel], bias[channel]));
                    let statistics = &shared;
                    let of = self;
                    let known = known.map(|known| known[channel]);
                    dispatch(Forward {
                        of,
                        channel,
                        x,
                        known,
                        residual,
                        scale,
                        bias,
                        output,
                        statistics,
                    });
                });
            })
        };
        Ok((y.map_err(candle_error)?, Statistics { values: statistics, count }))
    }

    /// Mean and variance of each channel over the values of all processes, and the number of these.
    fn moments_of_all(&self, x: &[f32]) -> Result<(Vec<[f64; 2]>, usize)> {
        let mut moments = vec![[0.0; 2]; self.view.channels];
        moments.par_iter_mut().enumerate().for_each(|(channel, moments)| {
            dispatch(Measure { of: self, channel, x, moments });
        });
        let own = self.view.count() as f64;
        let sums = moments
            .iter()
            .flat_map(|[mean, variance]| [own * mean, own * (variance + mean * mean)]);
        let mut sums: Vec<f64> = sums.chain([own]).collect();
        self.group.sum_f64(&mut sums).map_err(candle_error)?;
        let count = sums.pop().unwrap_or(own);
        let moments = sums.chunks_exact(2).map(|sums| {
            let mean = sums[0] / count;
            [mean, (sums[1] / count - mean * mean).max(0.0)]
        });
        Ok((moments.collect(), count as usize))
    }

    /// Gradients of the input, the scale, the bias and, if wanted, the residual.
    pub(super) fn backward(&self, operands: &Operands, residual: bool) -> Result<Gradients> {
        let View { channels, .. } = self.view;
        let known = match self.group.is_alone() {
            true => None,
            false => Some(self.sums_of_all(operands)?),
        };
        let known = known.as_deref();
        let count = operands.x.len();
        let mut sums = vec![0.0; 2 * channels];
        let shared = Output::over(&mut sums);
        let mut dx = Ok(Vec::new());
        let run = |dx: &Output, masked: Option<&Output>| {
            for_each(channels, 8 * self.view.count(), |channel| {
                let known = known.map(|known| known[channel]);
                dispatch(Backward {
                    of: self,
                    channel,
                    operands,
                    known,
                    dx,
                    masked,
                    sums: &shared,
                });
            });
        };
        // SAFETY: each task writes all runs of its channel, and its two sums.
        let dresidual = unsafe {
            match residual {
                true => Some(filled(count, |masked| {
                    dx = filled(count, |dx| run(dx, Some(masked)));
                })),
                false => {
                    dx = filled(count, |dx| run(dx, None));
                    None
                }
            }
        };
        let dbias = sums.split_off(channels);
        Ok(Gradients {
            dx: dx.map_err(candle_error)?,
            dscale: sums,
            dbias,
            dresidual: dresidual.transpose().map_err(candle_error)?,
        })
    }

    /// For each channel the sums of [`Backward`] over the values of this process and over those of all.
    fn sums_of_all(&self, operands: &Operands) -> Result<Vec<[[f64; 2]; 2]>> {
        let mut own = vec![[0.0; 2]; self.view.channels];
        own.par_iter_mut().enumerate().for_each(|(channel, sums)| {
            dispatch(Collect { of: self, channel, operands, sums });
        });
        let mut all: Vec<f64> = own.iter().flatten().copied().collect();
        self.group.sum_f64(&mut all).map_err(candle_error)?;
        let all = all.chunks_exact(2).map(|sums| [sums[0], sums[1]]);
        Ok(own.into_iter().zip(all).map(|(own, all)| [own, all]).collect())
    }
}

/// What [`Normalization::backward`] finds.
pub(super) struct Gradients {
    pub(super) dx: Vec<f32>,
    pub(super) dscale: Vec<f32>,
    pub(super) dbias: Vec<f32>,
    pub(super) dresidual: Option<Vec<f32>>,
}

/// Where gradients pass: nowhere that the output is at a bound of the clamp.
#[derive(Clone, Copy)]
pub(super) enum Gate<'a> {
    /// There is no clamp.
    Open,
    /// The output says it, as when a residual was added.
    Output(&'a [f32]),
    /// The output is computed again, from the input and the biases: cheaper than to read it.
    Biases(&'a [f32]),
}

/// What the gradient of a normalization needs.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) x: &'a [f32],
    pub(super) gate: Gate<'a>,
    pub(super) dy: &'a [f32],
    pub(super) scale: Option<&'a [f32]>,
    pub(super) mean: &'a [f32],
    pub(super) variance: &'a [f32],
    /// Values per channel that these are of.
    pub(super) count: usize,
}

/// One channel forward: mean, then variance around it, then the values.
struct Forward<'a> {
    of: &'a Normalization,
    channel: usize,
    x: &'a [f32],
    /// Mean and variance, where other processes have some of the values.
    known: Option<[f64; 2]>,
    residual: Option<&'a [f32]>,
    scale: f32,
    bias: f32,
    output: &'a Output<'a>,
    statistics: &'a Output<'a>,
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { of, channel, x, .. } = self;
        let view = of.view;
        let [mean, variance] = match self.known {
            Some(known) => known,
            None => of.moments(x, channel),
        };
        let (mean, variance) = (mean as f32, variance as f32);
        let inverse = (f64::from(variance) + of.epsilon).sqrt().recip();
        let factor = (f64::from(self.scale) * inverse) as f32;
        let (low, high) = of.clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        for run in view.runs(channel) {
            let x = &x[run.clone()];
            // SAFETY: this task alone writes this channel, and every `i` lies within the run.
            unsafe {
                let y = self.output.part(run.start, run.len());
                let value = |x: f32| (x - mean) * factor + self.bias;
                match self.residual {
                    Some(residual) => {
                        for (i, (x, residual)) in x.iter().zip(&residual[run]).enumerate() {
                            y.add(i).write(limit(value(*x) + residual, low, high));
                        }
                    }
                    None => {
                        for (i, x) in x.iter().enumerate() {
                            y.add(i).write(limit(value(*x), low, high));
                        }
                    }
                }
            }
        }
        // SAFETY: this task alone writes these two elements.
        unsafe {
            self.statistics.part(channel, 1).write(mean);
            self.statistics.part(view.channels + channel, 1).write(variance);
        }
    }
}

impl Normalization {
    /// Mean and biased variance of a channel.
    #[inline(always)]
    fn moments(&self, x: &[f32], channel: usize) -> [f64; 2] {
        // Both sums in one pass, around a guess of the mean, so that little cancels.
        let guess = self.view.runs(channel).next().map_or(0.0, |run| mean_of(&x[run]));
        let mut sums = LaneSums::new();
        for run in self.view.runs(channel) {
            let x = &x[run];
            sums.add(x.len(), |i| {
                let difference = x[i] - guess;
                [difference, difference * difference]
            });
        }
        let [total, squares] = sums.totals().map(|sum| sum / self.view.count() as f64);
        [f64::from(guess) + total, (squares - total * total).max(0.0)]
    }
}

/// [`Normalization::moments`] alone.
struct Measure<'a> {
    of: &'a Normalization,
    channel: usize,
    x: &'a [f32],
    moments: &'a mut [f64; 2],
}

impl Kernel for Measure<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        *self.moments = self.of.moments(self.x, self.channel);
    }
}

/// The mean of some values, at least one.
#[inline(always)]
fn mean_of(x: &[f32]) -> f32 {
    let mut sum = LaneSums::new();
    sum.add(x.len(), |i| [x[i]]);
    let [sum] = sum.totals();
    (sum / x.len() as f64) as f32
}

/// Between the bounds; NaN stays NaN.
#[inline(always)]
fn limit(value: f32, low: f32, high: f32) -> f32 {
    let value = if value < low { low } else { value };
    if value > high { high } else { value }
}

/// One channel backward. With `n` values `u = (x - mean) / sqrt(variance + epsilon)`:
/// `dx = scale / sqrt(variance + epsilon) (dy - (sum dy + u sum(dy u)) / n)`.
struct Backward<'a> {
    of: &'a Normalization,
    channel: usize,
    operands: &'a Operands<'a>,
    /// Both sums over the values of this process and of all, where there are others.
    known: Option<[[f64; 2]; 2]>,
    dx: &'a Output<'a>,
    /// Takes what passes the clamp: the gradient of the residual.
    masked: Option<&'a Output<'a>>,
    /// Gradients of the scales, then of the biases.
    sums: &'a Output<'a>,
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { of, channel, operands, .. } = self;
        let (mean, variance) = (operands.mean[channel], f64::from(operands.variance[channel]));
        let inverse = (variance + of.epsilon).sqrt().recip();
        let scale = operands.scale.map_or(1.0, |scale| scale[channel]);
        let factor = (f64::from(scale) * inverse) as f32;
        let (low, high) = of.clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let inside = |y: f32| y > low && y < high;
        // SAFETY: this task alone writes this channel.
        unsafe {
            match operands.gate {
                Gate::Open => self.passed(mean, inverse, factor, |_, _, dy| dy),
                Gate::Output(y) => {
                    self.passed(
                        mean,
                        inverse,
                        factor,
                        |i, _, dy| if inside(y[i]) { dy } else { 0.0 },
                    );
                }
                Gate::Biases(biases) => {
                    // The same operations as forward, so the same bits.
                    let bias = biases[channel];
                    let y = |x: f32| (x - mean) * factor + bias;
                    self.passed(
                        mean,
                        inverse,
                        factor,
                        |_, x, dy| if inside(y(x)) { dy } else { 0.0 },
                    );
                }
            }
        }
    }
}

impl Backward<'_> {
    /// `gate` gives what passes of a gradient, from its place, the input and itself.
    ///
    /// # Safety
    /// No other task may have this channel.
    #[inline(always)]
    unsafe fn passed(
        &self,
        mean: f32,
        inverse: f64,
        factor: f32,
        gate: impl Fn(usize, f32, f32) -> f32,
    ) {
        let Self { of, channel, operands, .. } = *self;
        let view = of.view;
        let [own, all] = match self.known {
            Some(known) => known,
            None => {
                let mut sums = LaneSums::new();
                for run in view.runs(channel) {
                    let (x, dy) = (&operands.x[run.clone()], &operands.dy[run.clone()]);
                    let start = run.start;
                    sums.add(x.len().min(dy.len()), |i| {
                        let dy = gate(start + i, x[i], dy[i]);
                        [dy, dy * (x[i] - mean)]
                    });
                }
                [sums.totals(); 2]
            }
        };
        let [total, weighted] = all;
        let count = operands.count as f64;
        let shift = (total / count) as f32;
        let slope = (weighted * inverse / count * inverse) as f32;
        let value = |x: f32, dy: f32| factor * (dy - shift - slope * (x - mean));
        for run in view.runs(channel) {
            let (x, dy) = (&operands.x[run.clone()], &operands.dy[run.clone()]);
            let inputs = x.iter().zip(dy).enumerate();
            // SAFETY: as the caller, and every `i` lies within the run.
            unsafe {
                let dx = self.dx.part(run.start, run.len());
                match self.masked {
                    Some(masked) => {
                        let masked = masked.part(run.start, run.len());
                        for (i, (x, dy)) in inputs {
                            let dy = gate(run.start + i, *x, *dy);
                            masked.add(i).write(dy);
                            dx.add(i).write(value(*x, dy));
                        }
                    }
                    None => {
                        for (i, (x, dy)) in inputs {
                            dx.add(i).write(value(*x, gate(run.start + i, *x, *dy)));
                        }
                    }
                }
            }
        }
        // SAFETY: this task alone writes these two elements.
        unsafe {
            self.sums.part(channel, 1).write((own[1] * inverse) as f32);
            self.sums.part(view.channels + channel, 1).write(own[0] as f32);
        }
    }
}

/// The sums of [`Backward`] alone: of what passes the gate, and of that times the distance from the mean.
struct Collect<'a> {
    of: &'a Normalization,
    channel: usize,
    operands: &'a Operands<'a>,
    sums: &'a mut [f64; 2],
}

impl Kernel for Collect<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { of, channel, operands, .. } = self;
        let (mean, variance) = (operands.mean[channel], f64::from(operands.variance[channel]));
        let scale = operands.scale.map_or(1.0, |scale| scale[channel]);
        let factor = (f64::from(scale) * (variance + of.epsilon).sqrt().recip()) as f32;
        let (low, high) = of.clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let inside = |y: f32| y > low && y < high;
        let mut sums = LaneSums::new();
        for run in of.view.runs(channel) {
            let (x, dy) = (&operands.x[run.clone()], &operands.dy[run.clone()]);
            sums.add(x.len().min(dy.len()), |i| {
                let passes = match operands.gate {
                    Gate::Open => true,
                    Gate::Output(y) => inside(y[run.start + i]),
                    Gate::Biases(biases) => inside((x[i] - mean) * factor + biases[channel]),
                };
                let dy = if passes { dy[i] } else { 0.0 };
                [dy, dy * (x[i] - mean)]
            });
        }
        *self.sums = sums.totals();
    }
}
