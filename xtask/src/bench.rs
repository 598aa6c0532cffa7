//! Runs the criterion benches.

use crate::step::{run_cargo, say};
use anyhow::Result;

/// Benches whose name contains `filter`, or all of them.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    say("benches: compare ratios, not absolute times, on a shared machine");
    run_cargo(&format!("bench --workspace --benches -- {}", filter.unwrap_or_default()))
}
