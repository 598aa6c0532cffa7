//! What factorization did, in numbers.

use super::forms::Form;
use serde::Serialize;

/// Outcome of factorizing a model.
#[derive(Debug, Clone, Serialize)]
pub struct FactorReport {
    /// Layers in execution order; those that stay whole too, where their input changed.
    pub layers: Vec<FactoredLayer>,
    /// Samples used for calibration.
    pub samples: usize,
    /// BatchNormalization nodes folded first.
    pub folded_batch_norms: usize,
    /// Largest difference of the composed and the split model, relative to the output range.
    pub split_difference: f64,
}

/// One layer. Errors are squared errors relative to the centred energy of the original response.
#[derive(Debug, Clone, Serialize)]
pub struct FactoredLayer {
    /// Node name, or its first output's name.
    pub key: String,
    /// What stands in its place.
    pub form: Form,
    /// The same for people.
    pub convolutions: String,
    /// Multiply-accumulates of one sample before.
    pub macs_before: u64,
    /// Multiply-accumulates of one sample after.
    pub macs_after: u64,
    /// Error on the sample after the fit.
    pub error: f64,
    /// Error on held-out rows: fitted on half of the samples, judged on the other half.
    pub held_out_error: f64,
}
