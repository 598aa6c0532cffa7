//! Operations of a training step without candle's graph: values, and gradients from gradients.

use super::batch_norm::{Gate, Normalization, Operands, View};
use super::conv_op;
use super::epilogue::Epilogue;
use super::geometry::{ConvGeometry, WindowAxis};
use super::normalize::Normalized;
use super::parallel::{filled, for_each};
use super::pool::{self, Pooling};
use super::precision::Precision;
use super::storage::{candle_error, with_all, with_elements};
use crate::group::Group;
use candle_core::{DType, Device, Result, Tensor, bail};

/// Elements per task.
const CHUNK: usize = 1 << 15;

/// Batch normalization in training, then the residual and the clamp of `epilogue`, without a graph
/// for gradients; see [`batch_norm_train`](super::batch_norm_train).
///
/// # Errors
/// As there, and when the residual has another size.
pub fn batch_norm_forward(
    x: &Tensor,
    scale: &Tensor,
    bias: &Tensor,
    epsilon: f64,
    epilogue: &Epilogue,
    group: &Group,
) -> Result<Normalized> {
    let of = normalization(x, epsilon, epilogue, group)?;
    let (x, scale, bias) = (x.contiguous()?, scale.contiguous()?, bias.contiguous()?);
    let run = |residual: Option<&[f32]>| {
        with_all([&x, &scale, &bias], |[x, scale, bias]| {
            of.forward(x, Some((scale, bias)), residual)
        })
    };
    let (y, statistics) = match &epilogue.residual {
        Some(residual) => with_elements(&residual.contiguous()?, |residual| run(Some(residual)))?,
        None => run(None),
    }??;
    let mut mean = statistics.values;
    let variance = mean.split_off(of.view.channels);
    let tensor = |values| Tensor::from_vec(values, of.view.channels, &Device::Cpu);
    Ok(Normalized {
        y: Tensor::from_vec(y, x.dims(), &Device::Cpu)?,
        mean: tensor(mean)?,
        variance: tensor(variance)?,
        count: statistics.count,
    })
}

fn normalization(
    x: &Tensor,
    epsilon: f64,
    epilogue: &Epilogue,
    group: &Group,
) -> Result<Normalization> {
    let view = View::of(x.dims())?;
    Ok(Normalization { view, epsilon, clamp: epilogue.clamp, group: group.clone() })
}

/// Gradients of the input, the scale, the bias and, if there is one, the residual of
/// [`batch_norm_forward`], from its operands, its result and the gradient of its values. At a bound
/// of the clamp no gradient passes.
///
/// # Errors
/// When sizes differ.
pub fn batch_norm_backward(
    [x, scale, bias]: [&Tensor; 3],
    normalized: &Normalized,
    epsilon: f64,
    (epilogue, group): (&Epilogue, &Group),
    dy: &Tensor,
) -> Result<[Option<Tensor>; 4]> {
    let of = normalization(x, epsilon, epilogue, group)?;
    let (x, dy) = (x.contiguous()?, dy.contiguous()?);
    let (scale, bias) = (scale.contiguous()?, bias.contiguous()?);
    let residual = epilogue.residual.is_some();
    let Normalized { y, mean, variance, count } = normalized;
    if x.dims() != dy.dims() || y.dims() != dy.dims() {
        bail!("a gradient of shape {:?} for values {:?}", dy.dims(), x.dims());
    }
    let tensors = [&x, y, &dy, &scale, &bias, mean, variance];
    let gradients = with_all(tensors, |[x, y, dy, scale, bias, mean, variance]| {
        let gate = match epilogue.clamp {
            None => Gate::Open,
            Some(_) if residual => Gate::Output(y),
            Some(_) => Gate::Biases(bias),
        };
        let scale = Some(scale);
        let operands = Operands { x, gate, dy, scale, mean, variance, count: *count };
        of.backward(&operands, residual)
    })??;
    let tensor = |values: Vec<f32>| Tensor::from_vec(values, of.view.channels, &Device::Cpu);
    let like_x = |values: Vec<f32>| Tensor::from_vec(values, x.dims(), &Device::Cpu);
    Ok([
        Some(like_x(gradients.dx)?),
        Some(tensor(gradients.dscale)?),
        Some(tensor(gradients.dbias)?),
        gradients.dresidual.map(like_x).transpose()?,
    ])
}

/// Those gradients of input, weight and bias of a convolution that are wanted, from the gradient of
/// its output.
///
/// # Errors
/// When an operand does not have the size that `geometry` implies.
pub fn convolution_backward(
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    geometry: &ConvGeometry,
    precision: Precision,
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    conv_op::backward(&x.contiguous()?, &weight.contiguous()?, dy, geometry, precision, wanted)
}

/// The gradient of the input of [`pool`](super::pool), from its input, its output and the gradient
/// of the latter.
///
/// # Errors
/// When sizes differ.
pub fn pool_backward(
    [x, y, dy]: [&Tensor; 3],
    rows: &WindowAxis,
    columns: &WindowAxis,
    pooling: Pooling,
) -> Result<Tensor> {
    pool::backward(&x.contiguous()?, &y.contiguous()?, dy, rows, columns, pooling)
}

/// The gradient behind a clamp between two bounds, from its output: none passes at a bound.
///
/// # Errors
/// When sizes differ or elements are not `f32`.
pub fn clamp_backward(y: &Tensor, dy: &Tensor, (low, high): (f32, f32)) -> Result<Tensor> {
    combine(y, dy, |y, dy| if y > low && y < high { dy } else { 0.0 })
}

/// The sum of two tensors of one shape, on any device.
///
/// # Errors
/// When shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match a.dtype() {
        DType::F32 if a.device().is_cpu() => combine(a, b, |a, b| a + b),
        _ => a + b,
    }
}

/// Element by element.
fn combine(a: &Tensor, b: &Tensor, value: impl Fn(f32, f32) -> f32 + Sync) -> Result<Tensor> {
    if a.dims() != b.dims() {
        bail!("shapes {:?} and {:?}", a.dims(), b.dims());
    }
    let (left, right) = (a.contiguous()?, b.contiguous()?);
    let values = with_all([&left, &right], |[a, b]| {
        // SAFETY: each task writes its chunk.
        let values = unsafe {
            filled(a.len(), |output| {
                for_each(a.len().div_ceil(CHUNK), CHUNK, |chunk| {
                    let start = chunk * CHUNK;
                    let end = (start + CHUNK).min(a.len());
                    let out = output.part(start, end - start);
                    super::widest(|| {
                        for (i, (a, b)) in a[start..end].iter().zip(&b[start..end]).enumerate() {
                            out.add(i).write(value(*a, *b));
                        }
                    });
                });
            })
        };
        values.map_err(candle_error)
    })??;
    Tensor::from_vec(values, a.dims(), &Device::Cpu)
}
