//! Times pruning against the straightforward Python version, in turn, in one run.

use crate::step::{run_cargo, say};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

const MODEL: &str = "fixtures/models/vgg7_fmnist_folded.onnx";
const IMAGES: &str = "fixtures/data/train-1k-images-idx3-ubyte.gz";
/// Times each command runs.
const ROUNDS: usize = 3;

/// Ours, by label and flags. The first does what the Python version does.
const OURS: [(&str, &[&str]); 2] = [
    (
        "kerf, LASSO, uniform widths, 20 positions",
        &["--method", "lasso", "--widths", "uniform", "--positions", "20"],
    ),
    ("kerf, the default", &[]),
];

/// Prints the seconds of each command, least of [`ROUNDS`], and the ratio to Python's.
///
/// `python` needs PyTorch, scikit-learn and onnx.
pub(crate) fn run(python: &str) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut theirs = f64::INFINITY;
    let mut ours = [f64::INFINITY; OURS.len()];
    for _ in 0..ROUNDS {
        let mut command = Command::new(python);
        command.args(["benches/python/lasso_prune.py", MODEL, IMAGES, "0.7", "target/python.npz"]);
        theirs = theirs.min(seconds(&mut command)?);
        for ((_, flags), least) in OURS.iter().zip(&mut ours) {
            let mut command = Command::new("target/release/kerf");
            command.args(["prune", MODEL, "--data", IMAGES, "--macs", "50%", "--no-bench"]);
            command.args(["--preprocess", "fixtures/preprocess/fmnist.json", "--round-to", "1"]);
            command.args(["-o", "target/side_by_side.onnx", "--force"]).args(*flags);
            *least = least.min(seconds(&mut command)?);
        }
    }
    say(&format!("{theirs:7.1} s  PyTorch and scikit-learn, least of {ROUNDS}"));
    for ((label, _), ours) in OURS.iter().zip(ours) {
        say(&format!("{ours:7.1} s  {label}: {:.1} times faster", theirs / ours));
    }
    Ok(())
}

/// Wall time of a whole process.
fn seconds(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(start.elapsed().as_secs_f64())
}
