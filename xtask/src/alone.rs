//! Each library crate builds alone, with and without its default features.

use crate::step::{run_cargo, say};
use crate::workspace::packages;
use anyhow::Result;

/// Packages that are not used alone.
const NOT_LIBRARIES: [&str; 2] = ["kerf-benches", "xtask"];

pub(crate) fn run() -> Result<()> {
    for package in packages()? {
        let name = &package.name;
        if NOT_LIBRARIES.contains(&name.as_str()) {
            continue;
        }
        say(&format!("{name}: default features"));
        run_cargo(&format!("check --quiet --release -p {name}"))?;
        if package.has_default_features {
            say(&format!("{name}: no default features"));
            run_cargo(&format!("check --quiet --release -p {name} --no-default-features"))?;
        }
    }
    Ok(())
}
