//! What one layer costs on a device, as a function of the bits of its weights and activations.
//!
//! A [`Hardware`] knows nothing of graphs: [`layers`] describes the layers of a graph once, as
//! [`LayerShape`]s. Models are found by name in a registry ([`MODELS`]); a new one is one file and one
//! line there. Figures that a model takes follow the name: `roofline:peak=2e12,bandwidth=12.8e9`.
//!
//! Latency is that of one run, which is a batch of the size that the device works with.

mod bit_fusion;
mod bit_serial;
mod energy;
mod figures;
#[cfg(feature = "data")]
pub mod haq;
mod layer;
#[cfg(feature = "measure")]
pub mod measured;
mod network;
mod roofline;
mod size;
pub mod table;

pub use figures::Figures;
pub use layer::{Layer, LayerKind, LayerShape, known_layers, layers, weighted_others};
pub use network::{NetworkRow, NetworkTime, sum_of_layers};
pub use table::Table;

use crate::text::near;
use crate::{Error, Result};
use serde::Serialize;

/// Bits that stand for 32-bit floats.
pub const FLOAT_BITS: u32 = 32;

/// What a layer costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct LayerCost {
    /// Microseconds for one batch, where the device has a model of time.
    pub latency_us: Option<f64>,
    /// Microjoules for one batch, where the device has a model of energy.
    pub energy_uj: Option<f64>,
    /// Bytes of the weights as the device stores them: in bits without gaps and without biases and
    /// scales, unless the model says otherwise.
    pub bytes: f64,
    /// The figures lie between those of other channel counts.
    pub interpolated: bool,
}

/// A device.
pub trait Hardware: Send + Sync {
    /// Its name in plans and tables, with the figures that were given.
    fn name(&self) -> String;

    /// Samples of one run.
    fn batch(&self) -> usize;

    /// The cost of a layer whose weights and inputs have these numbers of bits: 1 to 8, or
    /// [`FLOAT_BITS`].
    ///
    /// # Errors
    /// `E0554` for numbers of bits that the device does not have; `E0555` when a table has no row.
    fn cost(&self, layer: &LayerShape, weight_bits: u32, activation_bits: u32)
    -> Result<LayerCost>;

    /// Are the bytes those of a file, which has more in it than layers: nodes, names, other constants?
    fn counts_a_file(&self) -> bool {
        false
    }

    /// The latency of a network in 32-bit floats as a function of the sum of its layers; the sum itself
    /// where no network was timed.
    fn network(&self) -> NetworkTime {
        NetworkTime::default()
    }
}

/// A model in the registry.
#[derive(Debug)]
pub struct Model {
    /// Name, such as `bismo-edge`.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// The figures that it takes, with what they mean.
    pub figures: &'static [(&'static str, &'static str)],
    make: fn(&Figures) -> Result<Box<dyn Hardware>>,
}

/// All models.
pub const MODELS: &[Model] = &[
    bit_fusion::MODEL,
    bit_serial::EDGE,
    bit_serial::CLOUD,
    roofline::MODEL,
    size::BITS,
    size::ONNX,
];

/// The device of that name, with figures behind it: `NAME` or `NAME:FIGURE=VALUE,...`.
///
/// # Errors
/// `E0553` for an unknown name or figure, or a value outside its range.
pub fn find(spec: &str) -> Result<Box<dyn Hardware>> {
    let (name, figures) = spec.split_once(':').unwrap_or((spec, ""));
    let Some(model) = MODELS.iter().find(|model| model.name == name) else {
        let alike = near(name, MODELS.iter().map(|model| model.name));
        return Err(Error::invalid(format!("no hardware model `{name}`"))
            .code_is("E0553")
            .hint(format!("the nearest are {alike}; `kerf cost show --list` shows all")));
    };
    let figures = Figures::parse(model, figures)?;
    (model.make)(&figures)
}

/// Numbers of bits as the analytic models take them.
fn check_bits(weight_bits: u32, activation_bits: u32) -> Result<()> {
    let known = |bits: u32| (1..=8).contains(&bits) || bits == FLOAT_BITS;
    if known(weight_bits) && known(activation_bits) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "no cost for {weight_bits}-bit weights and {activation_bits}-bit activations"
    ))
    .code_is("E0554")
    .hint("numbers of bits are 1 to 8, or 32 for floats"))
}

/// Bytes of a layer's weights, which are stored without gaps.
fn weight_bytes(layer: &LayerShape, weight_bits: u32) -> f64 {
    layer.weights() as f64 * f64::from(weight_bits) / 8.0
}
