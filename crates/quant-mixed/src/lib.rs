//! Quantization from plain int8 to mixed precision that is searched under a hardware budget.

mod bits;
pub mod clip;
mod histogram;
pub mod model;
pub mod plan;
pub mod quantizer;
pub mod search;

pub use bits::{Assignment, LayerBits};
pub use histogram::Histogram;
pub use plan::{Plan, PlanLayer};
