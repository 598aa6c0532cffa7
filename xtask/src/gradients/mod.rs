//! Reference values of PyTorch, by libtorch: gradients of operators, steps of optimizers, losses.
//!
//! Everything is computed in double precision, so that what is stored is right to the last digit of
//! single precision and differences found by a test are those of the code under test.

mod case;
mod convolutions;
mod elementwise;
mod normalizations;
mod pools;
mod products;
mod rearrangements;
mod reductions;
mod resizes;
mod steps;

use crate::step::say;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// What made a file.
#[derive(Serialize)]
struct Versions {
    tch: String,
    libtorch: String,
}

impl Versions {
    fn of_this_build() -> Result<Self> {
        let lock = fs::read_to_string("Cargo.lock").context("reading Cargo.lock")?;
        let mut lines = lock.lines().skip_while(|line| *line != "name = \"tch\"");
        let Some(version) = lines.nth(1).and_then(|line| line.strip_prefix("version = ")) else {
            bail!("Cargo.lock has no version of tch");
        };
        let folder = std::env::var("LIBTORCH").context(
            "LIBTORCH does not name the folder of libtorch; fixtures/train/README.md says how to make it",
        )?;
        let file = Path::new(&folder).join("build-version");
        let libtorch =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let libtorch = libtorch.trim().to_owned();
        Ok(Self { tch: version.trim_matches('"').to_owned(), libtorch })
    }
}

/// Writes both files into a folder.
pub(crate) fn run(to: &Path) -> Result<()> {
    tch::set_num_threads(1);
    let versions = serde_json::to_string(&Versions::of_this_build()?)?;
    let cases = [
        convolutions::cases(),
        elementwise::cases(),
        normalizations::cases(),
        pools::cases(),
        products::cases(),
        rearrangements::cases(),
        reductions::cases(),
        resizes::cases(),
    ];
    let mut lines = Vec::new();
    for case in cases.iter().flatten() {
        lines.push(serde_json::to_string(&case.computed()?)?);
    }
    let cases = lines.join(",\n");
    write(&to.join("gradients.json"), &format!("\"cases\":[\n{cases}\n]"), &versions)?;
    let steps = serde_json::to_string(&steps::computed()?)?;
    write(&to.join("steps.json"), &format!("\"steps\":{steps}"), &versions)
}

fn write(file: &Path, content: &str, versions: &str) -> Result<()> {
    let text = format!("{{\"versions\":{versions},\n{content}}}\n");
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    say(&file.display().to_string());
    Ok(())
}
