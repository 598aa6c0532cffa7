//! Flags that name a device.

use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use tensor_core::cost::hardware::{self, Hardware, Table};
use tensor_core::{Error, ErrorKind, Result};

/// What layers cost, and on what.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Device")]
pub(crate) struct HardwareArgs {
    /// A hardware model, with figures behind it: `bismo-edge`, `roofline:peak=2e12,bandwidth=2e10`
    /// (`kerf cost show --list`)
    #[arg(long, value_name = "NAME", conflicts_with = "cost")]
    pub(crate) hardware: Option<String>,
    /// A cost table, such as `kerf cost measure` writes
    #[arg(long, value_name = "TABLE")]
    pub(crate) cost: Option<PathBuf>,
}

impl HardwareArgs {
    /// The device, or one that needs no figures where none was named.
    pub(crate) fn open_or(&self, preset: &str) -> Result<Box<dyn Hardware>> {
        match (&self.hardware, &self.cost) {
            (None, None) => hardware::find(preset),
            _ => self.open(),
        }
    }

    /// The device.
    pub(crate) fn open(&self) -> Result<Box<dyn Hardware>> {
        match (&self.hardware, &self.cost) {
            (Some(spec), _) => hardware::find(spec),
            (None, Some(path)) => Ok(Box::new(Table::read(path)?)),
            (None, None) => Err(Error::new(ErrorKind::Invalid, "E0010", "no device was given")
                .hint("`--hardware NAME` (`kerf cost show --list` shows all) or `--cost TABLE`")),
        }
    }
}
