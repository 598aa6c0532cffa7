//! A convolutional student, taught by labels and by a larger network, with several seeds.

use crate::fashion_mnist::FashionMnist;
use crate::finetune::{accuracy, summary};
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::Result;

const TEACHER: &str = "fixtures/models/vgg7_fmnist_bn.onnx";
const STUDENT: &str = "target/margin_student.onnx";

/// Size of the experiment.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
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
        "Written by `cargo xtask margin`: vgg7 with {} of its channels, {} epochs on the 60,000 training images of\n\
         Fashion-MNIST; the teacher is `{TEACHER}`. Top-1 on the 10,000 test images for each seed.\n\n\
         | taught by | seeds | mean | spread |\n|---|---|---|---|\n",
        options.width, options.epochs
    );
    for (name, teacher) in [("labels", None), ("labels and the teacher", Some(TEACHER))] {
        let seeds = 0..options.seeds;
        let found = seeds.map(|seed| top1(options, teacher, seed)).collect::<Result<Vec<_>>>()?;
        let row = format!("| {name} | {} |", summary(&found));
        say(&row);
        table.push_str(&row);
        table.push('\n');
    }
    section::write("benches/distillation.md", "margin", &table)
}

/// The accuracy of one student, in percent.
fn top1(options: &Options, teacher: Option<&str>, seed: u64) -> Result<f64> {
    let (seed, epochs) = (seed.to_string(), options.epochs.to_string());
    let start = match teacher {
        Some(teacher) => vec!["distill", "--teacher", teacher, "--student", STUDENT],
        None => vec!["train", STUDENT],
    };
    let rest = ["--reinit", "--seed", &seed, "--epochs", &epochs, "--flip", "--shift", "2"];
    let mut command = kerf::command(&start);
    command.args(rest).args(["-o", "target/margin.onnx"]);
    accuracy(&kerf::run(options.data.trains(&mut command))?)
}
