//! A bit-serial matrix array in the manner of BISMO (Umuroglu et al., 2018), as HAQ's edge and cloud
//! devices.
//!
//! An array of `D x D` processing elements multiplies `depth` one-bit weights by as many one-bit
//! activations in each cycle, one pair of bit planes after the other, so a product takes
//! `weight bits x activation bits` passes. Convolutions are matrix products of patches, image after image:
//!
//! * compute cycles: `ceil(rows / D) ceil(cout / D) ceil(K / depth) w a`, with `rows` output positions and
//!   K the length of a patch;
//! * activations: each patch is padded to whole words of `depth` bits, and comes in over a port of its own,
//!   plane by plane; weights likewise over theirs, once for each image;
//! * transfers and compute overlap: a layer takes the longest of the three.
//!
//! In depthwise layers positions and channels fill both sides of the array, and the patches of D positions
//! are packed into words. In matrix products the samples of a batch are the rows.
//!
//! Parameters are those of HAQ (Wang et al. 2019, section 4): edge is a Zynq-7020 with 8 x 8 elements, ports
//! of 64 bits and batches of 1, cloud a VU9P with 16 x 16 elements, ports of 256 bits and batches of 16.
//! The depth is 256 for both: the released cost table shows it (a layer with K = 16 takes as long as one
//! with 256), and it is that of BISMO's largest instance on the edge device, as we remember it. The one
//! cloud table that was released is met within 0.2 % in its sum and mostly a few per cent in its layers.
//! Clocks, 125 and 209 MHz, are such that MobileNet-V2 at 8 bits takes the published 115.84 and
//! 189.82 ms; they have no influence on relative budgets. HAQ gives no energies for these devices; ours are
//! those of `energy.rs`.

use super::{
    Figures, Hardware, LayerCost, LayerKind, LayerShape, Model, check_bits, energy, weight_bytes,
};
use crate::Result;

const FIGURES: &[(&str, &str)] = &[
    ("side", "processing elements on each side of the array"),
    ("depth", "bits that an element multiplies in a cycle"),
    ("port", "bits of the port of each operand"),
    ("batch", "samples of a run"),
    ("clock-mhz", "clock"),
];

pub(super) const EDGE: Model = Model {
    name: "bismo-edge",
    summary: "Bit-serial array of 8 x 8 with ports of 64 bits, batch 1 (HAQ's Zynq-7020)",
    figures: FIGURES,
    make: |figures| make("bismo-edge", figures, [8, 64, 1], 125.3),
};

pub(super) const CLOUD: Model = Model {
    name: "bismo-cloud",
    summary: "Bit-serial array of 16 x 16 with ports of 256 bits, batch 16 (HAQ's VU9P)",
    figures: FIGURES,
    make: |figures| make("bismo-cloud", figures, [16, 256, 16], 208.6),
};

struct BitSerial {
    name: String,
    side: u64,
    depth: u64,
    port: u64,
    batch: usize,
    clock_mhz: f64,
}

fn make(
    name: &str,
    figures: &Figures,
    [side, port, batch]: [usize; 3],
    clock_mhz: f64,
) -> Result<Box<dyn Hardware>> {
    Ok(Box::new(BitSerial {
        name: figures.behind(name),
        side: figures.whole("side", side)? as u64,
        depth: figures.whole("depth", 256)? as u64,
        port: figures.whole("port", port)? as u64,
        batch: figures.whole("batch", batch)?,
        clock_mhz: figures.or("clock-mhz", clock_mhz),
    }))
}

/// Cycles for each pair of bit planes, and cycles for each plane of activations and of weights.
struct Planes {
    products: u64,
    activations: u64,
    weights: u64,
}

impl BitSerial {
    /// Cycles that one plane of so many words takes.
    fn words(&self, words: u64) -> u64 {
        (words * self.depth).div_ceil(self.port)
    }

    fn planes(&self, layer: &LayerShape) -> Planes {
        let batch = self.batch as u64;
        let (images, rows) = match layer.op {
            LayerKind::Linear => (1, batch * layer.positions()),
            LayerKind::Conv | LayerKind::Depthwise => (batch, layer.positions()),
        };
        let (depth, cout) = (layer.depth(), layer.cout as u64);
        let words = depth.div_ceil(self.depth);
        let tiles = rows.div_ceil(self.side);
        if layer.op == LayerKind::Depthwise {
            let packed = (self.side * depth).div_ceil(self.depth);
            return Planes {
                products: images * tiles * cout.div_ceil(self.side) * words,
                activations: images * cout * self.words(tiles * packed),
                weights: images * self.words(cout * words),
            };
        }
        let groups = layer.groups.max(1) as u64;
        let columns = (cout / groups).div_ceil(self.side);
        Planes {
            products: images * groups * tiles * columns * words,
            activations: images * groups * self.words(rows * words),
            weights: images * self.words(cout * words),
        }
    }
}

impl Hardware for BitSerial {
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
        let planes = self.planes(layer);
        let (w, a) = (u64::from(weight_bits), u64::from(activation_bits));
        let cycles = (planes.products * w * a).max(planes.activations * a).max(planes.weights * w);
        let macs = (layer.macs() * self.batch as u64) as f64;
        let moved = (planes.activations * a + planes.weights * w) * self.port;
        let written = layer.outputs() * self.batch as u64 * a;
        let energy_pj = macs * (w * a) as f64 / energy::FULL_PRODUCTS * energy::MAC_PJ
            + (moved + written) as f64 * energy::DRAM_PJ_PER_BIT;
        Ok(LayerCost {
            latency_us: Some(cycles as f64 / self.clock_mhz),
            energy_uj: Some(energy_pj * 1e-6),
            bytes: weight_bytes(layer, weight_bits),
            interpolated: false,
        })
    }
}
