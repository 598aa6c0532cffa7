//! Every network at hand either prunes, with its cut proved, or says why not.
//!
//! The networks are larger than what belongs into the repository: `KERF_MODELS` names their folder,
//! or `../shared/models` beside the checkout has them.
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "tests")]

mod common;

use common::{command, finish, root};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Networks, the name of their input, and batches of samples small enough to be quick: the fully
/// convolutional ones take any size.
const NETWORKS: [(&str, &str, [usize; 4]); 8] = [
    ("ddddocr_common_det", "images", [2, 3, 416, 416]),
    ("digit_cnn", "input", [32, 1, 28, 28]),
    ("efficientnet_lite0", "input", [4, 3, 224, 224]),
    ("fer_mini_xception", "input", [32, 1, 64, 64]),
    ("mtcnn_onet", "input", [32, 3, 48, 48]),
    ("mtcnn_pnet", "input", [16, 3, 96, 96]),
    ("ppocr_mobile_cls", "x", [16, 3, 48, 192]),
    ("ppocrv4_det", "x", [4, 3, 160, 160]),
];

fn models() -> PathBuf {
    std::env::var_os("KERF_MODELS").map_or_else(|| root().join("../shared/models"), PathBuf::from)
}

/// Writes smooth random samples as `.npy`: a few waves per sample, so that neighbouring pixels
/// resemble each other as in photographs.
fn write_samples(path: &Path, dims: [usize; 4]) {
    let [samples, channels, height, width] = dims;
    let mut state = 1_u64;
    let mut random = || {
        // Knuth's MMIX generator; the upper bits are good enough for waves.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    let header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({samples}, {channels}, {height}, \
         {width}), }}"
    );
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((padded as u16).to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = padded - 1).bytes());
    for _ in 0..samples * channels {
        let [a, b, c, d] = [random(), random(), random(), random()];
        for y in 0..height {
            for x in 0..width {
                let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
                let wave = (12.0 * (a * x + b * y) + 6.0 * c).sin() * (30.0 * d * x * y).cos();
                bytes.extend((0.5 + 0.4 * wave + 0.1 * random()).to_le_bytes());
            }
        }
    }
    fs::write(path, bytes).unwrap();
}

/// Prunes one network to 60 % and returns what is wrong with the outcome, if anything.
fn offence(model: &Path, input: &str, dims: [usize; 4], folder: &Path) -> Option<String> {
    let data = folder.join("samples.npy");
    write_samples(&data, dims);
    let output = folder.join("pruned.onnx");
    let [_, channels, height, width] = dims;
    let shape = format!("{input}=1x{channels}x{height}x{width}");
    let mut command = command(&["prune", "--macs", "60%", "--no-bench", "--batch", "4", "--json"]);
    command.arg("--force").arg(model).arg("--data").arg(&data).arg("-o").arg(&output);
    let run = finish(command.args(["--shape", &shape]));
    let document: Value = match serde_json::from_str(&run.stdout) {
        Ok(document) => document,
        Err(error) => return Some(format!("no JSON ({error}); stderr: {}", run.stderr)),
    };
    match run.code {
        0 => {
            let sizes = &document["result"]["sizes"];
            let predicted = &document["result"]["pruning"]["predicted"];
            for (of, size) in
                [("macs", "macs"), ("parameters", "parameters"), ("bytes", "constant_bytes")]
            {
                if predicted[of] != sizes["after"][size] {
                    return Some(format!("{of}: {} predicted, {}", predicted[of], sizes["after"]));
                }
            }
            let macs = |side: &str| sizes[side]["macs"].as_f64().unwrap();
            let kept = macs("after") / macs("before");
            (kept > 0.6).then(|| format!("keeps {kept}"))
        }
        // Nothing to prune, or not so far: the groups in the way are named.
        1 | 2 if ["E0140", "E0143"].contains(&document["error"]["code"].as_str()?) => None,
        code => Some(format!(
            "exit {code}: {} {} {}",
            document["error"], document["result"]["proof"]["failures"], run.stderr
        )),
    }
}

#[test]
fn every_network_prunes_or_says_why_not() {
    let models = models();
    let folder = tempfile::tempdir().unwrap();
    let mut offences = Vec::new();
    let mut skipped = Vec::new();
    for (name, input, dims) in NETWORKS {
        let model = models.join(format!("{name}.onnx"));
        if !model.exists() {
            skipped.push(name);
            continue;
        }
        if let Some(offence) = offence(&model, input, dims, folder.path()) {
            offences.push(format!("{name}: {offence}"));
        }
    }
    if !skipped.is_empty() {
        eprintln!("skipped, not in {}: {}", models.display(), skipped.join(", "));
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}
