//! What a second process is worth: training and calibration in one process and in two.

use crate::step::{run_cargo, say};
use crate::{kerf, section, train_speed};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write;
use std::process::Command;
use std::time::Instant;

const DATA: [&str; 4] = [
    "--data",
    "fixtures/data/t10k-1k-images-idx3-ubyte.gz",
    "--preprocess",
    "fixtures/preprocess/fmnist.json",
];

const STEPS: usize = 12;
const BATCH: usize = 128;

/// Size of the experiment.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the networks whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

/// Networks whose steps cost much beside their weights, and some whose steps do not.
const NETWORKS: [(&str, &[&str]); 4] = [
    ("resnet20", &["new", "resnet20", "--classes", "10", "--input", "1x28x28"]),
    ("vgg7", &["new", "vgg7", "--classes", "10", "--input", "1x28x28"]),
    ("mlp, 800 units", &["new", "mlp", "--classes", "10", "--input", "1x28x28"]),
    (
        "mlp, 4096 units",
        &["new", "mlp", "--hidden", "4096", "--classes", "10", "--input", "1x28x28"],
    ),
];

/// Times all and writes the tables.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --workspace --features kerf-cli/mpi")?;
    let mut table = format!(
        "Written by `cargo xtask processes`: {STEPS} steps of `kerf train` with batches of {BATCH} on 28 x 28 images. Machine: {}, all\n\
         processes on it.\n\n\
         | network | gradient | step, 1 process | 2 processes | 1 process, 2 threads | in sums | |\n\
         |---|---|---|---|---|---|---|\n",
        train_speed::machine()?
    );
    for (name, new) in NETWORKS.into_iter().filter(|(name, _)| name.contains(&options.only)) {
        let row = network(name, new)?;
        say(&row);
        writeln!(table, "{row}")?;
    }
    table.push_str(
        "\n| 400 samples | 1 process | 2 processes | 1 process, 2 threads |\n|---|---|---|---|\n",
    );
    for verb in ["calibrate", "sparsify"].into_iter().filter(|verb| verb.contains(&options.only)) {
        let row = one_shot(verb)?;
        say(&row);
        writeln!(table, "{row}")?;
    }
    section::write("docs/mpi.md", "processes", &table)
}

/// Processes and threads of each.
const LAYOUTS: [(usize, &str); 3] = [(1, "1"), (2, "1"), (1, "2")];

/// A command of one thread in a number of processes, or in one with more threads.
fn started((processes, threads): (usize, &str), arguments: &[&str]) -> Command {
    let mut command = match processes {
        1 => Command::new("target/release/kerf"),
        _ => {
            let mut command = Command::new("mpirun");
            command.args(["--oversubscribe", "-n", &processes.to_string(), "target/release/kerf"]);
            // Containers have no other user.
            for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
                command.env(name, "1");
            }
            command
        }
    };
    command.args(arguments).args(["--threads", threads]);
    command
}

fn network(name: &str, new: &[&str]) -> Result<String> {
    let model = "target/processes.onnx";
    kerf::run(kerf::command(new).args(["-o", model]))?;
    let length = [STEPS.to_string(), BATCH.to_string()];
    let own = ["train", model, "--steps", &length[0], "--batch", &length[1], "--no-verify"];
    let rest = ["-o", "target/processes_trained.onnx", "--lr", "0.001", "-q"];
    let arguments = [&own[..], &DATA, &rest].concat();
    let trained = |layout| -> Result<Value> {
        let document = kerf::run(&mut started(layout, &arguments))?;
        Ok(document["result"]["training"].clone())
    };
    let [one, two, threads] = LAYOUTS.map(trained);
    let (one, two, threads) = (one?, two?, threads?);
    let step = |run: &Value| {
        let speed = run["samples_per_second"].as_f64().context("no speed")?;
        Ok::<_, anyhow::Error>(1e3 * BATCH as f64 / speed)
    };
    let bytes = 4.0 * one["trained_values"].as_f64().context("no number of values")?;
    let sums = two["processes"]["seconds_in_sums"].as_f64().context("no processes")?;
    let (one, two, threads) = (step(&one)?, step(&two)?, step(&threads)?);
    Ok(format!(
        "| {name} | {:.1} MB | {one:.1} ms | {two:.1} ms | {threads:.1} ms | {:.1} ms | {:.2}x |",
        bytes / 1e6,
        1e3 * sums / STEPS as f64,
        one / two
    ))
}

fn one_shot(verb: &str) -> Result<String> {
    let model = "fixtures/models/resnet20_fmnist_folded.onnx";
    let own: &[&str] = if verb == "sparsify" { &["--sparsity", "50%"] } else { &[] };
    let rest = ["--samples", "400", "-o", "target/processes.out", "-q", "--force"];
    let arguments = [&[verb, model][..], own, &DATA, &rest].concat();
    let mut row = format!("| `kerf {verb}`, resnet20 |");
    for layout in LAYOUTS {
        let mut command = started(layout, &arguments);
        let start = Instant::now();
        let output = command.output().context("starting kerf")?;
        if !output.status.success() {
            bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        write!(row, " {:.1} s |", start.elapsed().as_secs_f64())?;
    }
    Ok(row)
}
