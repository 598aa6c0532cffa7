//! A convolutional student, taught by labels and by a larger network, with several seeds.

use crate::kerf;
use crate::step::{run_cargo, say};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

const TEACHER: &str = "fixtures/models/vgg7_fmnist_bn.onnx";
const STUDENT: &str = "target/margin_student.onnx";
const TABLE: &str = "benches/distillation.md";

/// Size of the experiment.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the Debian package `dataset-fashion-mnist` puts it
    #[arg(long, default_value = "/usr/share/datasets/fashion-mnist")]
    from: PathBuf,
    /// Factor of the student's channels
    #[arg(long, default_value_t = 0.25)]
    width: f64,
    /// Passes over the training images
    #[arg(long, default_value_t = 2)]
    epochs: u32,
    /// Students per row
    #[arg(long, default_value_t = 3)]
    seeds: u64,
}

/// Trains all students and writes the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let width = options.width.to_string();
    let new = ["new", "vgg7", "--classes", "10", "--input", "1x28x28", "--width", &width];
    kerf::run(kerf::command(&new).args(["-o", STUDENT]))?;
    let mut table = format!(
        "# A student taught by labels and by a teacher\n\n\
         Written by `cargo xtask margin`: vgg7 with {} of its channels, {} epochs on the 60,000 training images of\n\
         Fashion-MNIST; the teacher is `{TEACHER}`. Top-1 on the 10,000 test images for each seed.\n\n\
         | taught by | seeds | mean | spread |\n|---|---|---|---|\n",
        options.width, options.epochs
    );
    for (name, teacher) in [("labels", None), ("labels and the teacher", Some(TEACHER))] {
        let seeds = 0..options.seeds;
        let found = seeds.map(|seed| top1(options, teacher, seed)).collect::<Result<Vec<_>>>()?;
        let mean = found.iter().sum::<f64>() / found.len().max(1) as f64;
        let most = found.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let least = found.iter().copied().fold(f64::INFINITY, f64::min);
        let each: Vec<String> = found.iter().map(|top1| format!("{top1:.2}")).collect();
        let row = format!("| {name} | {} | {mean:.2} | {:.2} |", each.join(", "), most - least);
        say(&row);
        writeln!(table, "{row}")?;
    }
    fs::write(TABLE, table).with_context(|| format!("writing {TABLE}"))
}

/// The accuracy of one student, in percent.
fn top1(options: &Options, teacher: Option<&str>, seed: u64) -> Result<f64> {
    let images = |name: &str| options.from.join(name).display().to_string();
    let (train, test) = (images("train-images-idx3-ubyte.gz"), images("t10k-images-idx3-ubyte.gz"));
    let (seed, epochs) = (seed.to_string(), options.epochs.to_string());
    let start = match teacher {
        Some(teacher) => vec!["distill", "--teacher", teacher, "--student", STUDENT],
        None => vec!["train", STUDENT],
    };
    let rest = ["--reinit", "--seed", &seed, "--epochs", &epochs, "--flip", "--shift", "2"];
    let data = ["--data", &train, "--eval-data", &test];
    let files = ["--preprocess", "fixtures/preprocess/fmnist.json", "-o", "target/margin.onnx"];
    let report = kerf::run(kerf::command(&start).args(rest).args(data).args(files))?;
    let points = report["result"]["training"]["points"].as_array();
    points
        .and_then(|points| points.last()?["evaluation"]["accuracy"].as_f64())
        .map(|accuracy| 100.0 * accuracy)
        .context("the report has no accuracy")
}
