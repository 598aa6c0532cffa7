//! What a result must reach against the model that it was made of.

use crate::units;
use clap::Args;
use serde::Serialize;

/// Goals; each that is given must be met.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Goal")]
pub(crate) struct GoalArgs {
    /// Measured latency at most this share of the original's, such as `50%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    pub(crate) latency: Option<f64>,
    /// Measured latency of one sample at most, such as `4ms` or `900us`
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    pub(crate) max_latency: Option<f64>,
    /// Bytes of the file at most this share of the original's, such as `25%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    pub(crate) size: Option<f64>,
    /// Bytes of the file at most, such as `4MiB`
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    pub(crate) max_size: Option<u64>,
    /// Multiply-accumulates at most this share of the original's, such as `50%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    pub(crate) macs: Option<f64>,
    /// Most points of top-1 accuracy that may be lost, such as `0.5%`; needs labels
    #[arg(long, value_name = "POINTS", value_parser = units::parse_percentage)]
    pub(crate) max_drop: Option<f64>,
    /// Least share of samples for which both name the same class, such as `95%`; needs no labels
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_share)]
    pub(crate) min_agreement: Option<f64>,
}

impl GoalArgs {
    /// Is there any goal?
    pub(crate) fn is_any(&self) -> bool {
        self.is_resource() || self.max_drop.is_some() || self.min_agreement.is_some()
    }

    /// Is there a goal for what the model takes, beside those for its accuracy?
    pub(crate) fn is_resource(&self) -> bool {
        self.is_timed() || self.is_sized() || self.macs.is_some()
    }

    /// Is there a goal for the bytes of the file?
    pub(crate) fn is_sized(&self) -> bool {
        self.size.is_some() || self.max_size.is_some()
    }

    /// Does it need a measured latency?
    pub(crate) fn is_timed(&self) -> bool {
        self.latency.is_some() || self.max_latency.is_some()
    }
}
