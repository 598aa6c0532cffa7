//! Products of sparse weights with dense activations.
//!
//! Weights are streams of the terms that are not zero; activations are gathered into panels as for
//! dense convolutions ([`patches`](super::patches)), with output positions innermost. A sweep along
//! one stream multiplies each weight by a row of the panel and keeps its sums in registers
//! ([`sweep`]). Zero weights cost nothing; NaN and infinity that they meet do not reach the output.

mod choice;
mod conv;
mod product;
mod sweep;
#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests")]
mod tests;
mod weight;

pub(super) use conv::forward;
pub(super) use product::product;
pub use weight::{SparseForm, SparseWeight};
