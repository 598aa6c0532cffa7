//! Parameters of sparsifying a whole model.

use crate::{Distribution, Pattern};
use serde::{Serialize, Serializer};
use tensor_core::{Error, Result};

/// How masks are chosen and weights refitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The weights whose removal, with all others free to make up for it, costs least of the
    /// layer's response (optimal brain surgeon, layer by layer: Hassibi and Stork 1993; Frantar and
    /// Alistarh, "Optimal brain compression", 2022). What stays is solved by least squares.
    #[default]
    Obs,
    /// The smallest magnitudes; what stays is left as it is.
    Magnitude,
}

impl std::str::FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "obs" => Ok(Self::Obs),
            "magnitude" => Ok(Self::Magnitude),
            _ => Err(Error::invalid(format!("there is no method `{text}`"))
                .code_is("E0430")
                .hint("obs or magnitude")),
        }
    }
}

/// How the zeros of a one-shot are spread over the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// By sizes or magnitudes.
    By(Distribution),
    /// By the error curves of the layers: where zeros cost least of the responses.
    Error,
}

impl std::str::FromStr for Spread {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("error", _) => Ok(Self::Error),
            // Layer after layer in time makes no difference at once.
            (_, Ok(found)) if found != Distribution::Layerwise => Ok(Self::By(found)),
            _ => Err(Error::invalid(format!("there is no distribution `{text}` here"))
                .code_is("E0430")
                .hint("uniform, global, erk or error")),
        }
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::By(distribution) => distribution.serialize(to),
            Self::Error => to.serialize_str("error"),
        }
    }
}

/// How a model is sparsified, not yet checked.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `sparsity` | 0.5 | share of zeros in the pruned layers together | `[0, 1)`; N:M has its own |
/// | `pattern` | unstructured | which weights are zero together | see [`Pattern`] |
/// | `method` | obs | how masks are chosen and weights refitted | |
/// | `spread` | uniform | how zeros are spread over the layers | not layerwise |
/// | `dense` | none | layers or weights that stay dense | `*` matches any text |
/// | `all` | no | prune also what stays dense by default, see [`prunable`](crate::prunable) | |
/// | `ridge` | 1e-4 | pull towards the original weights, relative to the mean variance of the inputs | `(0, 1]` |
/// | `positions` | `None` | sampled output positions per image and layer; `None` chooses by the layer | >= 1 |
/// | `seed` | 0 | drives the sampling | |
/// | `memory` | 384 MiB | bytes of activations held between layers, in both networks | >= 1 MiB |
#[derive(Debug, Clone, PartialEq)]
pub struct SparsifyParams {
    /// Share of zeros in the pruned layers together.
    pub sparsity: f64,
    /// Which weights are zero together.
    pub pattern: Pattern,
    /// How masks are chosen and weights refitted.
    pub method: Method,
    /// How zeros are spread over the layers.
    pub spread: Spread,
    /// Layers or weights that stay dense; `*` matches any text.
    pub dense: Vec<String>,
    /// Prune also what stays dense by default, see [`prunable`](crate::prunable).
    pub all: bool,
    /// Pull towards the original weights, relative to the mean variance of the inputs.
    pub ridge: f64,
    /// Sampled output positions per image and layer.
    pub positions: Option<usize>,
    /// Drives the sampling.
    pub seed: u64,
    /// Bytes of activations held between layers, in the original and the current network together.
    pub memory: usize,
}

impl Default for SparsifyParams {
    fn default() -> Self {
        Self {
            sparsity: 0.5,
            pattern: Pattern::Unstructured,
            method: Method::Obs,
            spread: Spread::By(Distribution::Uniform),
            dense: Vec::new(),
            all: false,
            ridge: 1e-4,
            positions: None,
            seed: 0,
            memory: 384 << 20,
        }
    }
}

/// Parameters within their ranges.
#[derive(Debug, Clone)]
pub struct ValidSparsifyParams(pub(crate) SparsifyParams);

impl SparsifyParams {
    /// Checks every parameter.
    ///
    /// # Errors
    /// `E0430` and `E0431` name the parameter and its range.
    pub fn check(self) -> Result<ValidSparsifyParams> {
        self.pattern.check()?.check_sparsity(self.sparsity)?;
        let wrong = |what: String| Err(Error::invalid(what).code_is("E0430"));
        if !(self.ridge > 0.0 && self.ridge <= 1.0) {
            return wrong(format!("the ridge should be in (0, 1], but is {}", self.ridge));
        }
        if self.positions == Some(0) {
            return wrong("at least one position per image has to be sampled".to_owned());
        }
        if self.memory < 1 << 20 {
            return wrong(format!("memory should be at least 1 MiB, but is {} bytes", self.memory));
        }
        Ok(ValidSparsifyParams(self))
    }
}
