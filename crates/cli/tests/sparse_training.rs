//! `--sparsity` and `--keep-zeros` of `kerf train` and `kerf finetune`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, TRAIN, VGG, kerf};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tensor_core::Constant;
use tensor_core::graph::Node;

/// A small network; with few samples and steps.
fn arguments<'a>(model: &'a str, output: &'a str) -> Vec<&'a str> {
    let files = ["finetune", model, "-o", output, "--data", TRAIN, "--preprocess", PREPROCESS];
    let run = ["--samples", "200", "--batch", "50", "--steps", "12", "--json", "--force"];
    [&files[..], &run].concat()
}

fn lenet(folder: &Path) -> String {
    let path = folder.join("lenet.onnx").display().to_string();
    let size = ["--input", "1x28x28", "--width", "0.5"];
    kerf(&[&["new", "lenet"][..], &size, &["-o", &path]].concat()).success();
    path
}

fn zeros(document: &Value) -> Vec<u64> {
    let layers = document["result"]["sparsity"]["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["zeros"].as_u64().unwrap()).collect()
}

#[test]
fn pruning_ends_at_the_sparsity_and_a_later_run_keeps_every_zero() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, sparse, later) = (lenet(folder.path()), path("sparse.onnx"), path("later.onnx"));
    let extra = ["--sparsity", "80%", "--sparsity-every", "2", "--teacher", VGG];
    let first = kerf(&[&arguments(&model, &sparse)[..], &extra].concat()).success();
    let document = first.json();
    let report = &document["result"]["sparsity"];
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(count("zeros"), (0.8 * count("weights") as f64).round() as u64);
    for layer in report["layers"].as_array().unwrap() {
        let (weights, zeros) =
            (layer["weights"].as_u64().unwrap(), layer["zeros"].as_u64().unwrap());
        match layer["dense"].is_null() {
            true => assert!((zeros as f64 - 0.8 * weights as f64).abs() < 1.0, "{layer}"),
            false => assert_eq!(layer["dense"], "the first convolution"),
        }
    }
    let kept = kerf(&[&arguments(&sparse, &later)[..], &["--keep-zeros"]].concat()).success();
    assert_eq!(zeros(&kept.json()), zeros(&document));
    let names = |path: &str| {
        let graph = tensor_core::onnx::read(Path::new(path)).unwrap();
        let bits = |&v: &_| graph.initializer(v).unwrap().to_f32s().unwrap_or_default();
        graph.initializers().iter().map(bits).collect::<Vec<_>>()
    };
    // Where there was a zero there is one, +0.
    for (before, after) in names(&sparse).iter().zip(&names(&later)) {
        let is_weight = before.len() > 200;
        assert!(!is_weight || before.iter().zip(after).all(|(b, a)| *b != 0.0 || a.to_bits() == 0));
    }
    let filled = kerf(&arguments(&sparse, &later)).success();
    assert!(filled.stderr.contains("--keep-zeros"), "{}", filled.stderr);
}

/// The weights of a written model by name, and their dimensions.
fn weights(path: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let graph = tensor_core::onnx::read(Path::new(path)).unwrap();
    let named = graph.initializers().iter().filter_map(|&value| {
        let constant = graph.initializer(value).unwrap();
        let values = constant.to_f32s().ok().filter(|_| constant.dims().len() > 1)?;
        Some((graph.name(value).to_owned(), (constant.dims().to_vec(), values)))
    });
    named.collect()
}

