//! Parameters of refinement.

use serde::Serialize;
use tensor_core::{Error, Result};

/// Parameters of [`refine`](super::refine).
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `steps` | 200 | optimizer steps (AdamW, without decay) | at least 1 |
/// | `batch` | 64 | samples of a step | at least 1 |
/// | `memory` | 2 GiB | bytes of values and gradients of a step: it has fewer samples where they are large | at least 1 MiB |
/// | `rate` | 1e-3 | peak learning rate, which falls by half a cosine | above 0 |
/// | `seed` | 0 | order of the samples | any |
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefineParams {
    /// Optimizer steps.
    pub steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// Bytes of values and gradients of a step.
    pub memory: usize,
    /// Peak learning rate.
    pub rate: f64,
    /// Seed of the order of samples.
    pub seed: u64,
}

impl Default for RefineParams {
    fn default() -> Self {
        Self { steps: 200, batch: 64, memory: 2 << 30, rate: 1e-3, seed: 0 }
    }
}

impl RefineParams {
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(what.to_owned()).code_is("E0147"));
        match self {
            Self { steps: 0, .. } => wrong("refinement takes at least one step"),
            Self { batch: 0, .. } => wrong("a step takes at least one sample"),
            Self { memory, .. } if *memory < 1 << 20 => wrong("memory should be at least 1 MiB"),
            Self { rate, .. } if !(rate.is_finite() && *rate > 0.0) => {
                wrong("the learning rate should be positive")
            }
            _ => Ok(()),
        }
    }
}
