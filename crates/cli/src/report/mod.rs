//! Reports of compression runs, for people.

mod comparison;
mod factoring;
mod latency;
mod layers;
mod quantization;
mod sizes;
mod sparsity;

pub(crate) use comparison::{ROUNDING, comparison, distance, incomparable, relative};
pub(crate) use factoring::{factored, three_c};
pub(crate) use latency::{Weight, doubts, falls_short, latency};
pub(crate) use layers::{frozen, layers, rounding};
pub(crate) use quantization::quantization;
pub(crate) use sizes::{Sizes, change, sizes};
pub(crate) use sparsity::sparsity;

use serde::Serialize;

/// Something before and after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Change<T> {
    /// Of the original.
    pub(crate) before: T,
    /// Of the result.
    pub(crate) after: T,
}
