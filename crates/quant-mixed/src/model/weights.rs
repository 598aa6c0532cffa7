//! Quantized weights of a layer.

use super::layers::Layer;
use super::prepared::RangeParams;
use crate::clip::{Distribution, Target};
use crate::quantizer::{Affine, Codebook, Quantizer};
use rayon::prelude::*;
use serde::Serialize;
use tensor_core::{Error, Result};

/// What weights become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightQuantizer {
    /// Integers on one grid for each output, or on one for all; with activations as integers.
    #[default]
    Linear,
    /// Integers on one grid for each so many inputs of an output; activations stay float.
    Blocks(usize),
    /// Places in a list of numbers that k-means finds for each layer (Han et al., "Deep compression",
    /// 2016); activations stay float.
    KMeans,
}

/// Integers and scales of a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedWeight {
    /// Bits of each integer.
    pub bits: u8,
    /// How integers stand for numbers.
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
    pub(super) fn scaled(&self, layer: &Layer, factors: &[f64]) -> Self {
        let Some(outputs) = self.outputs(layer) else { return self.clone() };
        let scales = self.quantizer.grids().iter().zip(outputs);
        let scales: Vec<f32> =
            scales.map(|(grid, o)| (f64::from(grid.scale) * factors[o]) as f32).collect();
        let quantizer = self.quantizer.rescaled(&scales);
        Self { bits: self.bits, quantizer, integers: self.integers.clone() }
    }

    /// The output that each scale belongs to; `None` where outputs share scales.
    pub(super) fn outputs(&self, layer: &Layer) -> Option<Vec<usize>> {
        self.quantizer.slice_of_grids(&layer.dims, layer.axis)
    }

    /// The type that stores the integers.
    pub(super) fn storage(&self) -> &'static str {
        match (self.quantizer.codebook().is_some(), self.bits <= NARROW) {
            (false, true) => "int4",
            (false, false) => "int8",
            (true, true) => "uint4",
            (true, false) => "uint8",
        }
    }

    /// Bytes of scales or of the codebook.
    pub(super) fn side_bytes(&self) -> usize {
        4 * self.quantizer.codebook().map_or(self.quantizer.grids().len(), <[f32]>::len)
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

/// Integers of this many bits or fewer fit 4.
pub(super) const NARROW: u8 = 4;

/// Why a layer has no blocks though they were asked for.
pub(super) fn lacks_blocks(layer: &Layer, params: &RangeParams) -> Option<String> {
    let WeightQuantizer::Blocks(size) = params.weight_quantizer else { return None };
    let inputs = layer.dims[layer.input_axis()];
    (inputs < size).then(|| format!("an output has {inputs} inputs, fewer than a block"))
}

/// The grids of a weight, or its codebook.
///
/// # Errors
/// `E0503` when a weight is not finite.
pub(super) fn quantizer(
    layer: &Layer,
    weight: &[f32],
    bits: u8,
    params: &RangeParams,
) -> Result<Quantizer> {
    let RangeParams { weight_clip: clip, per_channel, weight_quantizer, .. } = *params;
    let target = Target { bits, symmetric: true };
    let grid = |values: &[f32]| {
        let values = Distribution::of(values).map_err(|error| {
            Error::invalid(format!("`{}`: {}", layer.weight, error.message())).code_is("E0503")
        })?;
        Affine::symmetric(bits, clip.range(&values, target).1)
    };
    let axis = layer.input_axis();
    match weight_quantizer {
        WeightQuantizer::KMeans => {
            let codebook = Codebook::fit(weight, bits).map_err(|error| {
                Error::invalid(format!("`{}`: {}", layer.weight, error.message())).code_is("E0503")
            })?;
            return Ok(Quantizer::shared(&codebook));
        }
        WeightQuantizer::Blocks(size) if layer.dims[axis] >= size => {
            let blocks = blocks(layer, weight, (axis, size))?;
            let grids: Vec<Affine> =
                blocks.par_iter().map(|block| grid(block)).collect::<Result<_>>()?;
            return Ok(Quantizer::blocked(axis, size, filled(&blocks, grids)));
        }
        WeightQuantizer::Linear if !per_channel => return Ok(Quantizer::per_tensor(grid(weight)?)),
        WeightQuantizer::Linear | WeightQuantizer::Blocks(_) => {}
    }
    let slices = slices(layer, weight);
    let grids: Vec<Affine> = slices.par_iter().map(|slice| grid(slice)).collect::<Result<_>>()?;
    Ok(Quantizer::per_channel(layer.axis, filled(&slices, grids)))
}

/// The weights of each block, in the order of their scales.
fn blocks(layer: &Layer, weight: &[f32], (axis, size): (usize, usize)) -> Result<Vec<Vec<f32>>> {
    // Any grids tell where their elements are.
    let count = layer.dims.iter().enumerate();
    let count: usize = count.map(|(i, &n)| if i == axis { n.div_ceil(size) } else { n }).product();
    let numbered = (0..count).map(|_| Affine::symmetric(8, 1.0)).collect::<Result<Vec<_>>>()?;
    let blocked = Quantizer::blocked(axis, size, numbered);
    let mut blocks = vec![Vec::with_capacity(size); count];
    for (&weight, place) in weight.iter().zip(blocked.place_of_elements(&layer.dims)?) {
        blocks[place].push(weight);
    }
    Ok(blocks)
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
