//! Times training steps against PyTorch, in turn, in one run.

use crate::section;
use crate::step::{run_cargo, say};
use crate::watched::Watched;
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

    /// The one in the middle: a difference of two runs is too large as often as too small.
    fn median(&self) -> f64 {
        let mut sorted = self.rates.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// The median, and the range where there are several.
    fn text(&self) -> String {
        let least = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.rates.iter().copied().fold(0.0, f64::max);
        match self.rates.len() {
            1 => rate(self.median()),
            _ => format!("{} ({} to {})", rate(self.median()), rate(least), rate(most)),
        }
    }
}

fn rate(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A Python with PyTorch
    #[arg(long, default_value = "python3")]
    python: String,
    /// Only networks whose name contains this; the table is then not written
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Beside as many spinning threads as the machine has, the small networks on all threads only
    #[arg(long)]
    busy: bool,
}

impl Options {
    fn takes(&self, network: &Network) -> bool {
        let is_named = self.only.as_ref().is_none_or(|only| network.name.contains(only.as_str()));
        is_named && !(self.busy && network.large)
    }
}

/// Writes images per second and peak memory of Kerf and of PyTorch in both precisions.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    make_images()?;
    let all = std::thread::available_parallelism()?.get();
    let (section, threads, load) = match options.busy {
        true => ("busy", &[2][..], format!(", beside {all} threads that spin")),
        false => ("idle", &[1, 2][..], String::new()),
    };
    let mut table = format!(
        "Written by `cargo xtask train-speed{}`: images per second of whole training steps{load}, the median (least to\n\
         most) of several runs in turn, and peak memory of the process. Kerf's are the difference of a long and a short\n\
         run of `kerf train`, so that start and decoding cancel out, PyTorch's are timed within its process; neither\n\
         augments. bf16 is `--precision bf16` and PyTorch's autocast.\n\n",
        if options.busy { " --busy" } else { "" }
    );
    writeln!(table, "Machine: {}, PyTorch {}.\n", machine()?, version(&options.python)?)?;
    table += "| network, batch | threads | precision | Kerf | PyTorch | ratio | Kerf MiB | PyTorch MiB |\n";
    table += "|---|---|---|---|---|---|---|---|\n";
    let _load = options.busy.then(|| Load::start(all));
    for network in NETWORKS.iter().filter(|network| options.takes(network)) {
        for &threads in threads {
            for precision in ["f32", "bf16"] {
                let row = row(&options.python, network, threads, precision)?;
                say(&row);
                writeln!(table, "{row}")?;
            }
        }
    }
    match options.only {
        Some(_) => Ok(()),
        None => section::write(TABLE, section, &table),
    }
}

/// Measures both sides in turn.
fn row(python: &str, network: &Network, threads: usize, precision: &str) -> Result<String> {
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for _ in 0..network.rounds {
        ours.add(kerf(network, threads, precision)?);
        theirs.add(torch(python, network, threads, precision)?);
    }
    Ok(format!(
        "| {}, {} | {threads} | {precision} | {} | {} | {:.2} | {:.0} | {:.0} |",
        network.name,
        network.batch,
        ours.text(),
        theirs.text(),
        ours.median() / theirs.median(),
        ours.mebibytes,
        theirs.mebibytes
    ))
}

/// Threads that spin as long as it lives.
struct Load(Arc<AtomicBool>);

impl Load {
    fn start(threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
pub(crate) fn machine() -> Result<String> {
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
