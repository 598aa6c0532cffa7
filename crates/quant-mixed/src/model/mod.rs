//! Quantizing whole models after training, on calibration data alone.

mod build;
mod calibrate;
mod layers;
mod opset;
mod prepared;
mod sites;
mod weights;

pub use build::QuantizedActivation;
pub use layers::{Layer, Left};
pub use prepared::{Prepared, RangeParams};
pub use weights::QuantizedWeight;
