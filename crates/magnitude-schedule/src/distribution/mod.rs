//! How a sparsity over several layers becomes a number of zeros in each.

mod erk;
mod share;

use crate::candidates::Candidates;
use serde::Serialize;
use share::apportion;
use tensor_core::{Error, Result};

/// How zeros are spread over the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// The same share in each layer.
    #[default]
    Uniform,
    /// The smallest magnitudes of all layers together; each layer keeps some weight.
    Global,
    /// The same share in each layer in the end, but the interval is split: layers are pruned one
    /// after the other (the layerwise constant scheme of Zhu and Gupta's translation models).
    Layerwise,
    /// Densities in proportion to `(outputs + inputs + kernel sides) / weights`, so that narrow layers
    /// stay denser (Erdős-Rényi-Kernel: Evci et al., "Rigging the lottery", 2020).
    Erk,
}

impl Distribution {
    /// Name and meaning of each, for listings.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Uniform, "uniform"),
        (Self::Global, "global"),
        (Self::Layerwise, "layerwise"),
        (Self::Erk, "erk"),
    ];
}

impl std::str::FromStr for Distribution {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(distribution, _)| distribution).ok_or_else(|| {
            Error::invalid(format!("there is no distribution `{text}`"))
                .code_is("E0430")
                .hint("uniform, global, layerwise or erk")
        })
    }
}

/// A layer as distributions see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSize {
    /// Outputs.
    pub outputs: usize,
    /// Inputs per output (of one group).
    pub inputs: usize,
    /// Sides of the kernel; none for a matrix.
    pub kernel: Vec<usize>,
    /// Most weights that the pattern lets go.
    pub capacity: usize,
}

impl LayerSize {
    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.outputs * self.inputs * self.kernel.iter().product::<usize>()
    }
}

/// The number of zeros in each layer, `round(sparsity * all weights)` together, or as many as the
/// capacities allow. [`Distribution::Global`] needs the weights too ([`masks`](crate::masks())
/// has them) and is treated as uniform here.
///
/// Shares are rounded by largest remainders, of equal ones the earlier layer's first, so the sum is
/// exact to one weight, and each layer is within one weight of its share.
///
/// # Errors
/// `E0430` when the sparsity is not in `[0, 1)`.
pub fn split(
    distribution: Distribution,
    layers: &[LayerSize],
    sparsity: f64,
) -> Result<Vec<usize>> {
    if !(0.0..1.0).contains(&sparsity) {
        let message = format!("sparsity should be in [0, 1), but is {sparsity}");
        return Err(Error::invalid(message).code_is("E0430"));
    }
    let weights: Vec<f64> = layers.iter().map(|layer| layer.weights() as f64).collect();
    let total = (sparsity * weights.iter().sum::<f64>()).round() as usize;
    let capacities: Vec<usize> = layers.iter().map(|layer| layer.capacity).collect();
    let wanted: Vec<f64> = match distribution {
        Distribution::Erk => erk::sparsities(layers, sparsity)
            .into_iter()
            .zip(&weights)
            .map(|(sparsity, weights)| sparsity * weights)
            .collect(),
        _ => weights.iter().map(|weights| sparsity * weights).collect(),
    };
    Ok(apportion(&wanted, &capacities, total))
}

/// The number of zeros in each layer when the `count` smallest units of all layers go.
///
/// Each layer keeps at least one unit: without it, nothing would pass.
pub(crate) fn split_by_magnitude(
    layers: &[Candidates],
    weights: &[usize],
    count: usize,
) -> Vec<usize> {
    let mut all: Vec<(f32, usize, usize)> = Vec::new();
    for (layer, candidates) in layers.iter().enumerate() {
        let mut left = weights[layer];
        for (score, size) in candidates.units() {
            left -= size;
            if left > 0 {
                all.push((score, layer, size));
            }
        }
    }
    // Stable: within a layer the order is that of the candidates.
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut counts = vec![0; layers.len()];
    let mut gone = 0;
    for (_, layer, size) in all {
        if gone >= count || 2 * (count - gone) <= size && size > count - gone {
            break;
        }
        counts[layer] += size;
        gone += size;
    }
    counts
}
