//! Times training steps against PyTorch, in turn, in one run.

use crate::step::{run_cargo, say};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

const NETWORKS: [&str; 2] = ["vgg7", "resnet20"];
const BATCH: usize = 128;
/// Steps that are timed, and those before them in which memory is taken.
const STEPS: usize = 12;
const WARM_UP: usize = 3;
/// Times each measurement runs.
const ROUNDS: usize = 3;

/// Prints images per second of Kerf, of PyTorch in f32 and in bf16 (best of [`ROUNDS`]), and the
/// ratios.
///
/// `python` needs PyTorch.
pub(crate) fn run(python: &str) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    say("| network | threads | Kerf f32 | PyTorch f32 | ratio | PyTorch bf16 | ratio |");
    say("|---|---|---|---|---|---|---|");
    for network in NETWORKS {
        for threads in [1, 2] {
            let (mut ours, mut theirs, mut half) = (0.0_f64, 0.0_f64, 0.0_f64);
            for _ in 0..ROUNDS {
                ours = ours.max(kerf(network, threads)?);
                theirs = theirs.max(torch(python, network, threads, &[])?);
                half = half.max(torch(python, network, threads, &["bf16"])?);
            }
            say(&format!(
                "| {network} | {threads} | {ours:.0} | {theirs:.0} | {:.2} | {half:.0} | {:.2} |",
                ours / theirs,
                ours / half
            ));
        }
    }
    Ok(())
}

/// Images per second, from the difference of a longer and a shorter run.
fn kerf(network: &str, threads: usize) -> Result<f64> {
    let seconds = |steps: usize| -> Result<f64> {
        let mut command = Command::new("target/release/kerf");
        command
            .args(["train", &format!("fixtures/models/{network}_fmnist_bn.onnx"), "--reinit"])
            .args(["--data", "fixtures/data/train-1k-images-idx3-ubyte.gz"])
            .args(["--preprocess", "fixtures/preprocess/fmnist.json", "--no-verify"])
            .args(["-o", "target/train_speed.onnx", "--force", "--lr", "0.01"])
            .args(["--batch", &BATCH.to_string(), "--steps", &steps.to_string()])
            .args(["--threads", &threads.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status().with_context(|| format!("{command:?}"))?;
        if !status.success() {
            bail!("{command:?} ended with {status}");
        }
        Ok(start.elapsed().as_secs_f64())
    };
    let few = seconds(WARM_UP)?;
    Ok((BATCH * STEPS) as f64 / (seconds(WARM_UP + STEPS)? - few))
}

/// Images per second that the script prints.
fn torch(python: &str, network: &str, threads: usize, flags: &[&str]) -> Result<f64> {
    let mut command = Command::new(python);
    let (threads, steps) = (threads.to_string(), STEPS.to_string());
    command.args(["benches/python/train.py", network, &threads, &steps]).args(flags);
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.split_whitespace().next().and_then(|word| word.parse().ok());
    rate.with_context(|| format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
