//! Operators by candle's own operations: what a session does on devices other than the CPU, with
//! gradients by candle's autograd.
//!
//! The fast paths of [`kernels`](crate::kernels) are custom operations, which exist for the CPU
//! only. Which of the two runs is decided before anything is computed, by the session's
//! [`Backend`](crate::run::Backend), so that a gradient never meets a custom operation elsewhere.
//!
//! Some of candle's operations are not used, as their gradients (in version 0.11) are not those of
//! the operators: pooling has none for overlapping windows, and its maximum divides them by the
//! area of the window; a rectifier passes gradients at zero; a maximum passes them to all of
//! several equal elements.

mod conv;
mod norm;
mod pointwise;
mod pool;
mod window;

pub(crate) use conv::convolution;
pub(crate) use norm::{batch_norm, normalize_rows, scale_channels};
pub(crate) use pointwise::{clip, unary};
pub(crate) use pool::{global_pool, pool};
