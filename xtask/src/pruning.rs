//! Pruning beyond single layers: factorization, reconstruction of blocks, the split of the budget, and
//! predicted time. Writes `benches/pruning.md`.

use crate::fashion_mnist::FashionMnist;
use crate::finetune::proved;
use crate::step::{run_cargo, say};
use crate::{kerf, section};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE: &str = "benches/pruning.md";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// Only this table: three-c, blocks, split or time
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Folder of more networks for the tables `split` and `time`, as `KERF_MODELS` of the tests
    #[arg(long, default_value = "../shared/models")]
    models: PathBuf,
    /// Unlabelled images for EfficientNet-Lite0: a folder with `calibration` and `evaluation`
    #[arg(long, default_value = "../shared/data/crops")]
    crops: PathBuf,
}

/// Runs what was asked for and writes its tables.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --workspace --bin kerf")?;
    type Make = fn(&Options) -> Result<String>;
    let tables: [(&str, Make); 4] =
        [("three-c", three_c), ("blocks", blocks), ("split", split), ("time", time)];
    for (name, table) in tables {
        if options.only.as_deref().is_none_or(|only| only == name) {
            section::write(PAGE, name, &table(options)?)?;
        }
    }
    Ok(())
}

fn fixture(network: &str) -> String {
    format!("fixtures/models/{network}_fmnist_folded.onnx")
}

/// One run on Fashion-MNIST: its document.
fn on_fashion_mnist(options: &Options, arguments: &[&str]) -> Result<Value> {
    let mut command = kerf::command(arguments);
    command.args(["-o", "target/pruning.onnx"]);
    kerf::run(options.data.calibrates(&mut command))
}

fn macs_kept(document: &Value) -> Result<f64> {
    let macs = |side: &str| document["result"]["sizes"][side]["macs"].as_f64();
    let (after, before) = macs("after").zip(macs("before")).context("no sizes")?;
    Ok(100.0 * after / before)
}

/// Factorization, pruning, and both, at the speed-ups of the paper.
fn three_c(options: &Options) -> Result<String> {
    const SHARES: [(&str, &str); 3] = [("2x", "50%"), ("4x", "25%"), ("5x", "20%")];
    const WAYS: [(&str, &[&str]); 5] = [
        ("spatial", &["factor", "--spatial"]),
        ("channel", &["factor", "--channel"]),
        ("spatial and channel", &["factor"]),
        ("pruning alone", &["prune", "--round-to", "1"]),
        ("3C", &["factor", "--prune", "--round-to", "1"]),
    ];
    let mut table = String::from(
        "vgg7 on Fashion-MNIST: top-1 on the 10,000 test images, in brackets the multiply-accumulates that remain;\n\
         1,000 training images calibrate, without labels and without training.\n\n| speed-up |",
    );
    WAYS.iter().for_each(|(name, _)| table.push_str(&format!(" {name} |")));
    table.push_str(&format!("\n|---|{}\n", "---|".repeat(WAYS.len())));
    let model = fixture("vgg7");
    for (name, share) in SHARES {
        let mut row = format!("| {name} |");
        for (_, way) in WAYS {
            let arguments = [way, &[model.as_str(), "--macs", share, "--no-bench"]].concat();
            let document = on_fashion_mnist(options, &arguments)?;
            let (_, top1) = proved(&document)?;
            row.push_str(&format!(" {top1:.2} ({:.1} %) |", macs_kept(&document)?));
        }
        say(&row);
        table.push_str(&row);
        table.push('\n');
    }
    Ok(table)
}

/// What gradient steps on blocks cost and gain.
fn blocks(options: &Options) -> Result<String> {
    const RUNS: [(&str, &str); 3] = [("vgg7", "25%"), ("vgg7", "20%"), ("resnet20", "50%")];
    const STEPS: [&str; 3] = ["0", "100", "300"];
    let mut table = String::from(
        "`kerf prune --round-to 1 --reconstruct STEPS`: top-1 on the 10,000 test images, no labels; 1,000 training\n\
         images, of which an eighth is held out and says which weights stay. In brackets the error of blocks and outputs\n\
         on these, relative to their energy.\n\n\
         | network | MACs kept | least squares alone | 100 steps | 300 steps |\n|---|---|---|---|---|\n",
    );
    for (network, share) in RUNS {
        let model = fixture(network);
        let mut row = format!("| {network} | {share} |");
        for steps in STEPS {
            let more = ["prune", &model, "--macs", share, "--round-to", "1", "--no-bench"];
            let taken: &[&str] = if steps == "0" { &[] } else { &["--reconstruct", steps] };
            let document = on_fashion_mnist(options, &[&more[..], taken].concat())?;
            let (_, top1) = proved(&document)?;
            let error = document["result"]["reconstruction"]["error_after"].as_f64();
            let error = error.map_or(String::new(), |e| format!(" ({:.1} %)", 100.0 * e));
            row.push_str(&format!(" {top1:.2}{error} |"));
        }
        say(&row);
        table.push_str(&row);
        table.push('\n');
    }
    Ok(table)
}

