//! Calibration statistics: what reconstruction needs to know about a layer's inputs and outputs.

mod linear;

pub use linear::{Convolution, LinearMap, LinearShape, Product, TransposedConvolution, Window};
