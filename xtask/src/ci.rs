//! Everything that CI runs, in the order that finds cheap mistakes first.

use crate::step::{Steps, run_cargo, succeed};
use crate::workspace::cargo;
use crate::{alone, api, docs, readme, tidy};
use anyhow::Result;

/// Runs all steps, or those whose name contains `only`.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    let mut steps = Steps::new(only);
    steps.step("fmt", || run_cargo("fmt --all --check"))?;
    steps.step("tidy", tidy::run)?;
    steps.step("clippy", || {
        run_cargo("clippy --release --workspace --all-targets -- -D warnings")
    })?;
    steps.step("tests", || run_cargo("nextest run --release --workspace --no-fail-fast"))?;
    steps.step("doctests", || run_cargo("test --quiet --doc --release --workspace"))?;
    steps.step("docs", || {
        let mut command = cargo();
        command.args(["doc", "--quiet", "--release", "--no-deps", "--workspace"]);
        succeed(command.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.step("api", api::check)?;
    // The README's commands have built the binary that the documents are checked against.
    steps.step("readme", || readme::run().and_then(|()| docs::check()))?;
    steps.step("alone", alone::run)?;
    // The program alone is built again: everything below it has the same features.
    steps.step("mpi", || {
        let features = "--release --workspace --features kerf-cli/mpi";
        run_cargo(&format!("clippy {features} --bin kerf --test mpi -- -D warnings"))?;
        // Processes that wait for each other keep processors busy: one test at a time.
        run_cargo(&format!("nextest run {features} --test mpi --test processes --test-threads 1"))
    })?;
    steps.finish()
}
