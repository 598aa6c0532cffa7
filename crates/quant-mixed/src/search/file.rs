//! What a file holds beside the weights of layers.

use super::SpaceParams;
use crate::bits::Assignment;
use crate::model::Prepared;
use crate::plan::MAX_BITS;
use tensor_core::cost::hardware::{FLOAT_BITS, Hardware, Layer};
use tensor_core::{Error, Graph, Result};

/// Most bytes that lengths and odd numbers of 4-bit integers add to a layer.
const UNEVEN: f64 = 16.0;

/// Bytes of the nodes and constants of a layer's input where its bits are not those of others.
const NARROWED: f64 = 640.0;

/// Bytes of the quantized file that `device` does not count for the layers: nodes, names, and the
/// constants of all other operators. `size` gives the bytes of a graph as a file. Not exact, as names and
/// numbers differ in length, but no plan takes more.
///
/// # Errors
/// As [`Prepared::simulate`]; what the device and `size` say.
pub fn bytes_beside(
    prepared: &Prepared,
    (layers, floats): (&[Layer], &[Layer]),
    device: &dyn Hardware,
    params: &SpaceParams,
    size: impl Fn(Graph) -> Result<usize>,
) -> Result<f64> {
    let cost = |layer: &Layer, bits: u32| -> Result<f64> {
        Ok(device.cost(&layer.shape, bits, params.activations.unwrap_or(bits))?.bytes)
    };
    let sum = |layers: &[Layer], bits: u32| -> Result<f64> {
        layers.iter().map(|layer| cost(layer, bits)).sum()
    };
    let floats = sum(floats, FLOAT_BITS)?;
    let narrow = |bits: u32| {
        u8::try_from(bits).map_err(|_| Error::internal(format!("{bits} bits of a layer")))
    };
    let mut most = 0.0_f64;
    for weights in [params.min_bits, params.max_bits, MAX_BITS] {
        for activations in [params.activations.unwrap_or(params.min_bits), MAX_BITS] {
            let bits = Assignment::uniform(narrow(weights)?, narrow(activations)?);
            let bytes = size(prepared.laid_out(&bits)?)? as f64;
            most = most.max(bytes - sum(layers, weights)? - floats);
        }
    }
    let ends_differ = params.pin_ends && params.activations != Some(MAX_BITS);
    let differ = params.activations.is_none() || !params.pins.is_empty() || ends_differ;
    let of_layer = if differ { UNEVEN + NARROWED } else { UNEVEN };
    Ok(most + of_layer * layers.len() as f64)
}
