//! Pruning side by side with what a user would otherwise take, at equal multiply-accumulates.

use crate::fashion_mnist::FashionMnist;
use crate::finetune::proved;
use crate::step::{run_cargo, say};
use crate::three_c::kept;
use crate::{kerf, section};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::Command;

/// Data, and what runs the others.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// A Python with torch, torch-pruning, aimet-torch, scikit-learn and onnx
    #[arg(long, default_value = "python3")]
    python: String,
    /// Networks
    #[arg(long, value_delimiter = ',', default_value = "vgg7,resnet20")]
    networks: Vec<String>,
    /// Shares of the multiply-accumulates to keep
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.25")]
    shares: Vec<String>,
}

/// Heading, script in `benches/python`, its last arguments, form of the model, and whether the script
/// knows chains of layers only.
struct Rival {
    heading: &'static str,
    script: &'static str,
    more: &'static [&'static str],
    form: &'static str,
    only_chains: bool,
}

const fn rival(
    heading: &'static str,
    script: &'static str,
    more: &'static [&'static str],
) -> Rival {
    Rival { heading, script, more, form: "bn", only_chains: false }
}

const RIVALS: [Rival; 4] = [
    rival("Torch-Pruning, local", "torch_prune.py", &["local"]),
    rival("Torch-Pruning, global", "torch_prune.py", &["global"]),
    rival("AIMET", "aimet_prune.py", &[]),
    Rival {
        form: "folded",
        only_chains: true,
        ..rival("PyTorch and scikit-learn", "lasso_prune.py", &[])
    },
];

const CHAIN: &str = "vgg7";

/// Runs all in turn and writes the table after each row.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut table = String::from(
        "Written by `cargo xtask rivals`: the same 1,000 training images, no labels, no tuning; channel counts are not\n\
         rounded. Top-1 on the 10,000 test images, in brackets the multiply-accumulates that remain and the seconds of\n\
         pruning. Torch-Pruning: L2 norm over groups, with BatchNormalization re-estimated on the calibration images\n\
         (before that in square brackets). AIMET: channel pruning, ratios by its greedy search. PyTorch and scikit-learn:\n\
         He, Zhang and Sun 2017, as one would write it first.\n\n\
         | network | dense | MACs kept |",
    );
    for Rival { heading, .. } in &RIVALS {
        table.push_str(&format!(" {heading} |"));
    }
    table.push_str(&format!(" kerf prune |\n|---|---|---|---|{}\n", "---|".repeat(RIVALS.len())));
    for network in &options.networks {
        for share in &options.shares {
            let mut row = String::new();
            for rival in &RIVALS {
                let cell = match rival.only_chains && network != CHAIN {
                    true => "-".to_owned(),
                    false => theirs(options, rival, network, share)?,
                };
                say(&format!("{network} {share} {}: {cell}", rival.heading));
                row.push_str(&format!(" {cell} |"));
            }
            let (dense, cell) = ours(options, network, share)?;
            let row = format!("| {network} | {dense:.2} | {share} |{row} {cell} |");
            say(&row);
            table.push_str(&format!("{row}\n"));
            section::write("benches/pruning.md", "rivals", &table)?;
        }
    }
    Ok(())
}

fn theirs(options: &Options, rival: &Rival, network: &str, share: &str) -> Result<String> {
    let mut command = Command::new(&options.python);
    command.arg(format!("benches/python/{}", rival.script));
    command.arg(format!("fixtures/models/{network}_fmnist_{}.onnx", rival.form));
    command.arg(FashionMnist::calibration()).arg(options.data.test());
    command.arg(options.data.test_labels()).arg(share).args(rival.more);
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let number = |key: &str| found[key].as_f64().with_context(|| format!("no {key}"));
    let before = match found["not_re_estimated"].as_f64() {
        Some(before) => format!(" [{:.2}]", 100.0 * before),
        None => String::new(),
    };
    Ok(format!(
        "{:.2}{before} ({:.1} %, {:.1} s)",
        100.0 * number("top1")?,
        100.0 * number("macs")?,
        number("seconds")?
    ))
}

fn ours(options: &Options, network: &str, share: &str) -> Result<(f64, String)> {
    let percent = format!("{}%", 100.0 * share.parse::<f64>()?);
    let model = format!("fixtures/models/{network}_fmnist_bn.onnx");
    let mut command = kerf::command(&["prune", &model, "--macs", &percent]);
    command.args(["--round-to", "1", "--no-bench", "-o", "target/rivals.onnx"]);
    let document = kerf::run(options.data.calibrates(&mut command))?;
    let (before, after) = proved(&document)?;
    let seconds = document["result"]["seconds"].as_f64().context("no seconds")?;
    let cell = format!("{after:.2} ({:.1} %, {seconds:.1} s)", 100.0 * kept(&document)?);
    Ok((before, cell))
}