/// Blocks of `height x width` outputs and inputs of a tap that are zero, part of them, or not at all;
/// the dimensions are `[outputs, inputs, kernel...]`.
fn blocks(dims: &[usize], values: &[f32], height: usize, width: usize) -> Vec<(usize, usize)> {
    let (outputs, inputs) = (dims[0], dims[1]);
    let taps: usize = dims[2..].iter().product();
    let mut found = Vec::new();
    for first in (0..outputs).step_by(height) {
        for tap in 0..taps {
            for start in (0..inputs).step_by(width) {
                let rows = first..(first + height).min(outputs);
                let columns = start..(start + width).min(inputs);
                let size = rows.len() * columns.len();
                let places = rows.flat_map(|o| columns.clone().map(move |i| (o, i)));
                let zero = |&(o, i): &(usize, usize)| values[(o * inputs + i) * taps + tap] == 0.0;
                found.push((places.filter(zero).count(), size));
            }
        }
    }
    found
}

#[test]
fn patterns_and_regrowth_are_exact_too() {
    let folder = tempfile::tempdir().unwrap();
    let model = lenet(folder.path());
    let output = folder.path().join("o.onnx").display().to_string();
    for extra in [
        &["--pattern", "2:4", "--sparsity-schedule", "linear"][..],
        &["--pattern", "2:4", "--regrow", "0.3", "--sparsity-every", "1"],
        &["--sparsity", "70%", "--regrow", "0.3", "--sparsity-every", "1"],
        &["--sparsity", "60%", "--distribution", "layerwise", "--sparsity-schedule", "linear"],
        &["--sparsity", "60%", "--distribution", "global", "--ema", "0.9"],
        &["--sparsity", "50%", "--pattern", "block:4x4", "--dense", "*2*"],
    ] {
        let document = kerf(&[&arguments(&model, &output)[..], extra].concat()).success().json();
        let report = &document["result"]["sparsity"];
        let written = weights(&output);
        // What came back begins at zero, and stays there behind units that are never active.
        let may_be_more = extra.contains(&"--regrow");
        let (mut all, mut zero) = (0, 0);
        for layer in report["layers"].as_array().unwrap() {
            let (dims, values) = &written[layer["weight"].as_str().unwrap()];
            let zeros = values.iter().filter(|value| value.to_bits() == 0).count();
            assert_eq!(layer["zeros"], zeros, "{extra:?} {layer}");
            if !layer["dense"].is_null() {
                assert_eq!(zeros, 0, "{extra:?} {layer}");
                continue;
            }
            (all, zero) = (all + values.len(), zero + zeros);
            match extra[1] {
                "2:4" => {
                    for (zeros, size) in blocks(dims, values, 1, 4) {
                        let is_right = zeros == size / 2 || may_be_more && zeros > size / 2;
                        assert!(is_right, "{zeros} of {size} {extra:?} {layer}");
                    }
                }
                "50%" => {
                    for (zeros, size) in blocks(dims, values, 4, 4) {
                        assert!(zeros == 0 || zeros == size, "{zeros} of {size} in {layer}");
                    }
                    assert!(zeros.abs_diff(values.len() / 2) <= 8, "{layer}");
                }
                _ => {}
            }
        }
        assert_eq!((&report["weights"], &report["zeros"]), (&all.into(), &zero.into()));
        let wanted = extra[1].strip_suffix('%').map(|percent| percent.parse::<f64>().unwrap());
        if let Some(percent) = wanted.filter(|percent| *percent > 50.0) {
            let wanted = (percent / 100.0 * all as f64).round() as usize;
            let most = if may_be_more { wanted + all / 100 } else { wanted };
            assert!((wanted..=most).contains(&zero), "{zero} {wanted} {extra:?}");
        }
    }
}

/// Three fifths of the matrices and kernels of that name become zero.
fn with_holes(model: &str, folder: &Path, names: &[&str]) -> String {
    let path = folder.join("holes.onnx").display().to_string();
    common::changed(model, Path::new(&path), |graph| {
        for value in graph.initializers().to_vec() {
            let constant = graph.initializer(value).unwrap();
            let is_named = names.iter().any(|name| graph.name(value).contains(name));
            if constant.dims().len() < 2 || !is_named {
                continue;
            }
            let is_hole = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 16 < 39_321;
            let values = constant.to_f32s().unwrap().into_iter().enumerate();
            let values: Vec<f32> =
                values.map(|(i, value)| if is_hole(i) { 0.0 } else { value }).collect();
            let constant = Constant::from_f32s(constant.dims(), &values).unwrap();
            graph.set_initializer(value, constant);
        }
    });
    path
}

