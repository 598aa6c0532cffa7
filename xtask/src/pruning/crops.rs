//! Real networks on crops of photographs: agreement of classes, cosine of outputs.

use crate::step::say;
use crate::three_c::kept;
use crate::{kerf, section};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

/// A network, the share to keep, and how it reads images.
pub(super) struct Case {
    pub(super) name: &'static str,
    macs: &'static str,
    pub(super) flags: &'static [&'static str],
    /// Has it something to say of photographs with text only?
    reads_text: bool,
}

const fn case(name: &'static str, macs: &'static str, flags: &'static [&'static str]) -> Case {
    Case { name, macs, flags, reads_text: false }
}

const fn of_text(name: &'static str, macs: &'static str, flags: &'static [&'static str]) -> Case {
    Case { reads_text: true, ..case(name, macs, flags) }
}

const UNIT: [&str; 4] = ["--mean", "0.5", "--std", "0.5"];

pub(super) const CASES: [Case; 9] = [
    case("efficientnet_lite0", "70%", &["--mean", "0.498", "--std", "0.502"]),
    case("efficientnet_lite0", "60%", &["--mean", "0.498", "--std", "0.502"]),
    of_text(
        "ppocrv4_det",
        "60%",
        &["--resize", "224", "--shape", "x=1x3x224x224", UNIT[0], UNIT[1], UNIT[2], UNIT[3]],
    ),
    case("ddddocr_common_det", "60%", &["--resize", "416x416", "--samples", "48"]),
    of_text(
        "ppocr_mobile_cls",
        "60%",
        &["--resize", "48x192", "--shape", "x=1x3x48x192", UNIT[0], UNIT[1], UNIT[2], UNIT[3]],
    ),
    case("mtcnn_pnet", "60%", &["--resize", "96x96", UNIT[0], UNIT[1], UNIT[2], UNIT[3]]),
    case("mtcnn_onet", "60%", &["--resize", "48x48", UNIT[0], UNIT[1], UNIT[2], UNIT[3]]),
    case("digit_cnn", "60%", &["--resize", "28x28"]),
    case("fer_mini_xception", "60%", &["--resize", "64x64", UNIT[0], UNIT[1], UNIT[2], UNIT[3]]),
];

/// Runs all and writes the table.
pub(super) fn run(models: &Path, crops: &Path, text: &Path) -> Result<()> {
    let mut table = String::from(
        "Written by `cargo xtask pruning --models FOLDER --crops FOLDER --text FOLDER`: the crops in `calibration`, no labels, no\n\
         training; judged on those in `evaluation`, by ONNX Runtime. Each cut was verified there. Cosine: the least of all\n\
         outputs. Networks of text: crops with text drawn on them (`benches/python/text_crops.py`), as without their outputs are\n\
         1e-4 at most.\n\n\
         | network | MACs kept | agreement of classes | cosine | speed-up at batch 1 |\n|---|---|---|---|---|\n",
    );
    for Case { name, macs, flags, reads_text } in CASES {
        let crops = if reads_text { text } else { crops };
        let model = models.join(format!("{name}.onnx"));
        let mut command = kerf::command(&["prune"]);
        command.arg(&model).args(["--macs", macs, "-o", "target/pruning.onnx"]).args(flags);
        command.arg("--data").arg(crops.join("calibration"));
        command.arg("--eval-data").arg(crops.join("evaluation"));
        let document = kerf::run(&mut command)?;
        let row = format!("| {name} | {:.1} % | {}", 100.0 * kept(&document)?, cells(&document)?);
        say(&row);
        table.push_str(&format!("{row}\n"));
    }
    section::write("benches/pruning.md", "models", &table)
}

fn cells(document: &Value) -> Result<String> {
    let proof = &document["result"]["proof"];
    let outputs = proof["evaluation"]["comparison"]["outputs"].as_array().context("no outputs")?;
    let cosine = outputs.iter().filter_map(|output| output["cosine"].as_f64());
    let cosine = cosine.fold(f64::INFINITY, f64::min);
    let agreement = outputs.iter().find_map(|output| output["top1"]["agreement"].as_f64());
    let agreement = agreement.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let speed = proof["latency"][0]["models"][1]["speedup"]["median"].as_f64();
    let speed = speed.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x"));
    Ok(format!("{agreement} | {cosine:.4} | {speed} |"))
}
