//! What calibration samples of each layer, and the memory that it takes.

use crate::units;
use clap::Args;
use serde::Serialize;

/// Flags of methods that walk through a network on calibration data.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Method")]
pub(crate) struct SamplingArgs {
    /// Output positions sampled per image and layer [default: 20 to 80, or 16 rows per input column]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    positions: Option<u32>,
    /// Bytes of activations to hold between layers; less takes longer, the result is the same
    #[arg(long, value_name = "BYTES", default_value = "384MiB", value_parser = units::parse_bytes)]
    memory: u64,
}

impl SamplingArgs {
    /// Positions per image and layer, if they were given.
    pub(crate) fn positions(&self) -> Option<usize> {
        self.positions.map(|n| n as usize)
    }

    /// Bytes of activations.
    pub(crate) fn memory(&self) -> usize {
        usize::try_from(self.memory).unwrap_or(usize::MAX)
    }
}
