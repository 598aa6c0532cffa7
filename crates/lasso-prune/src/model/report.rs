//! What pruning did, in numbers.

use serde::Serialize;

/// Outcome of pruning a model.
#[derive(Debug, Clone, Serialize)]
pub struct PruneReport {
    /// Selection method.
    pub method: String,
    /// Channel counts are multiples of this.
    pub round_to: usize,
    /// Channel sets in execution order of their first reader.
    pub sets: Vec<SetReport>,
    /// Refitted layers in execution order.
    pub layers: Vec<LayerReport>,
    /// Groups that were left alone.
    pub frozen: Vec<FrozenReport>,
    /// Samples used for calibration.
    pub samples: usize,
    /// BatchNormalization nodes folded first.
    pub folded_batch_norms: usize,
    /// Largest difference of masked and cut model, relative to the output range.
    pub mask_difference: f64,
}

/// One set of channels.
#[derive(Debug, Clone, Serialize)]
pub struct SetReport {
    /// Short name of the group, such as `g07`.
    pub id: String,
    /// The value that carries the group first; for a sample the layer that reads it.
    pub name: String,
    /// `cut`, or `sample` for a Gather before one reader.
    pub kind: &'static str,
    /// Channels before.
    pub before: usize,
    /// Channels after.
    pub after: usize,
    /// Keys of the layers that read it.
    pub readers: Vec<String>,
}

/// One refitted layer. Errors are squared errors relative to the centred energy of the original
/// response, on the calibration sample, after least squares, at the same widths.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    /// Node name, or its first output's name.
    pub key: String,
    /// Operator.
    pub op: String,
    /// Input channels before.
    pub channels_before: usize,
    /// Input channels after.
    pub channels_after: usize,
    /// Rows sampled.
    pub rows: usize,
    /// Error of the chosen channels.
    pub error: f64,
    /// Error of the chosen channels on held-out rows: fitted on half of the samples, judged on the
    /// other half.
    pub held_out_error: f64,
    /// Error when the first channels are kept; absent when the layer keeps all.
    pub first_k_error: Option<f64>,
    /// Error when the channels with the largest filters are kept.
    pub max_response_error: Option<f64>,
}

/// A group that was left alone.
#[derive(Debug, Clone, Serialize)]
pub struct FrozenReport {
    /// Short name of the group, such as `g07`.
    pub id: String,
    /// The value that carries the group first.
    pub name: String,
    /// Its channels.
    pub channels: usize,
    /// Why.
    pub reason: String,
}
