//! Quantizing whole models after training, on calibration data alone.
//!
//! # Objective
//!
//! For each layer, with inputs `X` of the network as it is by then and integers `Q` on a grid per
//! output,
//!
//! ```text
//! min over Q and b'   |X W^T + b - (X (s Q)^T + b')|^2
//! ```
//!
//! The grids come from the weights alone, `Q` from [`Rounding`], and `b'` takes up the mean of what
//! is left ([`BiasCorrection`]). [`Prepared`] is what quantizing to any bits has in common.

mod adaptive;
mod bias;
mod build;
mod calibrate;
mod equalize;
mod layers;
mod measure;
mod nearest;
mod opset;
mod optimal;
mod params;
mod prepared;
mod quantize;
mod report;
mod rounding;
mod sites;
#[cfg(feature = "train")]
mod trainable;
mod weights;

#[cfg(feature = "train")]
pub(crate) use build::{Built, stored_bias};
pub use build::{QuantizedActivation, Seen};
pub use equalize::{Equalized, NotEqualized};
pub use layers::{Layer, Left, layer_keys};
pub use params::{BiasCorrection, QuantizeParams, Rounding, ValidQuantizeParams};
pub use prepared::{Prepared, RangeParams};
pub use quantize::{Quantized, quantize};
pub use report::{Copied, QuantizeReport, QuantizedLayer};
#[cfg(feature = "train")]
pub(crate) use trainable::{Learned, ScaleKey, Site, Trainable};
pub use weights::{QuantizedWeight, WeightQuantizer};
