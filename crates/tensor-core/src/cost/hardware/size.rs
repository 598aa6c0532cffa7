//! Nothing but the size of the weights.

use super::{Figures, Hardware, LayerCost, LayerShape, Model, check_bits, weight_bytes};
use crate::Result;

pub(super) const MODEL: Model = Model {
    name: "size",
    summary: "Bytes of the weights only",
    figures: &[],
    make: |_: &Figures| Ok(Box::new(Size)),
};

struct Size;

impl Hardware for Size {
    fn name(&self) -> String {
        MODEL.name.to_owned()
    }

    fn batch(&self) -> usize {
        1
    }

    fn cost(
        &self,
        layer: &LayerShape,
        weight_bits: u32,
        activation_bits: u32,
    ) -> Result<LayerCost> {
        check_bits(weight_bits, activation_bits)?;
        Ok(LayerCost { bytes: weight_bytes(layer, weight_bits), ..LayerCost::default() })
    }
}
