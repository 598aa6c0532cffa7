//! What stands for a weight, where weights are rows of a linear map.

use super::layers::Layer;
use crate::quantizer::{Affine, Codebook, Quantizer};
use tensor_core::Result;
use tensor_core::calibrate::LinearMap;

/// The numbers that each weight may become, in the order of the rows of a map.
pub(super) enum Nearest<'a> {
    /// The same integers for all, at a scale for each weight.
    Grid {
        /// The integers.
        grid: Affine,
        /// The scales.
        scales: std::borrow::Cow<'a, [f32]>,
    },
    /// Places in a list.
    Codebook(&'a [f32]),
}

impl<'a> Nearest<'a> {
    /// Of the weight of a layer.
    pub(super) fn new(
        quantizer: &'a Quantizer,
        layer: &Layer,
        map: &dyn LinearMap,
    ) -> Result<Self> {
        if let Some(centres) = quantizer.codebook() {
            return Ok(Self::Codebook(centres));
        }
        let scales: Vec<f32> = quantizer.by_element(&layer.dims)?.map(|grid| grid.scale).collect();
        let scales = map.rows_of_weight(&scales).into();
        // Grids of a weight differ in their scales alone.
        Ok(Self::Grid { grid: quantizer.grids()[0], scales })
    }

    /// Those of the weights from one on.
    pub(super) fn from(&self, first: usize) -> Nearest<'_> {
        match self {
            Self::Grid { grid, scales } => {
                Nearest::Grid { grid: *grid, scales: scales[first..].into() }
            }
            Self::Codebook(centres) => Nearest::Codebook(centres),
        }
    }

    /// The integer of a number in the place of a weight.
    pub(super) fn code(&self, at: usize, x: f32) -> i32 {
        match self {
            Self::Grid { grid, scales } => grid.rescaled(scales[at]).quantize(x),
            Self::Codebook(centres) => Codebook::nearest(centres, x) as i32,
        }
    }

    /// The number of an integer there.
    pub(super) fn number(&self, at: usize, code: i32) -> f32 {
        match self {
            Self::Grid { grid, scales } => grid.rescaled(scales[at]).dequantize(code),
            Self::Codebook(centres) => centres.get(code as usize).copied().unwrap_or_default(),
        }
    }
}
