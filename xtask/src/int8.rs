//! Post-training int8 side by side with ONNX Runtime's own tools.

use crate::fashion_mnist::FashionMnist;
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the models and photographs are.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// Folder with `resnet20_fmnist_folded.onnx`, `vgg7_fmnist_folded.onnx` and, where it is to be
    /// measured too, `efficientnet_lite0.onnx`
    #[arg(long, default_value = "fixtures/models")]
    models: PathBuf,
    /// Folder with crops of photographs in `calibration` and `evaluation`, for `efficientnet_lite0`
    #[arg(long)]
    crops: Option<PathBuf>,
    /// A Python with onnxruntime, onnx and Pillow
    #[arg(long, default_value = "python3")]
    python: String,
    /// Calibration images
    #[arg(long, default_value_t = 200)]
    images: usize,
}

/// Runs with all images; the table has medians.
const RUNS: usize = 3;

/// Where our reports go.
const REPORT: &str = "target/int8_report";

/// What ONNX Runtime's tools offer: name, calibration method and granularity.
const THEIRS: [(&str, &str, &str); 3] = [
    ("ONNX Runtime, MinMax, per channel", "MinMax", "channel"),
    ("ONNX Runtime, Percentile, per channel", "Percentile", "channel"),
    ("ONNX Runtime, MinMax, per tensor", "MinMax", "tensor"),
];

/// Ours: name and flags.
const OURS: [(&str, &[&str]); 3] = [
    ("kerf, the default", &[]),
    (
        "kerf, ranges alone",
        &["--rounding", "nearest", "--bias-correction", "none", "--no-equalize"],
    ),
    ("kerf, weights of 4 bits", &["--weights", "4"]),
];

/// A model and its data.
struct Case {
    name: &'static str,
    model: PathBuf,
    calibration: PathBuf,
    evaluation: PathBuf,
    mean: &'static str,
    std: &'static str,
    labels: bool,
}

/// What a file took to make.
#[derive(Clone, Copy)]
struct Cost {
    /// Seconds of all cores.
    cpu_seconds: f64,
    /// Largest resident memory.
    peak_megabytes: f64,
    /// What it is more than with one image.
    images_megabytes: f64,
    /// Seconds in which ranges were found, on one thread.
    calibration_seconds: f64,
}

/// What is known of one quantized file.
struct Row {
    name: String,
    file: String,
    cost: Cost,
    agreement: f64,
    sqnr: f64,
    accuracy: Option<f64>,
}

/// Quantizes with all and writes the tables.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut text = format!(
        "Written by `cargo xtask int8`: {} calibration images, no labels. CPU s and memory: of ONNX Runtime's\n\
         `quantize_static` in its process, of the whole `kerf quantize` in ours, with its proof in ONNX Runtime. Ranges: seconds that it\n\
         takes to run the data and to find the ranges of activations, on one thread, the median of {RUNS} runs. Memory: at its peak, and by how\n\
         much that is more than with one image, which leaves out programs, libraries, and the file of data. Agreement: same class\n\
         as the float model. SQNR: of the outputs. Latency: one thread, batch 1, each file against that of ONNX Runtime's MinMax per\n\
         channel in the same run, interleaved.\n",
        options.images
    );
    for case in cases(options)? {
        text.push_str(&format!(
            "\n{}:\n\n| | top-1 | agreement | SQNR | ranges | CPU s | memory | for images | latency |\n|---|---|---|---|---|---|---|---|---|\n",
            case.name
        ));
        let rows = rows(options, &case)?;
        for row in &rows {
            let latency = latency(&rows[0].file, &row.file)?;
            let accuracy = row.accuracy.map_or("-".to_owned(), |a| format!("{:.2}", 100.0 * a));
            let line = format!(
                "| {} | {accuracy} | {:.2} % | {:.1} dB | {:.2} | {:.1} | {:.0} MB | {:.0} MB | {latency} |",
                row.name,
                100.0 * row.agreement,
                row.sqnr,
                row.cost.calibration_seconds,
                row.cost.cpu_seconds,
                row.cost.peak_megabytes,
                row.cost.images_megabytes,
            );
            say(&line);
            text.push_str(&line);
            text.push('\n');
        }
    }
    section::write("benches/int8.md", "int8", &text)
}

