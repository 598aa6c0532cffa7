//! Nothing but size.

use super::{
    FLOAT_BITS, Figures, Hardware, LayerCost, LayerShape, Model, check_bits, weight_bytes,
};
use crate::Result;

/// Bits without gaps, as HAQ counts them.
pub(super) const BITS: Model = Model {
    name: "size",
    summary: "Bytes of the weights only, in bits without gaps (as HAQ counts)",
    figures: &[],
    make: |_: &Figures| Ok(Box::new(Size { name: BITS.name, bytes: weight_bytes, is_file: false })),
};

/// Bytes of an ONNX file, which has no integers of 1 to 3 or of 5 to 7 bits.
pub(super) const ONNX: Model = Model {
    name: "size-onnx",
    summary: "Bytes in an ONNX file: weights in 4 or 8 bits, with scales and biases; a search adds nodes and names",
    figures: &[],
    make: |_: &Figures| Ok(Box::new(Size { name: ONNX.name, bytes: onnx_bytes, is_file: true })),
};

struct Size {
    name: &'static str,
    bytes: fn(&LayerShape, u32) -> f64,
    is_file: bool,
}

impl Hardware for Size {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn batch(&self) -> usize {
        1
    }

    fn counts_a_file(&self) -> bool {
        self.is_file
    }

    fn cost(
        &self,
        layer: &LayerShape,
        weight_bits: u32,
        activation_bits: u32,
    ) -> Result<LayerCost> {
        check_bits(weight_bits, activation_bits)?;
        Ok(LayerCost { bytes: (self.bytes)(layer, weight_bits), ..LayerCost::default() })
    }
}

/// Each output has a bias and, beside integers, the scales of its weights and of its bias and the zero
/// point of its weights.
fn onnx_bytes(layer: &LayerShape, weight_bits: u32) -> f64 {
    let stored = match weight_bits {
        FLOAT_BITS => FLOAT_BITS,
        1..=4 => 4,
        _ => 8,
    };
    let bias = 4.0;
    let grid = if stored == FLOAT_BITS { 0.0 } else { 8.0 + f64::from(stored) / 8.0 };
    weight_bytes(layer, stored) + layer.cout as f64 * (bias + grid)
}
