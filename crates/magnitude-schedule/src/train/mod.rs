//! Gradual pruning as a plug-in of [the training loop](tensor_core::train) (feature `train`).
//!
//! ```text
//! y = f(x; M w),   w <- w - step(M dL/d(M w)),   M updated by the schedule
//! ```
//!
//! The graph computes with masked weights; masked ones are zero, take no gradient and have no
//! optimizer state. After step `t` of the run masks have the sparsity of the schedule at `t` steps
//! done. Plain masks only grow. With [`SparseParams::regrow`] each update also drops a share of the
//! smallest weights and brings back as many where the gradient is largest (Evci et al., "Rigging the
//! lottery", 2020).

mod params;
mod plugin;
mod regrow;
mod zeros;

pub use params::{SparseParams, When};
pub use plugin::Sparsifier;
pub use zeros::{LayerZeros, TrainedWeight, lost_zeros, trained_weights, zeros_of};
