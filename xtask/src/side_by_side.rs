//! Times pruning against the straightforward Python version, in turn, in one run.

use crate::fashion_mnist::FashionMnist;
use crate::step::{run_cargo, say};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

const MODEL: &str = "fixtures/models/vgg7_fmnist_folded.onnx";
const IMAGES: &str = "fixtures/data/train-1k-images-idx3-ubyte.gz";
/// Data, and what runs the Python version.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// A Python with PyTorch, scikit-learn and onnx
    #[arg(long, default_value = "python3")]
    python: String,
}

/// Times each command runs.
const ROUNDS: usize = 3;

/// Ours, by label and flags. The first does what the Python version does, the second also exchanges
/// channels.
const OURS: [(&str, &[&str]); 3] = [
    (
        "kerf, LASSO, uniform widths, 20 positions",
        &["--method", "lasso", "--exchanges", "0", "--widths", "uniform", "--positions", "20"],
    ),
    (
        "kerf, the same with exchanges",
        &["--method", "lasso", "--widths", "uniform", "--positions", "20"],
    ),
    ("kerf, the default", &[]),
];

/// Prints the seconds of each command, least of [`ROUNDS`], and the ratio to Python's: for the whole
/// process, and for the pruning alone as each program states it.
///
/// The whole of kerf is reading, pruning, writing, the check of the written file and the comparison
/// with the original in ONNX Runtime; that of Python has neither check nor comparison. Pruning alone
/// leaves out start-up, reading, writing and proof on both sides, and includes the errors of the
/// baselines and the check of the cut on ours.
///
/// The Python needs PyTorch, scikit-learn and onnx.
pub(crate) fn run(Options { data, python }: &Options) -> Result<()> {
    run_cargo("build --release --workspace")?;
    let mut theirs = Seconds::default();
    let mut ours = [Seconds::default(); OURS.len()];
    for _ in 0..ROUNDS {
        let mut command = Command::new(python);
        command.args(["benches/python/lasso_prune.py", MODEL, IMAGES]);
        command.arg(data.test()).arg(data.test_labels()).arg("0.5");
        theirs.least(seconds(&mut command, "\"seconds\": ")?);
        for ((_, flags), least) in OURS.iter().zip(&mut ours) {
            let mut command = Command::new("target/release/kerf");
            command.args(["prune", MODEL, "--data", IMAGES, "--macs", "50%", "--no-bench"]);
            command.args(["--preprocess", "fixtures/preprocess/fmnist.json", "--round-to", "1"]);
            command.args(["-o", "target/side_by_side.onnx", "--force"]).args(*flags);
            least.least(seconds(&mut command, "pruned in ")?);
        }
    }
    say(&format!("least of {ROUNDS}, in seconds    whole process    pruning alone"));
    say(&format!("{:7.2} {:7.2}  PyTorch and scikit-learn", theirs.whole, theirs.pruning));
    for ((label, _), ours) in OURS.iter().zip(ours) {
        say(&format!(
            "{:7.2} {:7.2}  {label}: {:.1} and {:.1} times faster",
            ours.whole,
            ours.pruning,
            theirs.whole / ours.whole,
            theirs.pruning / ours.pruning
        ));
    }
    Ok(())
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
struct Seconds {
    /// Wall time of the process.
    whole: f64,
    /// What the program says that pruning took.
    pruning: f64,
}

impl Default for Seconds {
    fn default() -> Self {
        Self { whole: f64::INFINITY, pruning: f64::INFINITY }
    }
}

impl Seconds {
    fn least(&mut self, other: Self) {
        self.whole = self.whole.min(other.whole);
        self.pruning = self.pruning.min(other.pruning);
    }
}

/// Runs a command that states its own seconds behind `label`, on either stream.
fn seconds(command: &mut Command, label: &str) -> Result<Seconds> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let whole = start.elapsed().as_secs_f64();
    let said = [output.stdout, output.stderr].map(|s| String::from_utf8_lossy(&s).into_owned());
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, said[1]);
    }
    let pruning = said.iter().find_map(|text| stated(text, label));
    let pruning = pruning.with_context(|| format!("{command:?} says no `{label}`"))?;
    Ok(Seconds { whole, pruning })
}

/// The number behind a label.
fn stated(text: &str, label: &str) -> Option<f64> {
    let rest = text.split(label).nth(1)?;
    rest.split(|c: char| c.is_whitespace() || c == '}').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_from_what_is_said() {
        assert_eq!(stated("note: pruned in 1.63 s\n", "pruned in "), Some(1.63));
        let label = "\"seconds\": ";
        assert_eq!(stated("{\"top1\": 0.9, \"seconds\": 12.5}\n", label), Some(12.5));
        assert_eq!(stated("nothing", label), None);
    }
}
