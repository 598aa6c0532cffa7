//! Parameters of training with quantization.

use super::Method;
use super::methods::METHODS;
use crate::model::{QuantizeParams, WeightQuantizer};
use tensor_core::{Error, Result};

/// How a model is quantized while it trains.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `quantize` | | the start: bits, ranges, rounding, correction of biases | |
/// | `method` | `lsq` | what learns beside the weights | of [`METHODS`] |
/// | `step_rate` | 1 | factor of the learning rate for steps and clips | > 0 |
#[derive(Debug, Clone)]
pub struct QatParams {
    /// Quantization after training, with which this begins.
    pub quantize: QuantizeParams,
    /// What learns beside the weights.
    pub method: &'static Method,
    /// Factor of the learning rate for steps and clips.
    pub step_rate: f64,
}

impl Default for QatParams {
    fn default() -> Self {
        let [method, ..] = METHODS;
        Self { quantize: QuantizeParams::default(), method, step_rate: 1.0 }
    }
}

impl QatParams {
    /// Checks every parameter.
    ///
    /// # Errors
    /// `E0500` names the parameter and its range.
    pub fn check(&self) -> Result<()> {
        if !(self.step_rate.is_finite() && self.step_rate > 0.0) {
            let message = format!("`step_rate` should be above 0, but is {}", self.step_rate);
            return Err(Error::invalid(message).code_is("E0500"));
        }
        if self.quantize.ranges.weight_quantizer != WeightQuantizer::Linear {
            let message = "training quantizes weights on one grid for each output";
            return Err(Error::unsupported(message)
                .code_is("E0500")
                .hint("quantize with blocks or a codebook after training"));
        }
        self.quantize.clone().check().map(|_| ())
    }
}
