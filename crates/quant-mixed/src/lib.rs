//! Quantization from plain int8 to mixed precision that is searched under a hardware budget.

pub mod plan;

pub use plan::{LayerBits, Plan};
