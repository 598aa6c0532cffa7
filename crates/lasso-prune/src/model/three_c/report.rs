//! What the three did together, in numbers.

use crate::model::factor::FactorReport;
use crate::model::report::PruneReport;
use serde::Serialize;

/// Outcome of factorizing and pruning a model.
#[derive(Debug, Clone, Serialize)]
pub struct ThreeCReport {
    /// Splits of the budget that were tried, on a part of the samples.
    pub tried: Vec<Split>,
    /// The share of the model's cost that factorization left, before pruning.
    pub factored: f64,
    /// Layers that stay one convolution because their factors would cost more at the pruned widths.
    pub merged: Vec<String>,
    /// Factorization; absent where pruning alone was best.
    pub factoring: Option<FactorReport>,
    /// Pruning; absent where factorization alone was best.
    pub pruning: Option<PruneReport>,
}

/// A split of the budget.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Split {
    /// The share of the model's cost that factorization leaves; 1 without factorization.
    pub factored: f64,
    /// Squared error of the outputs on held-out samples, relative to their centred energy.
    pub error: f64,
}
