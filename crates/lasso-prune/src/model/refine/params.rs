//! Parameters of refinement.

use serde::Serialize;
use tensor_core::{Error, Result};

/// Parameters of [`refine`](super::refine).
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `steps` | 200 | optimizer steps (AdamW, without decay) | at least 1 |
/// | `batch` | 64 | samples of a step | at least 1 |
/// | `rate` | 1e-3 | peak learning rate, which falls by half a cosine | above 0 |
/// | `seed` | 0 | order of the samples | any |
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefineParams {
    /// Optimizer steps.
    pub steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// Peak learning rate.
    pub rate: f64,
    /// Seed of the order of samples.
    pub seed: u64,
}

impl Default for RefineParams {
    fn default() -> Self {
        Self { steps: 200, batch: 64, rate: 1e-3, seed: 0 }
    }
}

impl RefineParams {
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(what.to_owned()).code_is("E0147"));
        match self {
            Self { steps: 0, .. } => wrong("refinement takes at least one step"),
            Self { batch: 0, .. } => wrong("a step takes at least one sample"),
            Self { rate, .. } if !(rate.is_finite() && *rate > 0.0) => {
                wrong("the learning rate should be positive")
            }
            _ => Ok(()),
        }
    }
}
