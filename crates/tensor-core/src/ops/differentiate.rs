//! Gradients that operators compute themselves.

use crate::Result;
use crate::run::Array;
use candle_core::Tensor;

/// From the gradient of a node's only output to those of its inputs, by position; `None` where no
/// gradient is wanted. With a residual, its gradient comes last.
pub type Pullback = Box<dyn FnOnce(&Tensor) -> Result<Vec<Option<Tensor>>>>;

/// The output of a node in training, without a graph of candle's behind it.
pub struct Differentiated {
    /// The only output.
    pub output: Array,
    /// Its gradient's way back.
    pub pullback: Pullback,
}

/// What follows a node in training and is computed together with it, in this order.
#[derive(Debug, Default)]
pub struct Following<'a> {
    /// Added element by element; of the output's shape.
    pub residual: Option<&'a Array>,
    /// Smallest and largest value: a rectifier or a clip.
    pub clamp: Option<(f32, f32)>,
}

impl Following<'_> {
    /// Does nothing follow?
    pub fn is_empty(&self) -> bool {
        self.residual.is_none() && self.clamp.is_none()
    }
}
