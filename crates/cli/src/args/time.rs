//! A budget of time, with the device that it is for.

use super::HardwareArgs;
use crate::units;
use clap::Args;
use lasso_prune::{Budget, Limit};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use tensor_core::cost::Price;
use tensor_core::{Error, ErrorKind, Result};

/// Flags of time; the budget is one of those of which there may be one.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Budget of time")]
pub(crate) struct TimeArgs {
    /// Share of the time to keep that the network takes a device in 32-bit floats, such as `60%`: by
    /// `--cost`, a table as `kerf cost measure` writes it, or by `--hardware`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept, group = "budget")]
    latency: Option<f64>,
    /// Time at most, such as `12ms`
    #[arg(long, value_name = "TIME", value_parser = units::parse_time, group = "budget")]
    max_latency: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    device: HardwareArgs,
}

impl TimeArgs {
    /// How much time may be left, at most in microseconds.
    pub(crate) fn limit(&self) -> Option<Limit> {
        self.latency.map(Limit::Keep).or(self.max_latency.map(Limit::AtMost))
    }

    /// The cost table, if one was given.
    pub(crate) fn table(&self) -> Option<&Path> {
        self.device.cost.as_deref()
    }

    /// The budget, if one of time was given.
    ///
    /// # Errors
    /// `E0010` for a device without a budget of time, or the other way round; when its table cannot be
    /// read.
    pub(crate) fn budget(&self) -> Result<Option<Budget>> {
        if let Some(limit) = self.limit() {
            let price = Price::Latency(Arc::from(self.device.open()?));
            return Ok(Some(Budget { price, limit }));
        }
        if self.device.hardware.is_some() || self.device.cost.is_some() {
            let message = "a device is given, but no budget of time";
            return Err(Error::new(ErrorKind::Invalid, "E0010", message).hint(
                "say how much of its time may be left: `--latency 60%` or `--max-latency 4ms`",
            ));
        }
        Ok(None)
    }
}
