//! Parameters of quantizing a whole model.

use super::prepared::RangeParams;
use super::weights::WeightQuantizer;
use crate::bits::Assignment;
use serde::Serialize;
use tensor_core::{Error, Result};

/// How weights are rounded to their grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// To the nearest number.
    Nearest,
    /// One input after the other, the weights of the inputs that follow making up for it (optimal
    /// brain surgeon: Frantar et al., "GPTQ", 2023, in the order of falling variance).
    #[default]
    Optimal,
    /// Up or down, as gradient descent on the layer's response finds it (Nagel et al., "Up or down?
    /// Adaptive rounding for post-training quantization", 2020).
    Adaptive,
}

impl std::str::FromStr for Rounding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "nearest" => Ok(Self::Nearest),
            "optimal" => Ok(Self::Optimal),
            "adaround" => Ok(Self::Adaptive),
            _ => Err(Error::invalid(format!("there is no rounding `{text}`"))
                .code_is("E0500")
                .hint("nearest, optimal or adaround")),
        }
    }
}

/// How biases make up for the mean error of the responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BiasCorrection {
    /// They stay.
    None,
    /// By the error of the weights times the mean inputs of the float network.
    Analytic,
    /// By the line that leads best from the responses of the quantized network to those of the float
    /// one, from shallow to deep; its slope goes into the scales of the weights, where each output
    /// has one.
    #[default]
    Empirical,
}

impl std::str::FromStr for BiasCorrection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "analytic" => Ok(Self::Analytic),
            "empirical" => Ok(Self::Empirical),
            _ => Err(Error::invalid(format!("there is no bias correction `{text}`"))
                .code_is("E0500")
                .hint("none, analytic or empirical")),
        }
    }
}

/// How a model is quantized, not yet checked.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `bits` | 8, 8 | bits of weights and activations, by layer | 1 to 8 |
/// | `ranges` | | clips, scales per channel or per tensor, layers that stay float | |
/// | `rounding` | optimal | how weights are rounded | |
/// | `equalize` | yes | scale channels of neighbouring layers alike, where that is exact | |
/// | `bias_correction` | empirical | how biases make up for mean errors | |
/// | `positions` | `None` | sampled output positions per image and layer; `None` chooses by the layer | >= 1 |
/// | `seed` | 0 | drives the sampling | |
/// | `memory` | 384 MiB | bytes of activations held between layers, in both networks | >= 1 MiB |
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeParams {
    /// Bits of weights and activations, by layer.
    pub bits: Assignment,
    /// How ranges are found.
    pub ranges: RangeParams,
    /// How weights are rounded.
    pub rounding: Rounding,
    /// Scale channels of neighbouring layers alike, where that is exact.
    pub equalize: bool,
    /// How biases make up for mean errors.
    pub bias_correction: BiasCorrection,
    /// Sampled output positions per image and layer.
    pub positions: Option<usize>,
    /// Drives the sampling.
    pub seed: u64,
    /// Bytes of activations held between layers, in the float and the quantized network together.
    pub memory: usize,
}

impl Default for QuantizeParams {
    fn default() -> Self {
        Self {
            bits: Assignment::uniform(8, 8),
            ranges: RangeParams::default(),
            rounding: Rounding::default(),
            equalize: true,
            bias_correction: BiasCorrection::default(),
            positions: None,
            seed: 0,
            memory: 384 << 20,
        }
    }
}

/// Parameters within their ranges.
#[derive(Debug, Clone)]
pub struct ValidQuantizeParams(pub(crate) QuantizeParams);

impl QuantizeParams {
    /// Checks every parameter.
    ///
    /// # Errors
    /// `E0500` names the parameter and its range.
    pub fn check(self) -> Result<ValidQuantizeParams> {
        let wrong = |what: String| Err(Error::invalid(what).code_is("E0500"));
        self.bits.others.check()?;
        self.ranges.check()?;
        if self.rounding == Rounding::Adaptive
            && self.ranges.weight_quantizer == WeightQuantizer::KMeans
        {
            return wrong("AdaRound goes up or down on a grid, which a codebook is not".to_owned());
        }
        for bits in self.bits.layers.values() {
            bits.check()?;
        }
        if self.positions == Some(0) {
            return wrong("at least one position per image has to be sampled".to_owned());
        }
        if self.memory < 1 << 20 {
            return wrong(format!("memory should be at least 1 MiB, but is {} bytes", self.memory));
        }
        Ok(ValidQuantizeParams(self))
    }
}
