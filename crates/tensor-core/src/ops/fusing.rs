//! Operators that run together: a convolution and what directly follows it.

use super::{Inputs, NodeCx};
use crate::Result;
use crate::kernels::Epilogue;
use crate::run::Array;

/// What an operator does when it directly follows one that is [`Fusing`].
#[derive(Debug, Clone, PartialEq)]
pub enum Follower {
    /// Multiplies each channel by a factor and adds a shift.
    Scale {
        /// Factors by channel.
        factors: Vec<f32>,
        /// Shifts by channel.
        shifts: Vec<f32>,
    },
    /// Adds its other input.
    Add,
    /// Limits each element.
    Clamp {
        /// Smallest value.
        low: f32,
        /// Largest value.
        high: f32,
    },
    /// Makes floats of the integers of a quantization, with one scale for all.
    Dequantize {
        /// The scale.
        scale: f32,
        /// The integer that stands for zero.
        zero: i64,
    },
}

/// An operator that applies what follows it while its output is still in cache.
pub trait Fusing {
    /// Can what follows be applied at all?
    fn takes(&self, follower: &Follower) -> bool {
        !matches!(follower, Follower::Dequantize { .. })
    }

    /// Computes the only output with an epilogue; `None` when the epilogue does not fit its shape.
    ///
    /// # Errors
    /// As [`Operator::eval`](super::Operator::eval).
    fn eval_fused(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        epilogue: Epilogue,
    ) -> Result<Option<Array>>;
}
