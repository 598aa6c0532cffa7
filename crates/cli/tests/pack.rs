//! `kerf pack` and `kerf unpack`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, TEST, changed, kerf, root};
use std::fs;
use tensor_core::graph::Constant;

/// Zeroes all but every tenth weight of a convolution.
fn sparse(path: &std::path::Path) {
    changed(RESNET, path, |graph| {
        for value in graph.initializers().to_vec() {
            let constant = graph.initializer(value).unwrap();
            if constant.dims().len() == 4 {
                let dims = constant.dims().to_vec();
                let mut values = constant.to_f32s().unwrap();
                let zeros = values.iter_mut().enumerate().filter(|(i, _)| i % 10 != 0);
                zeros.for_each(|(_, value)| *value = 0.0);
                graph.set_initializer(value, Constant::from_f32s(&dims, &values).unwrap());
            }
        }
    });
}

#[test]
fn a_sparse_model_is_packed_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, small, back) = (path("sparse.onnx"), path("sparse.kerfpack"), path("back.onnx"));
    sparse(model.as_ref());
    let run = kerf(&["pack", &model, "-o", &small, "--json"]).success();
    let document = run.json();
    assert_eq!(document["schema"], "kerf.pack/1");
    let sizes = &document["result"]["sizes"];
    let bytes = |path: &str| fs::metadata(path).unwrap().len();
    assert_eq!(sizes["model"].as_u64(), Some(bytes(&model)));
    assert_eq!(sizes["packed"].as_u64(), Some(bytes(&small)));
    assert!(bytes(&small) * 5 < bytes(&model), "{sizes}");
    for name in ["model", "packed"] {
        let after = sizes[format!("{name}_zstd")].as_u64().unwrap();
        assert!(after > 0 && after < sizes[name].as_u64().unwrap() + 100, "{sizes}");
    }

    let run = kerf(&["unpack", &small, "-o", &back]).success();
    assert!(run.stdout.contains("the same as were packed"), "{}", run.stdout);
    assert!(fs::read(&model).unwrap() == fs::read(&back).unwrap());

    let text = kerf(&["pack", &model, "-o", &small, "--force", "-v"]).success().stdout;
    for part in ["4-bit gaps", "after zstd", "formula", "from it"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

/// A mask times a negative weight is -0.0, which is no zero to a lossless coding.
#[test]
fn negative_zeros_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    changed(RESNET, path("masked.onnx").as_ref(), |graph| {
        let value = graph.find("fc.weight").unwrap();
        let constant = graph.initializer(value).unwrap();
        let masked: Vec<f32> = constant.to_f32s().unwrap().iter().map(|v| v * 0.0).collect();
        let dims = constant.dims().to_vec();
        graph.set_initializer(value, Constant::from_f32s(&dims, &masked).unwrap());
    });
    let run = kerf(&["pack", &path("masked.onnx"), "-o", &path("small.kerfpack")]).success();
    assert!(run.stderr.contains("weights are -0.0"), "{}", run.stderr);
}

#[test]
fn a_model_with_sparse_initializers_is_read_like_the_dense_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, small) = (path("sparse.onnx"), path("small.onnx"));
    sparse(model.as_ref());
    let arguments = ["pack", &model, "--format", "onnx-sparse", "-o", &small];
    let document = kerf(&[&arguments[..], &["--json"]].concat()).success().json();
    assert!(document["result"]["converted"].as_u64() > Some(15), "{document}");
    assert!(fs::metadata(&small).unwrap().len() * 2 < fs::metadata(&model).unwrap().len());
    let costs = |path: &str| kerf(&["inspect", path, "--json"]).success().json();
    assert_eq!(costs(&model)["result"]["macs"], costs(&small)["result"]["macs"]);
    let data = ["--data", TEST, "--preprocess", PREPROCESS, "--samples", "32"];
    let goal = ["--engine", "kerf", "--tolerance", "0"];
    kerf(&[&["verify", &model, &small][..], &data, &goal].concat()).success();
}

#[test]
fn without_zeros_nothing_becomes_sparse() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let pack = |model: &str| {
        let run =
            kerf(&["pack", model, "--format", "onnx-sparse", "-o", &path("o.onnx"), "--force"]);
        run.success()
    };
    let run = pack(RESNET);
    assert!(run.stdout.contains("0 tensors became sparse"), "{}", run.stdout);
    assert!(run.stderr.contains("no tensor has enough zeros"), "{}", run.stderr);
}

#[test]
fn the_executor_times_sparse_against_dense() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("sparse.onnx");
    sparse(&model);
    let model = model.display().to_string();
    let arguments = ["bench", &model, "--sparse", "--runs", "20", "--json"];
    let result = &kerf(&arguments).success().json()["result"];
    let layers = result["sparse_layers"].as_array().unwrap();
    assert!(layers.len() > 15 && layers.iter().all(|layer| layer["op"] == "Conv"), "{result}");
    assert_eq!(result["latency"][0]["models"][1]["name"], "sparse");
    let text = kerf(&["bench", RESNET, "--sparse", "--runs", "20"]).success();
    assert!(text.stderr.contains("no layer is sparse enough"), "{}", text.stderr);
    for refused in [&["--against", RESNET][..], &["--engine", "rten"]] {
        let run = kerf(&[&["bench", RESNET, "--sparse"], refused].concat()).exits(2);
        assert!(run.stderr.contains("cannot be used with"), "{}", run.stderr);
    }
}

#[test]
fn what_cannot_be_packed_or_unpacked_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (small, back) = (path("small.kerfpack"), path("back.onnx"));
    let run = kerf(&["pack", RESNET, "-o", &small]).success();
    assert!(run.stderr.contains("no weights are sparse enough"), "{}", run.stderr);

    let run = kerf(&["unpack", RESNET, "-o", &back, "--json"]).exits(2);
    assert_eq!(run.json()["error"]["code"], "E0171");
    let mut bytes = fs::read(&small).unwrap();
    bytes.truncate(bytes.len() - 1);
    fs::write(path("cut.kerfpack"), bytes).unwrap();
    let run = kerf(&["unpack", &path("cut.kerfpack"), "-o", &back]).exits(2);
    assert!(run.stderr.contains("error[E0171]"), "{}", run.stderr);
    let run = kerf(&["pack", "README.md", "-o", &back]).exits(2);
    assert!(run.stderr.contains("error[E0100]"), "{}", run.stderr);
    assert!(!folder.path().join("back.onnx").exists());
    let run = kerf(&["unpack", &small, "-o", &small, "--force", "--json"]).exits(2);
    assert_eq!(run.json()["error"]["code"], "E0021");
    assert!(root().join(RESNET).exists());
}
