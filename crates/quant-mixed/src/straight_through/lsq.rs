//! Learned step sizes.

use super::op::{FakeQuantize, Inside};
use super::{Levels, StraightThrough};
use candle_core::{DType, Result, Tensor, Var};
use candle_nn::Module;

/// Quantizes `x` with a learned step (Esser et al., "Learned step size quantization", 2020, Eq. 1 to
/// 3): the gradient of the step is
///
/// ```text
/// dy/ds = q - x / s   where low < x / s < high,   else low or high
/// ```
///
/// times `gradient_scale`, for which there is [`gradient_scale`](fn@gradient_scale). `step` has one
/// positive element, or one for each slice of `x` along `axis`.
///
/// # Errors
/// When the steps do not fit `x`, or elements are not `f32` on the CPU.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use quant_mixed::straight_through::{Levels, gradient_scale, lsq};
///
/// let levels = Levels::unsigned(2)?;
/// let (x, step) = (Tensor::new(&[0_f32, 0.6, 9.0], &Device::Cpu)?, Tensor::new(0.5_f32, &Device::Cpu)?);
/// let y = lsq(&x, &step, None, levels, gradient_scale(3, levels))?;
/// assert_eq!(y.to_vec1::<f32>()?, [0.0, 0.5, 1.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn lsq(
    x: &Tensor,
    step: &Tensor,
    axis: Option<usize>,
    levels: Levels,
    gradient_scale: f64,
) -> Result<Tensor> {
    FakeQuantize { levels, inside: Inside::Rounding, scale: gradient_scale, axis }.apply(x, step)
}

/// `1 / sqrt(N Qp)` (section 2.2): with it a step moves, relative to its size, about as fast as the
/// weights do. `count` is `N`, the elements that share the step: those of a weight, or those of an
/// activation for one sample.
pub fn gradient_scale(count: usize, levels: Levels) -> f64 {
    1.0 / (count.max(1) as f64 * levels.reach()).sqrt()
}

/// `2 mean|x| / sqrt(Qp)` (section 2.1), one for all of `x` or one for each slice along `axis`.
///
/// Slices of zeros get 1.
///
/// # Errors
/// When `x` has no such axis.
pub fn initial_step(x: &Tensor, axis: Option<usize>, levels: Levels) -> Result<Tensor> {
    let magnitudes = x.detach().abs()?;
    let means = match axis {
        None => magnitudes.mean_all()?.reshape(1)?,
        Some(axis) => magnitudes.transpose(0, axis)?.contiguous()?.flatten_from(1)?.mean(1)?,
    };
    let steps = (means * (2.0 / levels.reach().sqrt()))?;
    steps.eq(0.0)?.where_cond(&steps.ones_like()?, &steps)
}

/// Quantization with a learned step, as a layer.
#[derive(Debug, Clone)]
pub struct Lsq {
    step: Var,
    axis: Option<usize>,
    levels: Levels,
    gradient_scale: f64,
}

impl Lsq {
    /// For a weight: its [`initial_step`] and [`gradient_scale`].
    ///
    /// # Errors
    /// When `weight` has no such axis.
    pub fn new(weight: &Tensor, axis: Option<usize>, levels: Levels) -> Result<Self> {
        let step = initial_step(weight, axis, levels)?;
        let count = weight.elem_count() / step.elem_count().max(1);
        Self::with_steps(&step, axis, levels, count)
    }

    /// For an activation, by a batch of it whose first axis are the samples.
    ///
    /// # Errors
    /// When candle fails.
    pub fn for_activation(batch: &Tensor, levels: Levels) -> Result<Self> {
        let samples = batch.dims().first().copied().unwrap_or(1).max(1);
        let step = initial_step(batch, None, levels)?;
        Self::with_steps(&step, None, levels, batch.elem_count() / samples)
    }

    /// Goes on from known steps; `count` elements share each of them.
    ///
    /// # Errors
    /// When candle fails.
    pub fn with_steps(
        steps: &Tensor,
        axis: Option<usize>,
        levels: Levels,
        count: usize,
    ) -> Result<Self> {
        let step = Var::from_tensor(&steps.detach().to_dtype(DType::F32)?)?;
        Ok(Self { step, axis, levels, gradient_scale: gradient_scale(count, levels) })
    }

    /// The steps, which an optimizer changes. They have to stay positive.
    pub fn step(&self) -> &Var {
        &self.step
    }
}

impl Module for Lsq {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        lsq(x, self.step.as_tensor(), self.axis, self.levels, self.gradient_scale)
    }
}

impl StraightThrough for Lsq {
    fn view(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }

    fn variable(&self) -> Option<(&Var, bool)> {
        Some((&self.step, false))
    }

    fn steps(&self) -> Result<Vec<f32>> {
        self.step.as_detached_tensor().flatten_all()?.to_vec1()
    }
}
