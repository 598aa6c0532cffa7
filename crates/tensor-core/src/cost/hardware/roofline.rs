//! A roofline: `max(MACs w a / 64 / peak, bytes / bandwidth)`, with figures from the user.

use super::{Figures, Hardware, LayerCost, LayerShape, Model, check_bits, energy, weight_bytes};
use crate::Result;

pub(super) const MODEL: Model = Model {
    name: "roofline",
    summary: "Peak and bandwidth that you give: the longer of compute and memory",
    figures: &[
        ("peak", "8-bit multiply-accumulates per second [1e12]"),
        ("bandwidth", "bytes per second from and to memory [1e10]"),
        ("batch", "samples of a run [1]"),
        ("min-bits", "bits below which products get no faster [1]"),
        ("mac-pj", "picojoules of an 8-bit multiply-accumulate [0.3]"),
        ("byte-pj", "picojoules of a byte from or to memory [162.5]"),
    ],
    make,
};

struct Roofline {
    name: String,
    peak: f64,
    bandwidth: f64,
    batch: usize,
    min_bits: u32,
    mac_pj: f64,
    byte_pj: f64,
}

fn make(figures: &Figures) -> Result<Box<dyn Hardware>> {
    Ok(Box::new(Roofline {
        name: figures.behind(MODEL.name),
        peak: figures.or("peak", 1e12),
        bandwidth: figures.or("bandwidth", 1e10),
        batch: figures.whole("batch", 1)?,
        min_bits: figures.whole("min-bits", 1)? as u32,
        mac_pj: figures.or("mac-pj", energy::MAC_PJ),
        byte_pj: figures.or("byte-pj", 8.0 * energy::DRAM_PJ_PER_BIT),
    }))
}

impl Hardware for Roofline {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn cost(
        &self,
        layer: &LayerShape,
        weight_bits: u32,
        activation_bits: u32,
    ) -> Result<LayerCost> {
        check_bits(weight_bits, activation_bits)?;
        let (w, a) = (weight_bits.max(self.min_bits), activation_bits.max(self.min_bits));
        let batch = self.batch as f64;
        let macs = layer.macs() as f64 * batch * f64::from(w * a) / energy::FULL_PRODUCTS;
        let values = (layer.inputs() + layer.outputs()) as f64 * batch;
        let bytes = weight_bytes(layer, weight_bits) + values * f64::from(activation_bits) / 8.0;
        let seconds = (macs / self.peak).max(bytes / self.bandwidth);
        Ok(LayerCost {
            latency_us: Some(seconds * 1e6),
            energy_uj: Some((macs * self.mac_pj + bytes * self.byte_pj) * 1e-6),
            bytes: weight_bytes(layer, weight_bits),
            interpolated: false,
        })
    }
}
