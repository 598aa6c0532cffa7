//! Flags that say what is proved about a result.

use crate::units;
use clap::Args;
use serde::Serialize;

/// What is proved about the result.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Proof")]
pub(crate) struct ProofArgs {
    /// Do not check the written file in another engine
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Largest difference between the engines, relative to the output range
    #[arg(long, value_name = "RATIO", default_value_t = 1e-3)]
    pub(crate) tolerance: f64,
    /// Exit 1 when top-1 accuracy drops by more points than this, such as `0.5%`
    #[arg(long, value_name = "POINTS", value_parser = units::parse_percentage)]
    pub(crate) assert_max_drop: Option<f64>,
}