/// Zeros of a written model that are none in another one.
fn refilled(before: &str, after: &str) -> usize {
    let after = weights(after);
    let both = weights(before).into_iter().map(|(name, (_, values))| (values, &after[&name].1));
    both.map(|(before, after)| {
        before.iter().zip(after).filter(|&(before, after)| *before == 0.0 && *after != 0.0).count()
    })
    .sum()
}

#[test]
fn kept_zeros_are_not_refilled_and_more_than_asked_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = with_holes(&lenet(folder.path()), folder.path(), &["conv2", "fc1", "fc2"]);
    let output = folder.path().join("o.onnx").display().to_string();
    for (extra, warning) in [
        (&["--pattern", "2:4", "--regrow", "0.3", "--sparsity-every", "1"][..], "already has more"),
        (&["--sparsity", "40%"], "of `fc1` are zero, not 40"),
        (&["--sparsity", "70%", "--pattern", "block:1x4"], "come on top"),
        (&["--sparsity", "70%", "--regrow", "0.3", "--sparsity-every", "1"], ""),
    ] {
        let run = kerf(&[&arguments(&model, &output)[..], &["--keep-zeros"], extra].concat());
        let run = run.success();
        assert_eq!(refilled(&model, &output), 0, "{extra:?}");
        assert!(run.stderr.contains(warning), "{extra:?}: {}", run.stderr);
        assert_eq!(run.stderr.contains("are zero, not"), !warning.is_empty(), "{}", run.stderr);
    }
    kerf(&arguments(&model, &output)).success();
    assert!(refilled(&model, &output) > 1000);
}

/// A stack of matrices is no weight that is pruned; its zeros stay all the same.
#[test]
fn zeros_of_weights_that_are_never_pruned_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (plain, output) = (path("plain.onnx"), path("o.onnx"));
    common::changed(&lenet(folder.path()), Path::new(&plain), |graph| {
        let input = graph.inputs[0];
        let scores = graph.outputs[0];
        graph.nodes.clear();
        for value in graph.initializers().to_vec() {
            graph.remove_initializer(value);
        }
        let names = ["shape", "stack", "rows", "hidden", "relu", "axis", "flat", "last"];
        let [shape, stack, rows, hidden, relu, axis, flat, last] =
            names.map(|name| graph.value(name));
        let random = |dims: &[usize]| {
            let count: usize = dims.iter().product();
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32;
            let values: Vec<f32> = (0..count).map(|i| value(i) / 1.6e8 - 0.05).collect();
            Constant::from_f32s(dims, &values).unwrap()
        };
        graph.set_initializer(shape, Constant::from_i64s(&[3], &[0, 1, 784]).unwrap());
        graph.set_initializer(axis, Constant::from_i64s(&[1], &[1]).unwrap());
        graph.set_initializer(stack, random(&[1, 784, 16]));
        graph.set_initializer(last, random(&[16, 10]));
        graph.nodes.extend([
            Node::new("rows", "Reshape", &[input, shape], &[rows]),
            Node::new("hidden", "MatMul", &[rows, stack], &[hidden]),
            Node::new("relu", "Relu", &[hidden], &[relu]),
            Node::new("flat", "Squeeze", &[relu, axis], &[flat]),
            Node::new("last", "MatMul", &[flat, last], &[scores]),
        ]);
    });
    let model = with_holes(&plain, folder.path(), &["stack"]);
    kerf(&[&arguments(&model, &output)[..], &["--keep-zeros"]].concat()).success();
    assert_eq!(refilled(&model, &output), 0);
    let filled = kerf(&arguments(&model, &output)).success();
    assert!(filled.stderr.contains("--keep-zeros"), "{}", filled.stderr);
    assert!(refilled(&model, &output) > 1000);
}

