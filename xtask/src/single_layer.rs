//! Prunes every layer alone, as figure 4 of He et al. (2017) does.

use crate::step::{run_cargo, say};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::Command;

const NETWORKS: [&str; 2] = ["vgg7", "resnet20"];
/// Shares of the channels that are kept.
const SHARES: [f64; 3] = [0.75, 0.5, 0.25];

/// Prints the reconstruction error of LASSO and of both baselines for every layer and share.
///
/// # Errors
/// When a baseline has the smaller error somewhere.
pub(crate) fn run() -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    say("| layer | channels | LASSO | max-response | first-k |");
    say("|---|---|---|---|---|");
    let (mut rows, mut ties, mut losses) = (0, 0, 0);
    for network in NETWORKS {
        for set in sets(network)? {
            let name = set["name"].as_str().context("a set has no name")?;
            let before = set["before"].as_u64().context("a set has no width")?;
            for share in SHARES {
                let keep = (share * before as f64).round().max(1.0) as u64;
                let result = prune(network, &["--widths", &format!("{name}={keep}")])?;
                let layer = first_cut(&result)?;
                let error = |key: &str| layer[key].as_f64().context("an error is missing");
                let lasso = error("error")?;
                let (most, first) = (error("max_response_error")?, error("first_k_error")?);
                rows += 1;
                ties += usize::from(lasso == most.min(first));
                losses += usize::from(lasso > most.min(first));
                say(&format!(
                    "| {network} {} | {keep}/{before} | {lasso:.5} | {most:.5} | {first:.5} |",
                    layer["key"].as_str().unwrap_or_default()
                ));
            }
        }
    }
    say(&format!(
        "LASSO has the smallest error in {} of {rows} rows, the same in {ties}, a larger in {losses}",
        rows - ties - losses
    ));
    if losses > 0 {
        bail!("a baseline has the smaller error in {losses} rows");
    }
    Ok(())
}

/// The channel sets of a network with their widths.
fn sets(network: &str) -> Result<Vec<Value>> {
    let result = prune(
        network,
        &["--macs", "90%", "--widths", "uniform", "--samples", "32", "--round-to", "1"],
    )?;
    result["pruning"]["sets"].as_array().cloned().context("the report lists no sets")
}

fn prune(network: &str, flags: &[&str]) -> Result<Value> {
    let mut command = Command::new("target/release/kerf");
    command
        .args(["prune", &format!("fixtures/models/{network}_fmnist_folded.onnx")])
        .args(["--data", "fixtures/data/train-1k-images-idx3-ubyte.gz"])
        .args(["--preprocess", "fixtures/preprocess/fmnist.json", "--method", "lasso"])
        .args(["--no-bench", "-o", "target/single_layer.onnx", "--force", "--json"])
        .args(flags);
    let output = command.output().context("starting kerf")?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let document: Value = serde_json::from_slice(&output.stdout)?;
    Ok(document["result"].clone())
}

/// The layer that loses channels; those behind it are only refitted.
fn first_cut(result: &Value) -> Result<Value> {
    let layers = result["pruning"]["layers"].as_array().context("the report lists no layers")?;
    let is_cut = |layer: &&Value| layer["channels_after"] != layer["channels_before"];
    layers.iter().find(is_cut).cloned().context("no layer lost channels")
}
