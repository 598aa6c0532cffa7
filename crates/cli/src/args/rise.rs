//! How sparsity rises over a training run.

use crate::flags;
use clap::Args;
use magnitude_schedule::ShapeChoice;
use magnitude_schedule::train::{SparseParams, When};
use serde::Serialize;

/// Flags of gradual pruning that say when.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct RiseArgs {
    /// How sparsity rises: polynomial (`polynomial:exponent=3`), linear, exponential, constant or
    /// one-shot
    #[arg(long, value_name = "NAME", default_value = "polynomial", value_parser = flags::read::<ShapeChoice>)]
    sparsity_schedule: ShapeChoice,
    /// When pruning begins: steps, epochs such as `0.5ep`, or a share of the run such as `10%`
    #[arg(long, value_name = "WHEN", default_value = "0%", value_parser = flags::read::<When>)]
    sparsity_begin: When,
    /// When the final sparsity is reached
    #[arg(long, value_name = "WHEN", default_value = "50%", value_parser = flags::read::<When>)]
    sparsity_end: When,
    /// From one update to the next [default: a hundredth of the way]
    #[arg(long, value_name = "WHEN", value_parser = read_distance)]
    sparsity_every: Option<When>,
}

/// Reads the distance of two updates, which is not zero.
fn read_distance(text: &str) -> Result<When, String> {
    match flags::read(text)? {
        When::Step(0) | When::Epoch(0.0) | When::Share(0.0) => {
            Err("updates should be at least a step apart".to_owned())
        }
        distance => Ok(distance),
    }
}

impl RiseArgs {
    /// Parameters with this rise, and otherwise the defaults.
    pub(crate) fn params(&self) -> SparseParams {
        SparseParams {
            shape: self.sparsity_schedule,
            begin: self.sparsity_begin,
            end: self.sparsity_end,
            every: self.sparsity_every,
            ..SparseParams::default()
        }
    }
}
