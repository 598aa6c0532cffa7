//! Kills `kerf compress` at random moments; the same command must go on to the same bytes.

use crate::kerf;
use crate::step::{run_cargo, say};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tensor_core::random;

const FOLDER: &str = "target/kills";

/// Pruning, integers and a short training, in some seconds.
const ARGUMENTS: [&str; 16] = [
    "--data",
    "fixtures/data/train-1k-images-idx3-ubyte.gz",
    "--preprocess",
    "fixtures/preprocess/fmnist.json",
    "--samples",
    "256",
    "--hold-out",
    "100",
    "--size",
    "20%",
    "--train",
    "--epochs",
    "1",
    "--trials",
    "4",
    "-o",
];

/// How often, and by which seed.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kills
    #[arg(long, default_value_t = 50)]
    count: u64,
    /// The model; without one a LeNet with initial weights, which takes little time
    #[arg(long)]
    model: Option<PathBuf>,
    /// Seed of the moments
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs all and fails at the first result that differs.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    if Path::new(FOLDER).exists() {
        fs::remove_dir_all(FOLDER)?;
    }
    fs::create_dir_all(FOLDER)?;
    let model = match &options.model {
        Some(model) => model.clone(),
        None => {
            let model = Path::new(FOLDER).join("lenet.onnx");
            let mut new = kerf::command(&["new", "lenet", "--input", "1x28x28", "-o"]);
            kerf::run(new.arg(&model))?;
            model
        }
    };
    let whole = output("whole");
    let start = Instant::now();
    finish(&model, &whole)?;
    let length = start.elapsed();
    let expected = fs::read(&whole)?;
    say(&format!("undisturbed: {:.1} s, {} bytes", length.as_secs_f64(), expected.len()));
    let mut moments = random::stream(options.seed, "kills");
    for kill in 1..=options.count {
        let path = output(&kill.to_string());
        let most = u64::try_from(length.as_micros())?;
        let moment = Duration::from_micros(random::below(&mut moments, most));
        let ended = kill_after(&model, &path, moment)?;
        finish(&model, &path)?;
        if fs::read(&path)? != expected {
            bail!("killed after {moment:?}, {} differs from {}", path.display(), whole.display());
        }
        let how = if ended { "had ended" } else { "killed" };
        say(&format!("{kill}: {how} after {:.2} s, same bytes", moment.as_secs_f64()));
    }
    say(&format!("{} kills, all ended in the same bytes", options.count));
    Ok(())
}

fn output(name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}.onnx"))
}

fn command(model: &Path, output: &Path) -> Command {
    let mut command = kerf::command(&["compress"]);
    command.arg(model).args(ARGUMENTS).arg(output).arg("--quiet").stdout(Stdio::null());
    command
}

/// Starts and kills after some time. Had it ended by itself?
fn kill_after(model: &Path, output: &Path, moment: Duration) -> Result<bool> {
    let mut child = command(model, output).spawn().context("starting kerf")?;
    thread::sleep(moment);
    let ended = child.try_wait()?.is_some();
    child.kill()?;
    child.wait()?;
    Ok(ended)
}

/// Runs to the end. Goals that are missed are no failure here: bytes are what is compared.
fn finish(model: &Path, output: &Path) -> Result<()> {
    let status = command(model, output).status().context("starting kerf")?;
    match status.code() {
        Some(0 | 1) => Ok(()),
        _ => bail!("{:?}: {status}", command(model, output)),
    }
}
