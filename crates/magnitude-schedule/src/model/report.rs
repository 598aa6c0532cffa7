//! What sparsifying did, in numbers.

use super::params::{Method, Spread};
use crate::Pattern;
use serde::Serialize;

/// Outcome of sparsifying a model.
#[derive(Debug, Clone, Serialize)]
pub struct SparsifyReport {
    /// How masks were chosen.
    pub method: Method,
    /// Which weights are zero together.
    pub pattern: Pattern,
    /// How zeros were spread.
    pub distribution: Spread,
    /// Weights of the pruned layers.
    pub weights: usize,
    /// Zeros among them.
    pub zeros: usize,
    /// `zeros / weights`.
    pub sparsity: f64,
    /// Layers in execution order.
    pub layers: Vec<SparseLayer>,
    /// Samples used for calibration.
    pub samples: usize,
    /// BatchNormalization nodes folded first.
    pub folded_batch_norms: usize,
}

/// One layer. Errors are squared errors of the response, bias included, relative to the centred
/// energy of the original response, on the calibration sample.
#[derive(Debug, Clone, Serialize)]
pub struct SparseLayer {
    /// Node name, or its first output's name.
    pub key: String,
    /// Operator.
    pub op: String,
    /// Name of the weight.
    pub weight: String,
    /// Number of weights.
    pub weights: usize,
    /// Exact zeros after.
    pub zeros: usize,
    /// `zeros / weights`.
    pub sparsity: f64,
    /// Why it stays dense, if it does.
    pub dense: Option<String>,
    /// Rows sampled; 0 where nothing was.
    pub rows: usize,
    /// Error as written.
    pub error: f64,
    /// Error of the same mask without compensation.
    pub uncompensated_error: f64,
    /// Error of the smallest magnitudes without compensation, as many; absent for dense layers.
    pub magnitude_error: Option<f64>,
}