/// A network, its data, and how it is judged.
struct Network {
    name: &'static str,
    model: PathBuf,
    data: Vec<String>,
}

/// The four networks for which there are samples.
fn networks(options: &Options) -> Vec<Network> {
    let fashion = |model: PathBuf, name: &'static str| {
        let test = options.data.test().display().to_string();
        let data = ["--data", "fixtures/data/train-1k-images-idx3-ubyte.gz", "--eval-data", &test]
            .map(str::to_owned);
        let preprocess = ["--preprocess", "fixtures/preprocess/fmnist.json"].map(str::to_owned);
        Network { name, model, data: [&data[..], &preprocess].concat() }
    };
    let crops = |model: &Path, name: &'static str, more: &[&str]| {
        let folder = |part: &str| options.crops.join(part).display().to_string();
        let mut data = vec!["--data".to_owned(), folder("calibration")];
        data.extend(["--eval-data".to_owned(), folder("evaluation")]);
        data.extend(more.iter().map(|&flag| flag.to_owned()));
        Network { name, model: options.models.join(model), data }
    };
    let lite0 = ["--preprocess", "fixtures/preprocess/efficientnet_lite0.json"];
    vec![
        fashion(fixture("vgg7").into(), "vgg7"),
        fashion(fixture("resnet20").into(), "resnet20"),
        crops(Path::new("efficientnet_lite0.onnx"), "efficientnet_lite0", &lite0),
        crops(Path::new("mtcnn_onet.onnx"), "mtcnn_onet", &["--resize", "48"]),
    ]
}

fn document_of(network: &Network, arguments: &[&str]) -> Result<Value> {
    let mut command: Command = kerf::command(&["prune"]);
    command.arg(&network.model).args(&network.data).args(arguments);
    kerf::run(command.args(["-o", "target/pruning.onnx"]))
}

/// Widths from the errors of layers weighed by their effect on the outputs, and from errors alone.
fn split(options: &Options) -> Result<String> {
    const SHARES: [&str; 2] = ["60%", "40%"];
    let mut table = String::from(
        "Agreement of the pruned model's largest output with the original's, and the relative RMSE of the outputs, on\n\
         samples that were not used for pruning: Fashion-MNIST's test images, or crops. `--widths auto` weighs the error of\n\
         each layer by what it does to the outputs, `--widths layerwise` does not.\n\n\
         | network | MACs kept | auto | layerwise |\n|---|---|---|---|\n",
    );
    for network in networks(options) {
        for share in SHARES {
            let mut row = format!("| {} | {share} |", network.name);
            for widths in ["auto", "layerwise"] {
                let more = ["--macs", share, "--widths", widths, "--round-to", "1", "--no-bench"];
                let document = document_of(&network, &more)?;
                let outputs = &document["result"]["proof"]["evaluation"]["comparison"]["outputs"];
                let output = &outputs[0];
                let top1 = output["top1"]["agreement"].as_f64();
                let cosine = output["cosine"].as_f64().context("no cosine")?;
                let agreement = top1.map_or("-".to_owned(), |a| format!("{:.2} %", 100.0 * a));
                row.push_str(&format!(" {agreement}, cosine {cosine:.4} |"));
            }
            say(&row);
            table.push_str(&row);
            table.push('\n');
        }
    }
    Ok(table)
}

/// Time predicted from a table of this machine beside the measured one.
fn time(options: &Options) -> Result<String> {
    const SHARES: [&str; 2] = ["70%", "50%"];
    let mut table = String::new();
    for network in networks(options) {
        let costs = "target/pruning.jsonl";
        let mut command = kerf::command(&["cost", "measure"]);
        command.arg(&network.model).args(["--floats", "--widths", "25%,50%,75%", "-o", costs]);
        kerf::run(command.args(["--limit", "1"]))?;
        for share in SHARES {
            let document = document_of(&network, &["--latency", share, "--cost", costs])?;
            let time = &document["result"]["time"];
            let (predicted, measured) = (&time["predicted"], &time["measured"]);
            if table.is_empty() {
                table = format!(
                    "Milliseconds at batch 1 on one thread of {} in {}: predicted from a table of layers and networks that\n\
                     was measured before (`kerf cost measure --floats --widths 25%,50%,75%`), and measured afterwards.\n\n\
                     | network | asked for | original | predicted | measured | error |\n|---|---|---|---|---|---|\n",
                    predicted["device"].as_str().unwrap_or_default(),
                    measured["engine"].as_str().unwrap_or_default()
                );
            }
            let ms = |of: &Value, key: &str| of[key].as_f64().map(|us| us / 1000.0);
            let all = [
                ms(measured, "before_us"),
                ms(predicted, "after_us"),
                ms(measured, "after_us"),
                measured["error"].as_f64().map(|error| 100.0 * error),
            ];
            let [before, expected, found, error] = all.map(|value| value.unwrap_or(f64::NAN));
            let row = format!(
                "| {} | {share} | {before:.3} | {expected:.3} | {found:.3} | {error:+.1} % |",
                network.name
            );
            say(&row);
            table.push_str(&row);
            table.push('\n');
        }
    }
    Ok(table)
}
