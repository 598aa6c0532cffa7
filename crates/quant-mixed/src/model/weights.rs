//! Quantized weights of a layer.

use super::layers::Layer;
use crate::clip::{ClipChoice, Distribution, Target};
use crate::quantizer::{Affine, Quantizer};
use rayon::prelude::*;
use tensor_core::{Error, Result};

/// Integers and scales of a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedWeight {
    /// Bits of each integer.
    pub bits: u8,
    /// One scale for each output, or one for all.
    pub quantizer: Quantizer,
    /// One integer for each weight, in the layout of the weight.
    pub integers: Vec<i32>,
}

impl QuantizedWeight {
    /// The weights that the integers stand for.
    ///
    /// # Errors
    /// When they do not fit the layer.
    pub fn values(&self, layer: &Layer) -> Result<Vec<f32>> {
        self.quantizer.dequantize(&layer.dims, &self.integers)
    }

    /// The same integers with each output's scale times its factor.
    pub(super) fn scaled(&self, factors: &[f64]) -> Self {
        let Some(axis) = self.quantizer.axis() else { return self.clone() };
        let grids = self.quantizer.grids().iter().zip(factors);
        let grids =
            grids.map(|(grid, &factor)| grid.rescaled((f64::from(grid.scale) * factor) as f32));
        let quantizer = Quantizer::per_channel(axis, grids.collect());
        Self { bits: self.bits, quantizer, integers: self.integers.clone() }
    }
}

/// The slices of a weight, output by output.
pub(super) fn slices(layer: &Layer, weight: &[f32]) -> Vec<Vec<f32>> {
    let inner: usize = layer.dims[layer.axis + 1..].iter().product();
    let mut slices = vec![Vec::with_capacity(layer.count() / layer.outputs()); layer.outputs()];
    for (i, row) in weight.chunks_exact(inner.max(1)).enumerate() {
        slices[i % layer.outputs()].extend_from_slice(row);
    }
    slices
}

/// The grids of a weight: one for each output, or one for all.
///
/// # Errors
/// `E0503` when a weight is not finite.
pub(super) fn grids(
    layer: &Layer,
    weight: &[f32],
    bits: u8,
    clip: ClipChoice,
    per_channel: bool,
) -> Result<Quantizer> {
    let target = Target { bits, symmetric: true };
    let grid = |values: &[f32]| {
        let values = Distribution::of(values).map_err(|error| {
            Error::invalid(format!("`{}`: {}", layer.weight, error.message())).code_is("E0503")
        })?;
        Affine::symmetric(bits, clip.range(&values, target).1)
    };
    if !per_channel {
        return Ok(Quantizer::per_tensor(grid(weight)?));
    }
    let slices = slices(layer, weight);
    let grids: Vec<Affine> = slices.par_iter().map(|slice| grid(slice)).collect::<Result<_>>()?;
    Ok(Quantizer::per_channel(layer.axis, filled(&slices, grids)))
}

/// Outputs without weights take the smallest scale of the others: theirs decides how finely the
/// bias is stored.
fn filled(slices: &[Vec<f32>], grids: Vec<Affine>) -> Vec<Affine> {
    let is_empty = |slice: &[f32]| slice.iter().all(|&weight| weight == 0.0);
    let scales = slices.iter().zip(&grids).filter(|(slice, _)| !is_empty(slice));
    let least = scales.map(|(_, grid)| grid.scale).fold(f32::INFINITY, f32::min);
    let least = if least.is_finite() { least } else { 1.0 };
    let all = slices.iter().zip(grids);
    all.map(|(slice, grid)| if is_empty(slice) { grid.rescaled(least) } else { grid }).collect()
}
