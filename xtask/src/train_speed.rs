//! Times training steps against PyTorch, in turn, in one run.

use crate::step::{run_cargo, say};
use crate::watched::Watched;
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Where the table goes.
const TABLE: &str = "benches/training.md";

/// Where the images of the larger networks are made.
const IMAGES: &str = "target/train_speed.npy";
const LABELS: &str = "target/train_speed_labels.npy";

/// Steps before those that are timed, in which memory is taken.
const WARM_UP: usize = 3;

/// A network, its batch, the steps that are timed and how often.
struct Network {
    name: &'static str,
    batch: usize,
    steps: usize,
    rounds: usize,
    /// Images of 3 x 224 x 224 instead of the fixtures'.
    large: bool,
}

const NETWORKS: [Network; 4] = [
    Network { name: "vgg7", batch: 128, steps: 12, rounds: 3, large: false },
    Network { name: "resnet20", batch: 128, steps: 12, rounds: 3, large: false },
    Network { name: "mobilenet-v2", batch: 16, steps: 4, rounds: 1, large: true },
    Network { name: "resnet50", batch: 8, steps: 4, rounds: 1, large: true },
];

/// Images per second and peak memory of one side.
#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    mebibytes: f64,
}

impl Side {
    fn add(&mut self, (rate, mebibytes): (f64, f64)) {
        self.rates.push(rate);
        self.mebibytes = self.mebibytes.max(mebibytes);
    }

    fn best(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// The best rate, and the least where there are several.
    fn text(&self) -> String {
        let least = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        match self.rates.len() {
            1 => rate(self.best()),
            _ => format!("{} ({})", rate(self.best()), rate(least)),
        }
    }
}

fn rate(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// Writes images per second and peak memory of Kerf and of PyTorch in both precisions, for the
/// networks whose name contains `only`.
///
/// `python` needs PyTorch.
pub(crate) fn run(python: &str, only: Option<&str>) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    make_images()?;
    let mut table = String::from(
        "# Training against PyTorch\n\n\
         Written by `cargo xtask train-speed`: images per second of whole training steps, the best (and the least) of\n\
         several runs in turn, and peak memory of the process. Kerf's are the difference of a long and a short run of\n\
         `kerf train`, so that start and decoding cancel out, PyTorch's are timed within its process; neither augments.\n\
         bf16 is `--precision bf16` and PyTorch's autocast.\n\n",
    );
    writeln!(table, "Machine: {}, PyTorch {}.\n", machine()?, version(python)?)?;
    table += "| network, batch | threads | precision | Kerf | PyTorch | ratio | Kerf MiB | PyTorch MiB |\n";
    table += "|---|---|---|---|---|---|---|---|\n";
    for network in NETWORKS {
        if only.is_some_and(|only| !network.name.contains(only)) {
            continue;
        }
        for threads in [1, 2] {
            for precision in ["f32", "bf16"] {
                let (mut ours, mut theirs) = (Side::default(), Side::default());
                for _ in 0..network.rounds {
                    ours.add(kerf(&network, threads, precision)?);
                    theirs.add(torch(python, &network, threads, precision)?);
                }
                let row = format!(
                    "| {}, {} | {threads} | {precision} | {} | {} | {:.2} | {:.0} | {:.0} |",
                    network.name,
                    network.batch,
                    ours.text(),
                    theirs.text(),
                    ours.best() / theirs.best(),
                    ours.mebibytes,
                    theirs.mebibytes
                );
                say(&row);
                writeln!(table, "{row}")?;
            }
        }
    }
    if only.is_none() {
        std::fs::write(TABLE, table).with_context(|| format!("writing {TABLE}"))?;
    }
    Ok(())
}

/// Images per second, from the difference of a longer and a shorter run.
fn kerf(network: &Network, threads: usize, precision: &str) -> Result<(f64, f64)> {
    let model = match network.large {
        true => format!("target/train_speed_{}.onnx", network.name),
        false => format!("fixtures/models/{}_fmnist_bn.onnx", network.name),
    };
    if network.large && !Path::new(&model).exists() {
        let mut command = Command::new("target/release/kerf");
        command.args(["new", network.name, "-o", &model]);
        Watched::run(&mut command)?;
    }
    let run = |steps: usize| {
        let mut command = Command::new("target/release/kerf");
        command.args(["train", &model, "--reinit", "--no-verify", "--lr", "0.001"]);
        match network.large {
            true => command.args(["--data", IMAGES, "--labels", LABELS]),
            false => command
                .args(["--data", "fixtures/data/train-1k-images-idx3-ubyte.gz"])
                .args(["--preprocess", "fixtures/preprocess/fmnist.json"]),
        };
        command
            .args(["-o", "target/train_speed.onnx", "--force", "--precision", precision])
            .args(["--batch", &network.batch.to_string(), "--steps", &steps.to_string()])
            .args(["--threads", &threads.to_string()]);
        Watched::run(&mut command)
    };
    let (few, many) = (run(WARM_UP)?, run(WARM_UP + network.steps)?);
    let seconds = many.seconds - few.seconds;
    Ok(((network.batch * network.steps) as f64 / seconds, many.mebibytes))
}

/// Images per second that the script prints.
fn torch(python: &str, network: &Network, threads: usize, precision: &str) -> Result<(f64, f64)> {
    let mut command = Command::new(python);
    let numbers = [network.batch, threads, network.steps].map(|n| n.to_string());
    command.args(["benches/python/train.py", network.name]).args(numbers);
    if precision != "f32" {
        command.arg(precision);
    }
    let run = Watched::run(&mut command)?;
    let rate = run.output.split_whitespace().next().and_then(|word| word.parse().ok());
    Ok((rate.with_context(|| format!("{command:?} printed {}", run.output))?, run.mebibytes))
}

/// Makes random images of the size of ImageNet's, and labels.
fn make_images() -> Result<()> {
    const COUNT: usize = 32;
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    let values = (0..COUNT * 3 * 224 * 224).map(|_| next() as f32 / (1 << 23) as f32 - 1.0);
    let images: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    write_npy(IMAGES, "<f4", &[COUNT, 3, 224, 224], &images)?;
    let labels: Vec<u8> = (0..COUNT).flat_map(|_| ((next() % 1000) as i64).to_le_bytes()).collect();
    write_npy(LABELS, "<i8", &[COUNT], &labels)
}

/// Writes an array in NumPy's format, version 1.0.
fn write_npy(path: &str, element: &str, dims: &[usize], values: &[u8]) -> Result<()> {
    let dims: String = dims.iter().map(|dim| format!("{dim},")).collect();
    let header = format!("{{'descr': '{element}', 'fortran_order': False, 'shape': ({dims}), }}");
    // The header ends with a line feed, and with it a multiple of 64 bytes.
    let length = (header.len() + 1 + 10).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(length)?.to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    bytes.extend(values);
    std::fs::write(path, bytes).with_context(|| format!("writing {path}"))
}

/// The processor's name and its number of threads.
fn machine() -> Result<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo")?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let threads = std::thread::available_parallelism()?;
    Ok(format!("{}, {threads} hardware threads", name.map_or("unknown", |(_, name)| name)))
}

fn version(python: &str) -> Result<String> {
    let output =
        Command::new(python).args(["-c", "import torch; print(torch.__version__)"]).output()?;
    if !output.status.success() {
        bail!("`{python}` has no PyTorch");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
