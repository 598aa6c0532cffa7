//! Import of the cost table that HAQ's authors released.
//!
//! It is an `.npy` array of integers, layers x weight bits x activation bits, with entry `[l, w - 1, a - 1]` in
//! cycles. It names no layers: they are the convolutions and matrix products of one model in order.

use super::Layer;
use super::table::{BitsRule, Header, Row, SCHEMA, Table, damaged};
use crate::Result;
use crate::data::npy_f64s;
use std::path::Path;

/// Bits along the last two axes.
const BITS: usize = 8;

/// Costs by position: layer, weight bits, activation bits.
#[derive(Debug, Clone)]
pub struct Released {
    cycles: Vec<f64>,
}

impl Released {
    /// Reads the array.
    ///
    /// # Errors
    /// `E0556` when its shape is another; `E0202` when the file is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let (dims, cycles) = npy_f64s(path)?;
        match dims.as_slice() {
            [_, BITS, BITS] => Ok(Self { cycles }),
            dims => Err(damaged(format!(
                "{}: shape {dims:?} is not layers x {BITS} x {BITS}",
                path.display()
            ))),
        }
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.cycles.len() / (BITS * BITS)
    }

    /// Cycles of a layer, bits from 1 to 8; `None` outside.
    pub fn cycles(&self, layer: usize, weight_bits: u32, activation_bits: u32) -> Option<f64> {
        let at = |bits: u32| (1..=BITS as u32).contains(&bits).then_some(bits as usize - 1);
        self.cycles.get((layer * BITS + at(weight_bits)?) * BITS + at(activation_bits)?).copied()
    }

    /// The table for the model whose layers these are.
    ///
    /// # Errors
    /// `E0556` when the model has another number of layers.
    pub fn table(&self, layers: &[Layer], clock_mhz: f64, batch: usize) -> Result<Table> {
        if layers.len() != self.layers() {
            return Err(damaged(format!(
                "it has {} layers, the model {}",
                self.layers(),
                layers.len()
            )));
        }
        let mut table = Table::new(Header {
            schema: SCHEMA.to_owned(),
            device: "HAQ's cloud device".to_owned(),
            engine: "BISMO, simulated".to_owned(),
            version: String::new(),
            threads: 1,
            batch,
            date: String::new(),
            bits: BitsRule::Exact,
        });
        for (at, layer) in layers.iter().enumerate() {
            for w_bits in 1..=BITS as u32 {
                for a_bits in 1..=BITS as u32 {
                    let Some(cycles) = self.cycles(at, w_bits, a_bits) else { continue };
                    if table.has(&layer.shape, w_bits, a_bits) {
                        continue;
                    }
                    table.push(Row {
                        shape: layer.shape.clone(),
                        w_bits,
                        a_bits,
                        latency_us: cycles / clock_mhz,
                        energy_uj: None,
                        source: "mit-han-lab/haq".to_owned(),
                        n: 0,
                        std_us: 0.0,
                    })?;
                }
            }
        }
        Ok(table)
    }
}
