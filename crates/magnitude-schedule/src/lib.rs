//! Sparse weights: pruning schedules, masks by magnitude, and second-order compensation.
//!
//! # Objective
//!
//! Gradual pruning (Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for
//! model compression", 2017) masks the smallest weights of each layer during training, so many that
//! at step `t` the share of zeros is
//!
//! ```text
//! s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3   for t in {t0, t0 + dt, ..., t0 + n dt}
//! ```
//!
//! | name | default | purpose | range |
//! | --- | --- | --- | --- |
//! | `initial` | | `s_i`, the sparsity before the first update | `[0, 1)` |
//! | `target` | | `s_f`, the sparsity from the last update on | `[initial, 1)` |
//! | `begin`, `end` | | `t0` and `t0 + n dt`, in optimizer steps or [epochs](Interval::epochs) | `begin <= end` |
//! | `frequency` | | `dt`, steps between updates; the last is always at `end` | `>= 1` |
//! | shape | polynomial, exponent 3 | the curve between, a name in [`SHAPES`] | |
//! | [`Pattern`] | unstructured | which weights are zero together | N:M, blocks, rows |
//! | [`Distribution`] | uniform | how zeros are spread over the layers | |
//!
//! Masked weights take no gradient and stay zero, so plain masks only grow; weights that come back
//! are an option of the training plug-in. Counts are exact to one weight, ties keep the lower index.
//! The first convolution and depthwise ones stay dense, as in the paper; of rows, what makes the
//! outputs.
//!
//! # Parts
//!
//! * [`Schedule`], [`PolynomialSchedule`]: sparsity as a function of the step;
//! * [`Mask`], [`Pattern`], [`Layout`]: which weights of a tensor stay;
//! * [`Distribution`], [`split`], [`masks()`]: zeros by layer;
//! * [`prunable`]: which weights of a graph are pruned, and which stay dense for what reason.
//!
//! The module [`model`] sparsifies whole models after training, on calibration data alone. With the
//! feature `train`, the module `train` is a plug-in for Kerf's training loop.
//!
//! # Example
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use magnitude_schedule::{Mask, Pattern, PolynomialSchedule};
//!
//! let schedule = PolynomialSchedule::new(0.0, 0.9, 0, 100, 1)?;
//! let weight = Tensor::randn(0_f32, 1., (8, 16, 3, 3), &Device::Cpu)?;
//! for (step, zeros) in [(0, 0), (24, 582), (45, 864), (100, 1037)] {
//!     let mask = Mask::magnitude(&weight, schedule.sparsity(step), Pattern::Unstructured)?;
//!     assert_eq!(mask.zeros(), zeros);
//! }
//! # Ok::<(), tensor_core::Error>(())
//! ```

mod candidates;
mod distribution;
mod layers;
mod layout;
mod mask;
mod masks;
pub mod model;
mod outputs;
mod pattern;
mod schedule;
#[cfg(feature = "train")]
pub mod train;

pub use distribution::{Distribution, LayerSize, split};
pub use layers::{Prunable, prunable};
pub use layout::{Grid, Layout};
pub use mask::Mask;
pub use masks::{LayerWeight, masks, masks_of_counts};
pub use pattern::Pattern;
pub use schedule::{Interval, Parameter, PolynomialSchedule, SHAPES, Schedule, Shape, ShapeChoice};
