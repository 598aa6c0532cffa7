//! Learned clips.

use super::op::{FakeQuantize, Inside};
use super::{Levels, StraightThrough};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::Module;

/// Clips `x` at a learned `alpha`, then quantizes it (Choi et al., "PACT: parameterized clipping
/// activation for quantized neural networks", 2018, Eq. 1 to 4):
///
/// ```text
/// y = s round(clamp(x, 0, alpha) / s),   s = alpha / (2^b - 1)
/// dy/dalpha = 1 where x >= alpha, else 0
/// ```
///
/// `alpha` is one positive number, the number of the largest integer. With integers below zero, which
/// the paper has not, the range is `alpha low / high` to `alpha`, and `dy/dalpha = low / high` below
/// it; where there are none above zero `alpha` is the number of the smallest, without its sign.
///
/// # Errors
/// When `alpha` is not one number, or elements are not `f32` on the CPU.
pub fn pact(x: &Tensor, alpha: &Tensor, levels: Levels) -> Result<Tensor> {
    let step = (alpha / levels.reach())?;
    FakeQuantize { levels, inside: Inside::Nothing, scale: 1.0, axis: None }.apply(x, &step)
}

/// Quantization with a learned clip, as a layer behind a rectifier or in its place.
#[derive(Debug, Clone)]
pub struct Pact {
    alpha: Var,
    levels: Levels,
}

impl Pact {
    /// Begins with this clip. The paper begins with 10 and lets weight decay shrink it.
    ///
    /// # Errors
    /// When candle fails.
    pub fn new(alpha: f32, levels: Levels, device: &Device) -> Result<Self> {
        let alpha = Var::from_tensor(&Tensor::new(&[alpha], device)?.to_dtype(DType::F32)?)?;
        Ok(Self { alpha, levels })
    }

    /// The clip, which an optimizer changes. It has to stay positive.
    pub fn alpha(&self) -> &Var {
        &self.alpha
    }
}

impl Module for Pact {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        pact(x, self.alpha.as_tensor(), self.levels)
    }
}

impl StraightThrough for Pact {
    fn view(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }

    fn variable(&self) -> Option<(&Var, bool)> {
        Some((&self.alpha, true))
    }

    fn steps(&self) -> Result<Vec<f32>> {
        (self.alpha.as_detached_tensor() / self.levels.reach())?.flatten_all()?.to_vec1()
    }
}