#[test]
fn a_finished_run_gives_its_model_again_and_masks_are_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, whole, parted, run) =
        (lenet(folder.path()), path("whole.onnx"), path("parted.onnx"), path("run"));
    let extra = ["--sparsity", "70%", "--sparsity-every", "1", "--regrow", "0.2"];
    let often = ["--checkpoint-every", "5", "--run", &run];
    let first = [&arguments(&model, &whole)[..], &extra, &often].concat();
    kerf(&first).success();
    let again = [&arguments(&model, &parted)[..], &extra, &often].concat();
    let document = kerf(&again).success().json();
    assert_eq!(document["result"]["training"]["resumed_from"], 12);
    let weights = |path: &str| {
        let graph = tensor_core::onnx::read(Path::new(path)).unwrap();
        let constants = graph.initializers().iter().map(|&v| graph.initializer(v).unwrap().clone());
        constants.collect::<Vec<_>>()
    };
    assert!(weights(&whole) == weights(&parted));
    // Other zeros are another run.
    let other = [&again[..], &["--distribution", "erk"]].concat();
    assert_eq!(kerf(&other).exits(2).json()["error"]["code"], "E0403");
}

#[test]
fn frozen_layers_stay_dense() {
    let folder = tempfile::tempdir().unwrap();
    let model = lenet(folder.path());
    let output = folder.path().join("o.onnx").display().to_string();
    let extra = ["--sparsity", "60%", "--freeze", "fc1"];
    let document = kerf(&[&arguments(&model, &output)[..], &extra].concat()).success().json();
    let layers = document["result"]["sparsity"]["layers"].as_array().unwrap();
    let frozen: Vec<_> = layers.iter().filter(|layer| layer["dense"] == "frozen").collect();
    assert_eq!(frozen.len(), 1, "{layers:?}");
    assert_eq!((&frozen[0]["key"], &frozen[0]["zeros"]), (&"fc1".into(), &0.into()));
}

#[test]
fn what_cannot_be_met_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = lenet(folder.path());
    let output = folder.path().join("o.onnx").display().to_string();
    let run = |extra: &[&str]| kerf(&[&arguments(&model, &output)[..], extra].concat());
    let late = run(&["--sparsity", "80%", "--sparsity-end", "24"]).exits(1);
    assert!(late.stderr.contains("pruning ends at step 24, but training after 12"));
    assert!(late.json()["result"]["failures"][0].as_str().unwrap().contains("sparsity is"));
    let spent = run(&["--sparsity", "80%", "--sparsity-end", "100%"]).success();
    assert!(spent.stderr.contains("below a tenth of its peak"), "{}", spent.stderr);
    fs::remove_file(&output).unwrap();
    let code = |extra: &[&str]| run(extra).exits(2).json()["error"]["code"].clone();
    assert_eq!(code(&["--sparsity", "80%", "--keep", "best"]), "E0010");
    for unused in [["--distribution", "erk"], ["--pattern", "block:4x4"], ["--dense", "*"]] {
        assert_eq!(code(&unused), "E0010", "{unused:?}");
    }
    let reversed = run(&["--pattern", "4:2"]).exits(2);
    assert!(reversed.stderr.contains("`4:2` is no pattern; such as "), "{}", reversed.stderr);
    assert_eq!(code(&["--sparsity", "80%", "--pattern", "2:4"]), "E0431");
    assert_eq!(code(&["--sparsity", "80%", "--regrow", "1.5"]), "E0430");
    assert_eq!(code(&["--sparsity", "80%", "--regrow", "0.3", "--pattern", "rows"]), "E0436");
    assert_eq!(code(&["--sparsity", "80%", "--dense", "nothing"]), "E0434");
    assert_eq!(code(&["--sparsity", "80%", "--sparsity-begin", "90%"]), "E0430");
    assert!(!Path::new(&output).exists());
}
