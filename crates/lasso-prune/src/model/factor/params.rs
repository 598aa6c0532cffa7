//! Parameters of factorization.

use super::super::params::{Budget, Limit};
use tensor_core::cost::Resource;
use tensor_core::{Error, Result};

/// How a model is factorized.
///
/// | field | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `budget` | keep 50 % of MACs | what the model may cost | share in (0, 1], or > 0 |
/// | `spatial` | yes | `k x k` convolutions as `k x 1` and `1 x k` | one of both |
/// | `channel` | yes | convolutions as one of fewer outputs and a `1 x 1` one | |
/// | `ridge` | 1e-6 | as in [`SelectionParams`](crate::SelectionParams) | >= 0 |
/// | `positions`, `seed`, `memory` | | as in [`PruneParams`](crate::PruneParams) | |
#[derive(Debug, Clone)]
pub struct FactorParams {
    /// What the model may cost.
    pub budget: Budget,
    /// Convolutions of `k x k` become `k x 1` and `1 x k`.
    pub spatial: bool,
    /// Convolutions become one of fewer outputs and a `1 x 1` one.
    pub channel: bool,
    /// Least ridge, relative to the mean diagonal entry of `G`.
    pub ridge: f64,
    /// Sampled output positions per image and layer; `None` chooses by the layer.
    pub positions: Option<usize>,
    /// Drives the sampling.
    pub seed: u64,
    /// Bytes of activations held between layers, in both networks.
    pub memory: usize,
}

impl Default for FactorParams {
    fn default() -> Self {
        Self {
            budget: Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.5) },
            spatial: true,
            channel: true,
            ridge: 1e-6,
            positions: None,
            seed: 0,
            memory: 384 << 20,
        }
    }
}

impl FactorParams {
    /// # Errors
    /// `E0141` names the parameter and its range.
    pub(super) fn check(&self) -> Result<()> {
        self.budget.check()?;
        let wrong = |what: &str| Err(Error::invalid(what).code_is("E0141"));
        match self {
            Self { spatial: false, channel: false, .. } => {
                wrong("neither spatial nor channel factorization was asked for")
            }
            Self { positions: Some(0), .. } => wrong("at least one position has to be sampled"),
            Self { ridge, .. } if !(*ridge >= 0.0 && ridge.is_finite()) => {
                wrong("the ridge should not be negative")
            }
            _ => Ok(()),
        }
    }
}
