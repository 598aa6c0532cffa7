//! One sample as it comes from its source, before preprocessing.

use crate::Result;

/// The values of a sample; the kind decides how they are scaled.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    /// 8-bit pixels: scaled to 0..1 for a float input.
    Pixels(Vec<u8>),
    /// Floats: taken as they are.
    Floats(Vec<f32>),
    /// Integers that are not pixels (token numbers, masks): taken as they are.
    Integers(Vec<i64>),
}

impl Values {
    /// Are these floats?
    pub(super) fn is_float(&self) -> bool {
        matches!(self, Self::Floats(_))
    }

    /// As floats; pixels are scaled to 0..1 when `scale_pixels`.
    pub(super) fn into_floats(self, scale_pixels: bool) -> Vec<f32> {
        match self {
            Self::Pixels(pixels) if scale_pixels => {
                pixels.into_iter().map(|pixel| f32::from(pixel) / 255.0).collect()
            }
            Self::Pixels(pixels) => pixels.into_iter().map(f32::from).collect(),
            Self::Floats(values) => values,
            Self::Integers(values) => values.into_iter().map(|value| value as f32).collect(),
        }
    }
}

/// A sample without its batch axis: row-major values and their shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// Shape.
    pub(super) dims: Vec<usize>,
    /// Values, as many as the shape holds.
    pub(super) values: Values,
    /// Is it a decoded image, whose axes are known to be height, width, channels?
    pub(super) decoded: bool,
}

/// Where the samples of one model input come from. Reads lazily.
pub(super) trait Source: Send + Sync + std::fmt::Debug {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Sample `index`, which is below [`Source::len`].
    fn sample(&self, index: usize) -> Result<Sample>;

    /// How messages name sample `index`.
    fn place(&self, index: usize) -> String;
}
