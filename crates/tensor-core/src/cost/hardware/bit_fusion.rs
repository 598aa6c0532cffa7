//! A spatial array of fusion units in the manner of Bit Fusion (Sharma et al., ISCA 2018).
//!
//! A fusion unit is 16 multipliers of 2 bits. It carries out one product of 8 x 8 bits in a cycle, or 2 of
//! 8 x 4, 4 of 4 x 4, up to 16 of 2 x 2: operands take the next width of 2, 4 or 8 bits, which is why 6 bits
//! gain next to nothing over 8 in HAQ's tables 4 and 5. The array is systolic: what is summed over lies
//! along its rows, outputs along its columns.
//!
//! * compute cycles: `ceil(K / (rows p)) ceil(cout / columns) positions batch`, with p products per unit and
//!   cycle; a depthwise layer fills one column for each channel;
//! * memory cycles: weights once per batch, inputs and outputs, with the bits that they have, over a channel of
//!   `bandwidth` bits per cycle; both overlap.
//!
//! 32 rows of 16 units at 500 MHz and batches of 16 are the configuration of the Bit Fusion paper as we remember
//! it. 256 bits per cycle are our own choice, with which MobileNet-V1 has the relative latencies of HAQ's table
//! 4 within 0.02 (W4A4 0.391, W6A4 0.553, W6A6 0.996 of 8 bits); HAQ gives no parameters. Energy is that of `energy.rs`: products by the width that they take, weights
//! and inputs read from SRAM once for each tile of the other, and what goes to and from DRAM.

use super::{
    Figures, Hardware, LayerCost, LayerKind, LayerShape, Model, check_bits, energy, weight_bytes,
};
use crate::Result;

pub(super) const MODEL: Model = Model {
    name: "bitfusion",
    summary: "Spatial array of 2-bit fusion units, 32 x 16 at 500 MHz, batch 16 (Bit Fusion)",
    figures: &[
        ("rows", "rows of the array"),
        ("columns", "columns of the array"),
        ("bandwidth", "bits per cycle from and to memory"),
        ("batch", "samples of a run"),
        ("clock-mhz", "clock"),
    ],
    make,
};

struct BitFusion {
    name: String,
    rows: u64,
    columns: u64,
    bandwidth: u64,
    batch: usize,
    clock_mhz: f64,
}

fn make(figures: &Figures) -> Result<Box<dyn Hardware>> {
    Ok(Box::new(BitFusion {
        name: figures.behind(MODEL.name),
        rows: figures.whole("rows", 32)? as u64,
        columns: figures.whole("columns", 16)? as u64,
        bandwidth: figures.whole("bandwidth", 256)? as u64,
        batch: figures.whole("batch", 16)?,
        clock_mhz: figures.or("clock-mhz", 500.0),
    }))
}

/// Bits that an operand takes in a fusion unit: 2, 4 or 8; wider ones take several passes of 8.
fn fused(bits: u32) -> u64 {
    match bits {
        0..=2 => 2,
        3..=4 => 4,
        bits => u64::from(bits.div_ceil(8)) * 8,
    }
}

impl Hardware for BitFusion {
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
        let (w, a) = (u64::from(weight_bits), u64::from(activation_bits));
        let passes = fused(weight_bits) * fused(activation_bits);
        let positions = layer.positions() * self.batch as u64;
        let groups = if layer.op == LayerKind::Depthwise { 1 } else { layer.groups.max(1) as u64 };
        let columns = (layer.cout as u64 / groups).div_ceil(self.columns);
        // A unit does 64 / passes products in a cycle, side by side along the depth.
        let tiles = (layer.depth() * passes).div_ceil(self.rows * 64);
        let compute = groups * tiles * columns * positions;
        let inputs = layer.inputs() * self.batch as u64;
        let outputs = layer.outputs() * self.batch as u64;
        let moved = layer.weights() * w + (inputs + outputs) * a;
        let memory = moved.div_ceil(self.bandwidth);
        let macs = layer.macs() as f64 * self.batch as f64;
        // Inputs pass along all columns of a tile, weights stay while the rows of a batch pass.
        let reads = macs / self.columns.min(layer.cout as u64) as f64 * a as f64
            + (layer.weights() * w) as f64;
        let energy_pj = macs * passes as f64 / energy::FULL_PRODUCTS * energy::MAC_PJ
            + reads * energy::SRAM_PJ_PER_BIT
            + moved as f64 * energy::DRAM_PJ_PER_BIT;
        Ok(LayerCost {
            latency_us: Some(compute.max(memory) as f64 / self.clock_mhz),
            energy_uj: Some(energy_pj * 1e-6),
            bytes: weight_bytes(layer, weight_bits),
            interpolated: false,
        })
    }
}