fn cases(options: &Options) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for name in ["resnet20", "vgg7"] {
        cases.push(Case {
            name,
            model: options.models.join(format!("{name}_fmnist_folded.onnx")),
            calibration: options.data.train(),
            evaluation: options.data.test(),
            mean: "0.2860",
            std: "0.3530",
            labels: true,
        });
    }
    if let Some(crops) = &options.crops {
        cases.push(Case {
            name: "efficientnet_lite0",
            model: options.models.join("efficientnet_lite0.onnx"),
            calibration: crops.join("calibration"),
            evaluation: crops.join("evaluation"),
            mean: "0.498",
            std: "0.502",
            labels: false,
        });
    }
    match cases.iter().find(|case| !case.model.exists()) {
        Some(missing) => bail!("{} is missing", missing.model.display()),
        None => Ok(cases),
    }
}

fn rows(options: &Options, case: &Case) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (i, (name, method, granularity)) in THEIRS.iter().enumerate() {
        let file = format!("target/int8_theirs_{i}.onnx");
        let quantize = |images: usize| {
            let mut command = Command::new(&options.python);
            command.args(["benches/python/quantize.py", "ort"]).arg(&case.model);
            command.arg(&case.calibration).args([*method, *granularity, &file]);
            command.arg(images.to_string());
            found(command.args([case.mean, case.std]))
        };
        let timed = |images: usize| {
            let found = quantize(images)?;
            let seconds = found["calibration_seconds"].as_f64();
            Ok((found, seconds.context("no calibration_seconds")?))
        };
        let cost = cost(options.images, timed)?;
        rows.push(judged(case, name, file, cost)?);
    }
    for (i, (name, flags)) in OURS.iter().enumerate() {
        let file = format!("target/int8_ours_{i}.onnx");
        let quantize = |images: usize| {
            let mut command = Command::new(&options.python);
            command.args(["benches/python/quantize.py", "run", "target/release/kerf", "quantize"]);
            command.arg(&case.model).args(["-o", &file, "--force", "--no-verify", "--no-bench"]);
            command.arg("--data").arg(&case.calibration).arg("--samples").arg(images.to_string());
            command.args(["--mean", case.mean, "--std", case.std]).args(*flags);
            found(command.args(["--threads", "1", "--report", REPORT]))
        };
        let timed = |images: usize| {
            let found = quantize(images)?;
            let report = fs::read_to_string(Path::new(REPORT).join("report.json"))?;
            let report: Value = serde_json::from_str(&report)?;
            let seconds = report["result"]["quantization"]["calibration_seconds"].as_f64();
            Ok((found, seconds.context("no calibration_seconds")?))
        };
        let cost = cost(options.images, timed)?;
        rows.push(judged(case, name, file, cost)?);
    }
    Ok(rows)
}

/// What the script prints.
fn found(command: &mut Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What making a file takes: medians over runs with all images, beside one run with one.
fn cost(images: usize, timed: impl Fn(usize) -> Result<(Value, f64)>) -> Result<Cost> {
    let number =
        |found: &Value, key: &str| found[key].as_f64().with_context(|| format!("no {key}"));
    let one = number(&timed(1)?.0, "peak_megabytes")?;
    let (mut cpu, mut peaks, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (found, own) = timed(images)?;
        cpu.push(number(&found, "cpu_seconds")?);
        peaks.push(number(&found, "peak_megabytes")?);
        seconds.push(own);
    }
    let peak_megabytes = median(peaks);
    Ok(Cost {
        cpu_seconds: median(cpu),
        peak_megabytes,
        images_megabytes: peak_megabytes - one,
        calibration_seconds: median(seconds),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Compares a file with the float model.
fn judged(case: &Case, name: &str, file: String, cost: Cost) -> Result<Row> {
    let mut command = kerf::command(&["verify"]);
    command.arg(&case.model).arg(&file).args(["--tolerance", "1e9", "--json"]);
    command.arg("--data").arg(&case.evaluation).args(["--mean", case.mean, "--std", case.std]);
    let output = command.output()?;
    let document: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let found = &document["result"]["comparison"]["outputs"][0];
    let top1 = &found["top1"];
    let agreement = top1["agreement"].as_f64().context("no agreement")?;
    let accuracy = top1["candidate_accuracy"].as_f64().filter(|_| case.labels);
    let sqnr = found["sqnr_db"].as_f64().unwrap_or(f64::INFINITY);
    Ok(Row { name: name.to_owned(), file, cost, agreement, sqnr, accuracy })
}

/// Median time of a file over that of another, measured in turn.
fn latency(base: &str, file: &str) -> Result<String> {
    if base == file {
        return Ok("1.00".to_owned());
    }
    let mut command = kerf::command(&["bench", base, "--against", file, "--threads", "1"]);
    let document = kerf::json(command.args(["--engine", "ort", "--runs", "200"]))?;
    let speed_up = &document["result"]["latency"][0]["models"][1]["speedup"]["median"];
    Ok(format!("{:.2}", 1.0 / speed_up.as_f64().context("no speed-up")?))
}
