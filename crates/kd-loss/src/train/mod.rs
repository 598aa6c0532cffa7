//! Distillation as a plug-in of [the training loop](tensor_core::train) (feature `train`).
//!
//! ```text
//! L = a H(y, q) + (1 - a) w L_logits(student, teachers) + sum_k w_k L_k(features_k)
//! ```
//!
//! Teachers are graphs. They run frozen, in inference mode, on the same augmented batch as the
//! student. Without labels `a` is 0.

mod params;
mod plugin;
mod teacher;

pub use params::{Choice, DistillParams, FeatureTerm};
pub use plugin::Distiller;
