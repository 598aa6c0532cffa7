//! The binary as a user would call it.

use crate::fashion_mnist::FashionMnist;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::Command;

/// A command of the built binary.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("target/release/kerf");
    command.args(arguments);
    command
}

/// Runs a command that replaces its output, and returns its JSON document.
pub(crate) fn run(command: &mut Command) -> Result<Value> {
    json(command.arg("--force"))
}

/// Runs a command and returns its JSON document.
pub(crate) fn json(command: &mut Command) -> Result<Value> {
    let output = command.arg("--json").output().context("starting kerf")?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Accuracy of a model on the test images, in percent.
pub(crate) fn evaluate(model: &str, data: &FashionMnist) -> Result<f64> {
    let report = json(FashionMnist::reads(&mut command(&["eval", model]), data.test()))?;
    let top1 = report["result"]["accuracy"]["top1"].as_f64();
    top1.map(|top1| 100.0 * top1).context("the report has no accuracy")
}
