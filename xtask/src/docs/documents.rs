//! Documents of every command, made on the fixtures in some seconds.

use super::schema;
use crate::kerf;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Commands in the order in which each finds what it needs; `DIR` is a folder for results, `DATA` the flags of
/// samples.
const COMMANDS: [&str; 30] = [
    "inspect VGG",
    "check VGG",
    "groups VGG",
    "view VGG",
    "explain E0003",
    "new lenet --input 1x28x28 -o DIR/new.onnx",
    "schedule --sparsity 90%",
    "prune VGG --macs 60% --method lasso DATA -o DIR/prune.onnx --report DIR/prune",
    "prune BN --macs 60% --refine 2 --no-bench --eval-data TEST --assert-max-drop 50% DATA -o DIR/prune2.onnx",
    "calibrate VGG DATA -o DIR/vgg7.stats",
    "prune VGG --macs 60% --no-bench --statistics DIR/vgg7.stats -o DIR/prune3.onnx",
    "factor VGG --macs 40% --prune --no-bench DATA -o DIR/both.onnx",
    "factor VGG --macs 60% --no-bench DATA -o DIR/factor.onnx --report DIR/factor",
    "sparsify VGG --sparsity 50% DATA -o DIR/sparsify.onnx --report DIR/sparsify",
    "quantize BN --no-bench DATA --eval-data TEST -o DIR/quantize.onnx --report DIR/quantize",
    "pareto VGG --shares 70% DATA -o DIR/pareto",
    "eval VGG --data TEST --preprocess PREPROCESS",
    "verify VGG DIR/prune.onnx DATA",
    "bench VGG --against DIR/prune.onnx --runs 10",
    "pack DIR/sparsify.onnx -o DIR/sparse.kerfpack",
    "unpack DIR/sparse.kerfpack -o DIR/unpacked.onnx",
    "train BN --steps 4 --batch 16 DATA --eval-data TEST -o DIR/train.onnx --run DIR/train",
    "finetune BN --steps 4 --batch 16 DATA --sparsity 50% --teacher BN -o DIR/tuned.onnx --run DIR/tuned",
    "distill --student BN --teacher BN --steps 4 --batch 16 DATA -o DIR/taught.onnx --run DIR/taught",
    "gate VGG --macs 80% --steps 12 --batch 16 DATA -o DIR/gate.onnx --run DIR/gate",
    "cost show VGG --hardware bismo-edge",
    "search VGG --hardware bismo-edge --latency 70% SEARCH -o DIR/plan.toml --run DIR/search",
    "compress BN --size 20% --trials 2 --hold-out 64 DATA -o DIR/small.onnx --run DIR/compress",
    "run fixtures/recipes/docs.toml -o DIR/recipe.onnx --run DIR/recipe",
    "report DIR/compress",
];

/// What words of a command stand for.
const WORDS: [(&str, &str); 6] = [
    ("VGG", "fixtures/models/vgg7_fmnist_folded.onnx"),
    ("BN", "fixtures/models/vgg7_fmnist_bn.onnx"),
    ("TEST", "fixtures/data/t10k-1k-images-idx3-ubyte.gz"),
    ("PREPROCESS", "fixtures/preprocess/fmnist.json"),
    (
        "DATA",
        "--data fixtures/data/train-1k-images-idx3-ubyte.gz --preprocess fixtures/preprocess/fmnist.json \
         --samples 64",
    ),
    (
        "SEARCH",
        "--data fixtures/data/train-1k-images-idx3-ubyte.gz --preprocess fixtures/preprocess/fmnist.json \
         --calibration 32 --eval-samples 64 --sensitivity-samples 16",
    ),
];

/// Names of the schemas.
pub(super) fn names() -> Vec<String> {
    let mut names: Vec<String> = COMMANDS.iter().map(|line| name(line)).collect();
    names.push("error".to_owned());
    names
}

fn name(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// Documents by the name of their schema, in the order of the commands.
pub(super) fn all() -> Result<Vec<(String, Vec<Value>)>> {
    let folder = Path::new("target/docs");
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let mut found: Vec<(String, Vec<Value>)> = Vec::new();
    for line in COMMANDS {
        let document = document(line)?;
        match found.iter_mut().find(|(known, _)| *known == name(line)) {
            Some((_, documents)) => documents.push(document),
            None => found.push((name(line), vec![document])),
        }
    }
    found.push(("error".to_owned(), vec![document("inspect missing.onnx")?]));
    Ok(found)
}

/// Schemas by name.
pub(super) fn schemas() -> Result<Vec<(String, Value)>> {
    let all = all()?;
    Ok(all
        .into_iter()
        .map(|(name, documents)| (name.clone(), schema::of(&name, &documents)))
        .collect())
}

fn document(line: &str) -> Result<Value> {
    let mut arguments: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match WORDS.iter().find(|(known, _)| *known == word) {
            Some((_, meaning)) => arguments.extend(meaning.split_whitespace().map(str::to_owned)),
            None => arguments.push(word.replace("DIR", "target/docs")),
        }
    }
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).chain(["--json", "-q"]).collect();
    let output = kerf::command(&arguments).output().context("starting kerf")?;
    // A goal that is missed has a document, too.
    if output.status.code().is_none_or(|code| code > 2) {
        bail!("kerf {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("kerf {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))
    })
}
