//! Quantization from plain int8 to mixed precision that is searched under a hardware budget.

pub mod plan;

pub mod search;

pub use plan::{Plan, PlanLayer};
