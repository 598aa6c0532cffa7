//! Masks of several layers at once.

use crate::candidates::Candidates;
use crate::distribution::{Distribution, LayerSize, split, split_by_magnitude};
use crate::mask::{Mask, candidates};
use crate::{Layout, Pattern};
use candle_core::Tensor;
use tensor_core::{Error, Result};

/// A weight that is to be masked.
#[derive(Debug, Clone, Copy)]
pub struct LayerWeight<'a> {
    /// Its values.
    pub weight: &'a Tensor,
    /// What its axes are.
    pub layout: Layout,
    /// What is masked already and stays masked.
    pub mask: Option<&'a Mask>,
}

impl LayerWeight<'_> {
    /// The layer as distributions see it.
    ///
    /// # Errors
    /// As [`Mask::magnitude`].
    pub fn size(&self, pattern: Pattern) -> Result<LayerSize> {
        let candidates = candidates(self.weight, self.layout, pattern, self.mask)?;
        self.size_with(candidates.capacity())
    }

    fn size_with(&self, capacity: usize) -> Result<LayerSize> {
        let dims = self.weight.dims();
        let grid = self.layout.grid(dims)?;
        let kernel = dims.get(2..).unwrap_or_default().to_vec();
        Ok(LayerSize { outputs: grid.rows(), inputs: grid.inputs(), kernel, capacity })
    }
}

/// Masks of the smallest weights of several layers, `round(sparsity * all weights)` together.
///
/// With [`Distribution::Layerwise`] the shares are those of [`Distribution::Uniform`]: they differ in
/// time only.
///
/// # Errors
/// As [`Mask::magnitude`].
pub fn masks(
    layers: &[LayerWeight],
    distribution: Distribution,
    sparsity: f64,
    pattern: Pattern,
) -> Result<Vec<Mask>> {
    pattern.check()?.check_sparsity(sparsity)?;
    let candidates = all_candidates(layers, pattern)?;
    let weights: Vec<usize> = layers.iter().map(|layer| layer.weight.elem_count()).collect();
    let counts = match distribution {
        Distribution::Global => {
            let count = (sparsity * weights.iter().sum::<usize>() as f64).round() as usize;
            split_by_magnitude(&candidates, &weights, count)
        }
        _ => {
            let capacities = candidates.iter().map(Candidates::capacity);
            let sizes = layers.iter().zip(capacities).map(|(layer, most)| layer.size_with(most));
            split(distribution, &sizes.collect::<Result<Vec<_>>>()?, sparsity)?
        }
    };
    cut(layers, &candidates, &counts)
}

/// Masks of given numbers of the smallest weights, one number per layer; a layer that has more masked
/// already keeps these.
///
/// # Errors
/// As [`Mask::magnitude`], and when there is not one number per layer.
pub fn masks_of_counts(
    layers: &[LayerWeight],
    counts: &[usize],
    pattern: Pattern,
) -> Result<Vec<Mask>> {
    if counts.len() != layers.len() {
        return Err(Error::invalid(format!("{} counts for {} layers", counts.len(), layers.len())));
    }
    cut(layers, &all_candidates(layers, pattern.check()?)?, counts)
}

fn all_candidates(layers: &[LayerWeight], pattern: Pattern) -> Result<Vec<Candidates>> {
    layers.iter().map(|l| candidates(l.weight, l.layout, pattern, l.mask)).collect()
}

fn cut(layers: &[LayerWeight], candidates: &[Candidates], counts: &[usize]) -> Result<Vec<Mask>> {
    let layers = layers.iter().zip(candidates).zip(counts);
    layers
        .map(|((layer, candidates), &count)| {
            let mask = Mask::new(layer.weight.dims(), candidates.without(count))?;
            match layer.mask {
                Some(masked) => mask.and(masked),
                None => Ok(mask),
            }
        })
        .collect()
}
