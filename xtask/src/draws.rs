//! How far results depend on which samples calibrate: the same commands with seed after seed.

use crate::fashion_mnist::FashionMnist;
use crate::finetune::proved;
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::Result;
use std::path::PathBuf;

/// What is quantized and pruned.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// Folder with `resnet20_fmnist_folded.onnx`
    #[arg(long, default_value = "fixtures/models")]
    models: PathBuf,
}

/// A command that calibrates on samples which it draws, in several forms.
struct Experiment {
    /// The file of its table.
    report: &'static str,
    /// What every form has.
    command: &'static [&'static str],
    /// Heading of the forms, and the flags that make them.
    forms: (&'static str, &'static [&'static [&'static str]]),
    seeds: u64,
}

const EXPERIMENTS: [Experiment; 2] = [
    Experiment {
        report: "benches/int8.md",
        command: &["quantize", "--samples", "200"],
        forms: (
            "samples per forward pass",
            &[
                &["--batch", "4"],
                &["--batch", "8"],
                &["--batch", "16"],
                &["--batch", "32"],
                &["--batch", "50"],
                &["--batch", "100"],
                &["--batch", "200"],
            ],
        ),
        seeds: 4,
    },
    Experiment {
        report: "benches/pruning.md",
        command: &["prune", "--macs", "50%", "--samples", "1000"],
        forms: ("refinement", &[&[], &["--refine", "200"]]),
        seeds: 6,
    },
];

/// Runs all and writes the tables.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    for experiment in &EXPERIMENTS {
        section::write(experiment.report, "draws", &table(options, experiment)?)?;
    }
    Ok(())
}

fn table(options: &Options, experiment: &Experiment) -> Result<String> {
    let Experiment { command, forms: (heading, forms), seeds, .. } = experiment;
    let (mut dense, mut rows) = (0.0, String::new());
    for form in *forms {
        let mut found = Vec::new();
        for seed in 0..*seeds {
            let (before, after) = accuracies(options, command, form, seed)?;
            dense = before;
            found.push(after);
        }
        let cells: Vec<String> = found.iter().map(|after| format!("{after:.2}")).collect();
        let name = if form.is_empty() { "the default".to_owned() } else { form.join(" ") };
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        let row = format!("| {name} | {} | {mean:.2} |\n", cells.join(" | "));
        say(row.trim_end());
        rows.push_str(&row);
    }
    let seeds: Vec<String> = (0..*seeds).map(|seed| format!("seed {seed}")).collect();
    Ok(format!(
        "Written by `cargo xtask draws`: `kerf {}` of resnet20 on training images that `--seed` draws, no labels.\n\
         Top-1 on the 10,000 test images; the float model has {dense:.2}.\n\n\
         | {heading} | {} | mean |\n|---|{}---|\n{rows}",
        command.join(" "),
        seeds.join(" | "),
        "---|".repeat(seeds.len()),
    ))
}

/// Accuracy in percent before and after.
fn accuracies(
    options: &Options,
    arguments: &[&str],
    form: &[&str],
    seed: u64,
) -> Result<(f64, f64)> {
    let mut command = kerf::command(arguments);
    command.arg(options.models.join("resnet20_fmnist_folded.onnx"));
    command.args(form).arg("--seed").arg(seed.to_string());
    command.args(["--no-bench", "-o", "target/draws.onnx"]);
    proved(&kerf::run(options.data.trains(&mut command))?)
}
