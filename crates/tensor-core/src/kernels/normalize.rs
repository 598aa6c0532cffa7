//! Normalization by the statistics of the values themselves, with gradients.
//!
//! Values are seen as `[outer, channels, inner]`, and each channel is normalized over the other two
//! axes: batch normalization in training. One outer element gives normalization of rows, on which
//! instance, group and layer normalization rest.

use super::batch_norm::{Gate, Normalization, Operands, Statistics, View};
use super::storage::{elements, with_elements};
use crate::group::Group;
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
    /// Values per channel that these are of.
    pub count: usize,
}

/// Batch normalization in training: for each position on axis 1, over all other axes,
/// `y = scale (x - mean) / sqrt(variance + epsilon) + bias` (Ioffe and Szegedy 2015, algorithm 1).
///
/// Gradients flow to `x`, through mean and variance too, and to `scale` and `bias`, which have one
/// value per channel. Values are normalized by the biased variance; for running statistics
/// frameworks differ: PyTorch takes the unbiased one, `n / (n - 1)` times larger for n values per
/// channel. Where a group of processes shares the batch, statistics are those of all values, and so are the
/// gradients of `x`; those of `scale` and `bias` are the terms of the own values.
///
/// # Errors
/// When `x` has fewer than two axes or no elements, parameters do not fit the channels, elements
/// are not `f32`, or a process cannot be reached.
pub fn batch_norm_train(
    x: &Tensor,
    scale: &Tensor,
    bias: &Tensor,
    epsilon: f64,
    group: &Group,
) -> Result<Normalized> {
    let view = View::of(x.dims())?;
    let of = Normalization { view, epsilon, clamp: None, group: group.clone() };
    let statistics = Found::default();
    let normalize = Normalize { of, statistics: statistics.clone() };
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
    let of = Normalization { view, epsilon, clamp: None, group: Group::alone() };
    let statistics = Found::default();
    let normalize = Normalize { of, statistics: statistics.clone() };
    let y = x.contiguous()?.apply_op1(normalize)?;
    statistics.normalized(y)
}

/// The statistics; set by the forward pass.
#[derive(Clone, Default)]
struct Found(Arc<OnceLock<Statistics>>);

impl Found {
    /// Means, variances and the number of values.
    fn get(&self) -> Result<(&[f32], &[f32], usize)> {
        let Some(found) = self.0.get() else { bail!("normalization without a forward pass") };
        let (mean, variance) = found.values.split_at(found.values.len() / 2);
        Ok((mean, variance, found.count))
    }

    fn normalized(&self, y: Tensor) -> Result<Normalized> {
        let (mean, variance, count) = self.get()?;
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        Ok(Normalized { y, mean: tensor(mean)?, variance: tensor(variance)?, count })
    }
}

struct Normalize {
    of: Normalization,
    statistics: Found,
}

impl Normalize {
    fn forward(&self, x: &[f32], parameters: Option<(&[f32], &[f32])>) -> Result<Vec<f32>> {
        let (y, statistics) = self.of.forward(x, parameters, None)?;
        // A second run of the same operation finds the same values.
        let _ = self.statistics.0.set(statistics);
        Ok(y)
    }

    /// Gradients of the input, of the scale and of the bias.
    fn backward(&self, x: &Tensor, scale: Option<&Tensor>, dy: &Tensor) -> Result<[Tensor; 3]> {
        let (mean, variance, count) = self.statistics.get()?;
        let dy = dy.contiguous()?;
        let run = |scale: Option<&[f32]>| {
            with_elements(x, |x| {
                with_elements(&dy, |dy| {
                    let gate = Gate::Open;
                    let operands = Operands { x, gate, dy, scale, mean, variance, count };
                    self.of.backward(&operands, false)
                })
            })
        };
        let gradients = match scale {
            Some(scale) => with_elements(scale, |scale| run(Some(scale)))?,
            None => run(None),
        }???;
        let tensor = |values: Vec<f32>| {
            let count = values.len();
            Tensor::from_vec(values, count, &Device::Cpu)
        };
        let dx = Tensor::from_vec(gradients.dx, x.dims(), &Device::Cpu)?;
        Ok([dx, tensor(gradients.dscale)?, tensor(gradients.dbias)?])
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
