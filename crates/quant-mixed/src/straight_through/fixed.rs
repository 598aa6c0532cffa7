//! Steps that do not learn.

use super::op::{FakeQuantize, Inside};
use super::{Levels, StraightThrough};
use candle_core::{Result, Tensor, Var};
use candle_nn::Module;

/// Quantizes `x` with steps that get no gradient: one, or one for each slice along `axis`.
///
/// # Errors
/// When the steps do not fit `x`, or elements are not `f32` on the CPU.
pub fn fixed(x: &Tensor, step: &Tensor, axis: Option<usize>, levels: Levels) -> Result<Tensor> {
    FakeQuantize { levels, inside: Inside::Nothing, scale: 0.0, axis }.apply(x, &step.detach())
}

/// Quantization on a grid that stays, as a layer.
#[derive(Debug, Clone)]
pub struct Fixed {
    step: Tensor,
    axis: Option<usize>,
    levels: Levels,
}

impl Fixed {
    /// With these steps.
    pub fn new(step: &Tensor, axis: Option<usize>, levels: Levels) -> Self {
        Self { step: step.detach(), axis, levels }
    }
}

impl Module for Fixed {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        fixed(x, &self.step, self.axis, self.levels)
    }
}

impl StraightThrough for Fixed {
    fn view(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }

    fn variable(&self) -> Option<(&Var, bool)> {
        None
    }

    fn steps(&self) -> Result<Vec<f32>> {
        self.step.flatten_all()?.to_vec1()
    }
}
