//! `inspect`, `check` and `groups` on real and broken files.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, TRAIN, VGG, changed, command, kerf, root};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tensor_core::graph::{Declared, Dim};
use tensor_core::{Constant, ElementType};

#[test]
fn inspect_shows_the_network() {
    let text = kerf(&["inspect", VGG]).success().stdout;
    let expected = "\
vgg7_fmnist_folded.onnx  IR 8  opset 17  435 k params  36.4 M MACs  1.66 MiB
input   input  batchx1x28x28 F32
output  logits  batchx10 F32

 #  node                           op                 output        MACs  params   activations  channels
 0  /features/features.0/Conv      Conv               1x32x28x28   226 k     320      98.0 KiB  g01 32
 1  /features/features.2/Relu      Relu               1x32x28x28                      98.0 KiB
";
    assert!(text.starts_with(expected), "{text}");
    let total = text.lines().last().unwrap();
    assert!(total.contains("total") && total.contains("peak 196 KiB"), "{total}");
}

#[test]
fn inspect_json_adds_up() {
    let document = kerf(&["inspect", RESNET, "--json"]).success().json();
    assert_eq!(document["schema"], "kerf.inspect/1");
    assert_eq!(document["tool"]["name"], "kerf");
    assert_eq!(document["input"]["path"], RESNET);
    assert_eq!(document["input"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(document["verdict"], "pass");
    let result = &document["result"];
    // 31.02 million multiply-accumulates, as the manifest of the network says.
    assert_eq!(result["macs"], 31_021_952);
    let nodes = result["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 52);
    for key in ["macs", "parameters", "parameter_bytes"] {
        let sum: u64 = nodes.iter().map(|node| node[key].as_u64().unwrap()).sum();
        assert_eq!(result[key].as_u64().unwrap(), sum, "{key}");
    }
    assert_eq!(result["inputs"][0]["dims"], serde_json::json!([1, 1, 28, 28]));
}

#[test]
fn shapes_scale_costs() {
    let macs = |shape: &str| {
        let run = kerf(&["inspect", RESNET, "--json", "--shape", shape]).success();
        run.json()["result"]["macs"].as_u64().unwrap()
    };
    assert_eq!(macs("input=4x1x28x28"), 4 * macs("input=1x1x28x28"));
}

#[test]
fn wrong_shapes_are_errors_that_name_the_input() {
    for (shape, expected) in [
        ("input=1x3x28x28", "shape [1, 3, 28, 28] does not fit input `input`"),
        ("input=28x28", "shape [28, 28] does not fit input `input`"),
        ("images=1x1x28x28", "the model has no input `images`"),
    ] {
        let run = kerf(&["inspect", RESNET, "--shape", shape]).exits(2);
        assert!(run.stderr.starts_with("error[E0111]: ") && run.stderr.contains(expected));
    }
}

#[test]
fn check_passes_good_models() {
    let run = kerf(&["check", VGG]).success();
    assert!(run.stdout.ends_with("19 nodes, 0 errors, 0 warnings\n"), "{}", run.stdout);
    let document = kerf(&["check", VGG, "--json"]).success().json();
    assert_eq!((&document["verdict"], &document["result"]["errors"]), (&"pass".into(), &0.into()));
}

#[test]
fn groups_name_members_and_reasons() {
    let text = kerf(&["groups", RESNET]).success().stdout;
    assert!(text.ends_with("13 groups, 12 prunable, 1 with frozen channels\n"), "{text}");
    let frozen = kerf(&["groups", RESNET, "--frozen"]).success().stdout;
    assert_eq!(frozen.lines().count(), 3, "{frozen}");
    assert!(frozen.contains("axis 1 of `input` carries no channels"), "{frozen}");
    let root = "/layers/layers.0/bn1/BatchNormalization_output_0";
    let details = kerf(&["groups", RESNET, "--group", root]).success().stdout;
    let id = details.split_whitespace().next().unwrap();
    let again = kerf(&["groups", RESNET, "--group", id]).success().stdout;
    assert_eq!(details, again);
    assert!(details.contains("16 channels, 16 removable"), "{details}");
    assert!(details.contains("read    by /layers/layers.0/conv2/Conv"), "{details}");
    let layer = "/layers/layers.0/conv1/Conv";
    let all = kerf(&["groups", RESNET, "--group", layer]).success().stdout;
    assert!(all.contains(&details) && all.len() > details.len(), "{all}");
    let run = kerf(&["groups", RESNET, "--group", "/layers/layer.0/conv1/Conv"]).exits(2);
    assert!(run.stderr.contains(&format!("the nearest names are `{layer}`")), "{}", run.stderr);
}

#[test]
fn broken_files_are_errors_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read(root().join(VGG)).unwrap();
    let mut flipped = good.clone();
    for byte in flipped.iter_mut().step_by(997) {
        *byte ^= 0x55;
    }
    for (name, bytes) in [
        ("empty.onnx", Vec::new()),
        ("text.onnx", b"not a model at all\n".to_vec()),
        ("short.onnx", good[..good.len() / 2].to_vec()),
        ("flipped.onnx", flipped),
        ("zeros.onnx", vec![0; 4096]),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap();
        for verb in ["inspect", "check", "groups"] {
            let run = kerf(&[verb, path, "--json"]);
            assert!([1, 2].contains(&run.code), "{verb} {name}: {}\n{}", run.code, run.stderr);
            run.json();
        }
    }
    let run = kerf(&["inspect", folder.path().to_str().unwrap()]).exits(2);
    assert!(run.stderr.starts_with("error[E0003]: "), "{}", run.stderr);
}

#[test]
fn a_pipe_that_closes_early_is_no_error() {
    let mut child = command(&["inspect", RESNET])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn nodes_that_share_a_name_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("same.onnx");
    changed(VGG, &path, |graph| {
        for node in &mut graph.nodes {
            node.name = "same".to_owned();
        }
    });
    let document = kerf(&["inspect", path.to_str().unwrap(), "--json"]).success().json();
    let nodes = document["result"]["nodes"].as_array().unwrap();
    for node in nodes {
        assert_eq!(node["key"], node["output_name"]);
    }
    let run = kerf(&["groups", path.to_str().unwrap(), "--group", "g01"]).success();
    assert!(
        run.stdout.contains("read    by /features/features.4/BatchNormalization_output_0"),
        "{}",
        run.stdout
    );
}

#[test]
fn one_thing_is_singular() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.onnx");
    changed(VGG, &path, |graph| graph.nodes[1].op = "Unheard".to_owned());
    let model = path.to_str().unwrap();
    let check = kerf(&["check", model]).exits(1).stdout;
    assert!(check.contains("operator Unheard is not implemented (1 node)\n"), "{check}");
    assert!(check.contains(": 19 nodes, 2 errors, 1 warning\n"), "{check}");
    let inspect = kerf(&["inspect", model]).success().stderr;
    assert!(inspect.starts_with("warning: 1 node left alone, "), "{inspect}");
}

/// What is behind an unknown operator counts where the file says what the operator makes.
#[test]
fn declared_shapes_count_behind_an_unknown_operator() {
    let folder = tempfile::tempdir().unwrap();
    let inspect = |name: &str, is_declared: bool| {
        let path = folder.path().join(name);
        changed(VGG, &path, |graph| {
            let at = graph.nodes.iter().enumerate().filter(|(_, node)| node.op == "Relu").nth(3);
            let at = at.unwrap().0;
            "Zorp".clone_into(&mut graph.nodes[at].op);
            let output = graph.nodes[at].output(0).unwrap();
            let dims =
                [Dim::Symbol("batch".to_owned()), Dim::Known(64), Dim::Known(14), Dim::Known(14)];
            let declared = Declared {
                element: Some(ElementType::F32),
                dims: Some(dims.to_vec()),
                ..Declared::default()
            };
            graph.declare(output, is_declared.then_some(declared));
        });
        kerf(&["inspect", path.to_str().unwrap(), "--json"]).success().json()["result"].clone()
    };
    let whole = kerf(&["inspect", VGG, "--json"]).success().json()["result"]["macs"].clone();
    let declared = inspect("declared.onnx", true);
    assert_eq!(declared["macs"], whole);
    assert_eq!(declared["uncounted"].as_array().unwrap().len(), 1, "{}", declared["uncounted"]);
    let open = inspect("open.onnx", false);
    assert!(open["macs"].as_u64() < whole.as_u64());
    let uncounted = open["uncounted"].as_array().unwrap();
    assert!(uncounted.iter().any(|key| key == "/features/features.14/Conv"), "{uncounted:?}");
}

/// A normalization that divides by the root of a negative number is found by name.
#[test]
fn check_finds_a_negative_variance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("negative.onnx");
    let mut name = String::new();
    changed("fixtures/models/vgg7_fmnist_bn.onnx", &path, |graph| {
        let node = graph.nodes.iter().find(|node| node.op == "BatchNormalization").unwrap();
        name.clone_from(&node.name);
        let variance = node.input(4).unwrap();
        let mut values = graph.initializer(variance).unwrap().to_f32s().unwrap();
        values[2] = -1.0;
        graph.set_initializer(variance, Constant::from_f32s(&[values.len()], &values).unwrap());
    });
    let model = path.to_str().unwrap();
    let run = kerf(&["check", model]).exits(1);
    let expected = format!("`{name}` (BatchNormalization): negative variance -1 in channel 2");
    assert!(run.stdout.contains(&expected), "{}", run.stdout);
    let output = folder.path().join("o.onnx");
    let run = kerf(&[
        "prune",
        model,
        "-o",
        output.to_str().unwrap(),
        "--data",
        TRAIN,
        "--preprocess",
        PREPROCESS,
        "--macs",
        "80%",
    ]);
    assert!(run.exits(2).stderr.starts_with("error[E0156]: "), "not refused by name");
}

/// Libraries name their parameters; which flag sets one is the command line's to know.
#[test]
fn libraries_name_no_flags() {
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut files = Vec::new();
    for name in ["tensor-core", "lasso-prune", "kd-loss"] {
        sources(&root().join("crates").join(name).join("src"), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let named: Vec<_> = code.filter(|line| line.contains("`--")).collect();
        assert!(named.is_empty(), "{}: {named:?}", file.display());
    }
}
