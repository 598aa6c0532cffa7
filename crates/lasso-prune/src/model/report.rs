//! What pruning did, in numbers.

use serde::Serialize;
use tensor_core::cost::Cost;

/// Outcome of pruning a model.
#[derive(Debug, Clone, Serialize)]
pub struct PruneReport {
    /// Selection method.
    pub method: String,
    /// Channel counts are multiples of this.
    pub round_to: usize,
    /// What that costs; absent when nothing is rounded or widths do not come from error curves.
    pub rounding: Option<RoundingReport>,
    /// What the widths let expect.
    pub predicted: Predicted,
    /// The time that they let expect; absent unless the budget is one of time.
    pub time: Option<PredictedTime>,
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

/// What rounding channel counts costs, predicted from the error curves.
#[derive(Debug, Clone, Serialize)]
pub struct RoundingReport {
    /// Channel counts are multiples of this.
    pub to: usize,
    /// Sum over the sets of their held-out error, weighed by its effect on the outputs.
    pub error: f64,
    /// The same for the best widths without rounding, under the same budget.
    pub unrounded_error: f64,
    /// The multiples that the choice was made from, the largest first.
    pub tried: Vec<RoundingTrial>,
}

/// A multiple that channel counts might be rounded to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RoundingTrial {
    /// The multiple.
    pub to: usize,
    /// As [`RoundingReport::error`].
    pub error: f64,
    /// Multiply-accumulates with channels filled up to whole blocks, over those of the original.
    pub blocked_macs: f64,
}

/// What the model costs after the cut, predicted from the widths before anything is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Predicted {
    /// Multiply-accumulates.
    pub macs: u64,
    /// Elements of float constants.
    pub parameters: u64,
    /// Bytes of constants.
    pub bytes: u64,
}

/// Time of a device for one run, from widths.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PredictedTime {
    /// The device.
    pub device: String,
    /// Samples of a run.
    pub batch: usize,
    /// Microseconds at full widths.
    pub before_us: f64,
    /// Microseconds at the widths that were chosen.
    pub after_us: f64,
}

impl Predicted {
    pub(crate) fn of(cost: &Cost) -> Self {
        let Cost { macs, parameters, parameter_bytes, .. } = *cost;
        Self { macs, parameters, bytes: parameter_bytes }
    }
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
    /// Held-out error of the readers by channels kept, of about 16 widths, ascending;
    /// empty where widths do not come from error curves.
    pub curve: Vec<CurvePoint>,
}

/// Widths that a reported curve is thinned to.
pub(crate) const CURVE_POINTS: usize = 16;

/// One width of an error curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Channels kept.
    pub kept: usize,
    /// Held-out error, relative to the energy of the readers' responses.
    pub error: f64,
}

/// One penalty on the way to a number of channels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PathStep {
    /// The weight of the LASSO's penalty.
    pub penalty: f64,
    /// Channels that are active with it.
    pub kept: usize,
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
    /// Error of the chosen channels with the weights as they were, before least squares.
    pub unfitted_error: f64,
    /// Error of the chosen channels on held-out rows: fitted on half of the samples, judged on the
    /// other half.
    pub held_out_error: f64,
    /// Error when the first channels are kept; absent when the layer keeps all.
    pub first_k_error: Option<f64>,
    /// Error when the channels with the largest filters are kept.
    pub max_response_error: Option<f64>,
    /// The penalties of the LASSO that chose the channels, in the order of the search; empty for other
    /// methods, and where a layer before chose.
    pub path: Vec<PathStep>,
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
