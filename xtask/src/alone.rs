//! Each library crate builds alone, with and without its default features.

use crate::step::{run_cargo, say};
use crate::workspace::{cargo, packages};
use anyhow::{Result, bail};

/// Packages that are not used alone.
const NOT_LIBRARIES: [&str; 2] = ["kerf-benches", "xtask"];

/// Packages that nobody who wants distillation losses for candle should have to build.
const HEAVY: [&str; 5] = ["tensor-core", "prost", "image", "ort", "rten"];

pub(crate) fn run() -> Result<()> {
    light("kd-loss")?;
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

/// Nothing heavy in the tree of a package with its default features.
fn light(package: &str) -> Result<()> {
    let arguments = ["tree", "--edges", "normal", "--prefix", "none", "-p", package];
    let output = cargo().args(arguments).output()?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    }
    match heavy(&String::from_utf8_lossy(&output.stdout)) {
        Some(found) => bail!("{package} builds {found}"),
        None => Ok(()),
    }
}

/// The first heavy package in the lines of `cargo tree`.
fn heavy(tree: &str) -> Option<&str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).find(|name| HEAVY.contains(name))
}

#[cfg(test)]
mod tests {
    use super::heavy;

    #[test]
    fn heavy_packages_are_found() {
        assert_eq!(heavy("kd-loss v0.1.0 (/x)\ncandle-core v0.11.1\n"), None);
        assert_eq!(heavy("kd-loss v0.1.0\nprost v0.14.0\n"), Some("prost"));
    }
}
