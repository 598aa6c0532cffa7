//! Quantization from plain int8 to mixed precision that is searched under a hardware budget.
//!
//! # Objective
//!
//! A number becomes the nearest on a grid of `2^b` or fewer (Wang et al., "HAQ: hardware-aware automated
//! quantization with mixed precision", 2019, Eq. 4):
//!
//! ```text
//! quantize(w, b, c) = round(clamp(w, -c, c) / s) s,   s = c / (2^(b-1) - 1)
//! ```
//!
//! Halves go to even, zero stays zero. [`quantizer`] holds grids and codebooks, [`clip`] chooses `c`,
//! [`Histogram`] counts activations in bounded memory, [`model`] quantizes whole models after training,
//! [`plan`] says the bits layer by layer, and [`search`] finds them. [`straight_through`] are quantizers
//! with gradients for candle's users; with the feature `train`, the module `train` is a plug-in for
//! Kerf's training loop.
//!
//! # Example
//!
//! ```
//! use quant_mixed::clip::{ClipChoice, Distribution, Target};
//! use quant_mixed::quantizer::Affine;
//!
//! let weights = [0.9, -0.35, 0.1, 0.0];
//! let target = Target { bits: 3, symmetric: true };
//! let (_, clip) = ClipChoice::MIN_MAX.range(&Distribution::of(&weights)?, target);
//! let grid = Affine::symmetric(target.bits, clip)?;
//! assert_eq!(weights.map(|w| grid.quantize(w)), [3, -1, 0, 0]);
//! # Ok::<(), tensor_core::Error>(())
//! ```

mod bits;
pub mod clip;
mod histogram;
pub mod model;
pub mod plan;
pub mod quantizer;
pub mod search;
pub mod straight_through;
#[cfg(feature = "train")]
pub mod train;

pub use bits::{Assignment, LayerBits};
pub use histogram::Histogram;
pub use plan::{Plan, PlanLayer};
