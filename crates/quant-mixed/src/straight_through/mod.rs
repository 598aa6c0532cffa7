//! Quantization that gradients pass: functions and small layers on candle tensors.
//!
//! # Objective
//!
//! The forward pass is that of [`Affine`](crate::quantizer::Affine) with the integers of [`Levels`],
//!
//! ```text
//! y = s q,   q = clamp(round(x / s), low, high),   halves to even
//! ```
//!
//! Rounding has no useful gradient. That of `y` passes straight through to `x` where `x / s` is
//! strictly between `low` and `high`, and ends elsewhere (Bengio et al., "Estimating or propagating
//! gradients through stochastic neurons", 2013). Methods differ in what the step `s` learns:
//!
//! | | `dy/ds` inside | outside | paper |
//! | --- | --- | --- | --- |
//! | [`lsq`] | `q - x / s` | `low` or `high` | Esser et al., "Learned step size quantization", 2020, Eq. 3 |
//! | [`pact`] | 0 | `low` or `high` | Choi et al., "PACT", 2018, Eq. 4, with the clip `alpha = s high` |
//!
//! # Example
//!
//! A weight of two bits and one step for each of its outputs:
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use candle_nn::Module;
//! use quant_mixed::straight_through::{Levels, Lsq};
//!
//! let weight = Var::from_tensor(&Tensor::new(&[[0.9_f32, -0.2, 0.4], [3.0, -2.5, 0.1]], &Device::Cpu)?)?;
//! let quantizer = Lsq::new(&weight, Some(0), Levels::signed(2)?)?;
//! let y = quantizer.forward(&weight)?;
//! let gradients = y.sqr()?.sum_all()?.backward()?;
//! assert_eq!(gradients.get(quantizer.step()).unwrap().dims(), [2]);
//! assert!(gradients.get(&weight).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod fixed;
mod levels;
mod lsq;
mod op;
mod pact;

pub use fixed::{Fixed, fixed};
pub use levels::Levels;
pub use lsq::{Lsq, gradient_scale, initial_step, lsq};
pub use pact::{Pact, pact};

use candle_core::{Result, Tensor, Var};

/// A quantizer whose grid may learn.
pub trait StraightThrough: Send + Sync {
    /// The numbers of the grid that stand for a tensor.
    ///
    /// # Errors
    /// When the steps do not fit the shape.
    fn view(&self, x: &Tensor) -> Result<Tensor>;

    /// The variable that learns, and whether weight decay is a part of the method.
    fn variable(&self) -> Option<(&Var, bool)>;

    /// The step now: one, or one for each slice.
    ///
    /// # Errors
    /// When candle fails.
    fn steps(&self) -> Result<Vec<f32>>;
}
