//! `kerf quantize` as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, Run, TEST, TRAIN, kerf};
use std::fs;
use std::path::Path;
use tensor_core::graph::{Attribute, Declared, Dim, Graph, Node};
use tensor_core::{Constant, ElementType, onnx};

fn quantize(output: &Path, extra: &[&str]) -> Run {
    let output = output.to_str().unwrap();
    let fixed = ["quantize", RESNET, "-o", output, "--data", TRAIN, "--preprocess", PREPROCESS];
    kerf(&[&fixed[..], &["--samples", "64", "--no-bench"], extra].concat())
}

#[test]
fn eight_bits_lose_next_to_nothing_and_every_layer_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("int8.onnx");
    let document = quantize(&output, &["--eval-data", TEST, "--json"]).success().json();
    assert_eq!(document["schema"], "kerf.quantize/1");
    let report = &document["result"]["quantization"];
    assert_eq!(report["layers"].as_array().unwrap().len(), 22);
    assert_eq!(report["stored_bits"], 8.0);
    let proof = &document["result"]["proof"];
    assert_eq!(proof["activations"]["activations"].as_array().unwrap().len(), 33);
    for activation in proof["activations"]["activations"].as_array().unwrap() {
        assert!(activation["most_steps"].as_f64().unwrap() < 1.001, "{activation}");
    }
    let top1 = &proof["evaluation"]["comparison"]["outputs"][0]["top1"];
    let accuracy = |key: &str| top1[key].as_f64().unwrap();
    // Two of the thousand images.
    assert!(accuracy("reference_accuracy") - accuracy("candidate_accuracy") <= 0.0021, "{top1}");
    let sizes = &document["result"]["sizes"];
    let bytes = |when: &str| sizes[when]["file_bytes"].as_u64().unwrap();
    assert!(bytes("after") * 3 < bytes("before"));
    // Weights that became integers are parameters still; normalizations are folded, biases added.
    let parameters = |when: &str| sizes[when]["parameters"].as_u64().unwrap();
    assert!((268_000..=parameters("before")).contains(&parameters("after")), "{sizes}");
    let peak = |when: &str| sizes[when]["peak_activation_bytes"].as_u64().unwrap();
    assert!(peak("after") <= 2 * peak("before"), "{sizes}");
}

/// Runtimes quantize the float weight of a transposed convolution between integers by themselves: unless
/// it is integers in the file, they do not compute what was simulated.
#[test]
fn decoders_compute_what_is_simulated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decoder.onnx");
    for grouped in [false, true] {
        let groups = if grouped { 2 } else { 1 };
        let mut graph = Graph::default();
        graph.opsets.insert(String::new(), 17);
        graph.ir_version = 8;
        let [x, a, ra, b, rb, y] = ["x", "a", "ra", "b", "rb", "y"].map(|name| graph.value(name));
        let float = |channels, side| Declared {
            element: Some(ElementType::F32),
            dims: Some(vec![
                Dim::Symbol("N".to_owned()),
                Dim::Known(channels),
                Dim::Known(side),
                Dim::Known(side),
            ]),
            ..Declared::default()
        };
        graph.declare(x, Some(float(1, 28)));
        graph.declare(y, Some(float(2, 28)));
        graph.inputs.push(x);
        graph.outputs.push(y);
        let mut layer = |name: &str, op: &str, dims: &[usize], from, to, stride| {
            let [weight, bias] =
                ["weight", "bias"].map(|part| graph.value(&format!("{name}.{part}")));
            let count: usize = dims.iter().product();
            let values: Vec<f32> = (0..count).map(|i| (i * i % 23) as f32 / 30.0 - 0.3).collect();
            graph.set_initializer(weight, Constant::from_f32s(dims, &values).unwrap());
            let outputs = if op == "Conv" { dims[0] } else { dims[1] * groups };
            let biases: Vec<f32> = (0..outputs).map(|i| 0.1 * i as f32 - 0.2).collect();
            graph.set_initializer(bias, Constant::from_f32s(&[outputs], &biases).unwrap());
            let mut node = Node::new(name, op, &[from, weight, bias], &[to]);
            node.attributes.set("strides", Attribute::Ints(vec![stride, stride]));
            if op == "ConvTranspose" {
                node.attributes.set("group", Attribute::Int(groups as i64));
            }
            node
        };
        let narrow = layer("narrow", "Conv", &[8, 1, 2, 2], x, a, 2);
        let wide = layer("wide", "ConvTranspose", &[8, 4 / groups, 2, 2], ra, b, 2);
        let last = layer("last", "Conv", &[2, 4, 1, 1], rb, y, 1);
        let relu = |name: &str, from, to| Node::new(name, "Relu", &[from], &[to]);
        graph.nodes = vec![narrow, relu("r1", a, ra), wide, relu("r2", b, rb), last];
        onnx::write(&graph, &path).unwrap();
        for weights in ["8", "4"] {
            let (model, output) = (path.to_str().unwrap(), folder.path().join("q.onnx"));
            let flags = ["--data", TRAIN, "--preprocess", PREPROCESS, "--samples", "64", "--force"];
            let more = ["quantize", model, "-o", output.to_str().unwrap(), "--weights", weights];
            let document = kerf(&[&more[..], &flags, &["--no-bench", "--json"]].concat()).success();
            let report = &document.json()["result"]["quantization"];
            assert_eq!(report["layers"].as_array().unwrap().len(), 3, "{report}");
        }
    }
}

#[test]
fn flags_that_do_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("q.onnx");
    for flags in [
        &["--block-size", "16", "--clip", "kl"][..],
        &["--weight-quantizer", "k-means", "--weight-clip", "kl"],
    ] {
        let refused = quantize(&output, flags).exits(2);
        assert!(refused.stderr.contains("does nothing here"), "{}", refused.stderr);
        assert!(!output.exists());
    }
}

#[test]
fn a_plan_says_the_bits_of_each_layer() {
    let folder = tempfile::tempdir().unwrap();
    let (output, plan) = (folder.path().join("o.onnx"), folder.path().join("plan.toml"));
    let layer =
        |name: &str| format!("[[layer]]\nname = \"{name}\"\nweights = 4\nactivations = 6\n");
    fs::write(&plan, format!("schema = \"kerf.plan/1\"\n{}", layer("/fc/Gemm"))).unwrap();
    let plan = plan.to_str().unwrap();
    let document = quantize(&output, &["--plan", plan, "--json"]).success().json();
    let layers = document["result"]["quantization"]["layers"].as_array().unwrap().clone();
    let last = layers.last().unwrap();
    assert_eq!((&last["weight_bits"], &last["storage"]), (&4.into(), &"int4".into()));
    assert_eq!(layers[0]["weight_bits"], 8);
    assert_eq!(document["result"]["quantization"]["opset"], serde_json::json!([17, 21]));

    // What the plan leaves out is said; a pin replaces what it says.
    let pinned =
        quantize(&output, &["--force", "--plan", plan, "--pin", "*layers.0/*=5", "--json"]);
    let pinned = pinned.success();
    assert!(pinned.stderr.contains("says nothing about 19 layers"), "{}", pinned.stderr);
    let bits = |key: &str| {
        let layers = &pinned.json()["result"]["quantization"]["layers"];
        let named = layers.as_array().unwrap().iter().find(|layer| layer["key"] == key).cloned();
        named.unwrap()["weight_bits"].clone()
    };
    assert_eq!((bits("/fc/Gemm"), bits("/layers/layers.0/conv1/Conv")), (4.into(), 5.into()));
    let wrong = quantize(&output, &["--force", "--pin", "/layer9*=5"]).exits(2);
    assert!(
        wrong.stderr.contains("E0502") && wrong.stderr.contains("/layer9*"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn same_bytes_with_one_and_two_threads() {
    let folder = tempfile::tempdir().unwrap();
    let constants = ["1", "2"].map(|threads| {
        let output = folder.path().join(format!("{threads}.onnx"));
        quantize(&output, &["--weights", "4", "--threads", threads, "--no-verify"]).success();
        let graph = tensor_core::onnx::read(&output).unwrap();
        let values = graph.initializers().iter().map(|&v| graph.initializer(v).unwrap().clone());
        values.collect::<Vec<_>>()
    });
    assert!(constants[0] == constants[1]);
}

#[test]
fn wrong_arguments_are_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let code = |extra: &[&str]| {
        let document = quantize(&output, &[extra, &["--json"]].concat()).exits(2).json();
        document["error"]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(&["--weights", "0"]), "E0010");
    assert_eq!(code(&["--activations", "9"]), "E0010");
    assert_eq!(code(&["--clip", "median"]), "E0010");
    assert_eq!(code(&["--rounding", "up"]), "E0010");
    assert_eq!(code(&["--exclude", "nothing"]), "E0502");
    assert_eq!(code(&["--plan", "missing.toml"]), "E0003");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(&output, "kept").unwrap();
    assert_eq!(code(&[]), "E0020");
    assert_eq!(fs::read(&output).unwrap(), b"kept");
}

/// Operators of a written file, and its default operator set.
fn written(path: &Path) -> (Vec<tensor_core::Node>, i64) {
    let graph = tensor_core::onnx::read(path).unwrap();
    (graph.nodes.clone(), graph.opset())
}

#[test]
fn old_operator_sets_are_raised() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    for (model, bits, raised) in [("opset11", "8", 13), ("opset12", "8", 13), ("opset11", "4", 21)]
    {
        let model = format!("fixtures/quant/{model}.onnx");
        let path = output.to_str().unwrap();
        let arguments = ["quantize", &model, "-o", path, "--data", TRAIN, "--samples", "64"];
        let extra =
            ["--preprocess", PREPROCESS, "--weights", bits, "--no-bench", "--json", "--force"];
        // ONNX Runtime reads it, and has the activations that kerf has.
        let document = kerf(&[&arguments[..], &extra].concat()).success().json();
        let report = &document["result"]["quantization"];
        assert_eq!(report["opset"][1], raised);
        assert_eq!(report["layers"].as_array().unwrap().len(), 3);
        let proof = &document["result"]["proof"];
        assert_eq!(proof["activations"]["activations"].as_array().unwrap().len(), 5);
        let sqnr = proof["evaluation"]["comparison"]["outputs"][0]["sqnr_db"].as_f64().unwrap();
        assert!(sqnr > if bits == "8" { 25.0 } else { 10.0 }, "{model}: {sqnr}");
        let (nodes, opset) = written(&output);
        assert_eq!(opset, raised);
        let squeeze = nodes.iter().find(|node| node.op == "Squeeze").unwrap();
        assert!(squeeze.attributes.get("axes").is_none() && squeeze.inputs.len() == 2);
        let mean = nodes.iter().find(|node| node.op == "ReduceMean").unwrap();
        assert_eq!(mean.attributes.get("axes").is_none(), raised >= 18);
    }
}

#[test]
fn blocks_have_scales_of_their_own_and_say_where_they_have_not() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let extra = ["--weights", "4", "--block-size", "16", "--eval-data", TEST, "--json"];
    let document = quantize(&output, &extra).success().json();
    let report = &document["result"]["quantization"];
    let layers = report["layers"].as_array().unwrap();
    assert_eq!(
        (&layers[0]["storage"], &layers[0]["granularity"]),
        (&"int4".into(), &"channel".into())
    );
    assert_eq!(layers[1]["granularity"], "block of 16");
    assert!(layers.iter().all(|layer| layer["activation_bits"].is_null()));
    let left = report["without_blocks"].as_array().unwrap();
    assert_eq!((left.len(), &left[0]["key"]), (1, &layers[0]["key"]));
    assert!(left[0]["reason"].as_str().unwrap().contains("fewer than a block"));
    // A scale for each output of the first layer, and for each 16 inputs at each tap elsewhere.
    let weights = report["weights"].as_u64().unwrap();
    assert_eq!(report["side_bytes"].as_u64().unwrap(), 4 * (16 + (weights - 16 * 9) / 16));
    let (nodes, opset) = written(&output);
    let sizes = nodes.iter().filter(|node| node.op == "DequantizeLinear");
    let sizes: Vec<i64> = sizes.map(|node| node.attributes.int("block_size", 0).unwrap()).collect();
    assert_eq!((opset, sizes.iter().filter(|&&size| size == 16).count()), (21, layers.len() - 1));
    assert!(nodes.iter().all(|node| node.op != "QuantizeLinear"));
    // What ONNX Runtime computes from the file is what kerf does: `success` asserts it.
    let top1 = &document["result"]["proof"]["evaluation"]["comparison"]["outputs"][0]["top1"];
    assert!(top1["candidate_accuracy"].as_f64().unwrap() > 0.92, "{top1}");
}

#[test]
fn shared_weights_are_places_in_a_codebook() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    for (bits, storage, codes) in [("3", "uint4", 8), ("5", "uint8", 32)] {
        let extra = ["--weights", bits, "--weight-quantizer", "k-means", "--eval-data", TEST];
        let run = quantize(&output, &[&extra[..], &["--json", "--force"]].concat());
        let document = run.success().json();
        let report = &document["result"]["quantization"];
        let layers = report["layers"].as_array().unwrap();
        assert!(layers.iter().all(|layer| layer["storage"] == storage));
        assert_eq!(layers[1]["granularity"], format!("codebook of {codes}"));
        assert_eq!(report["effective_bits"].as_f64().unwrap().to_string(), bits);
        assert_eq!(report["side_bytes"].as_u64().unwrap(), 4 * codes * layers.len() as u64);
        let (nodes, _) = written(&output);
        let count = |op: &str| nodes.iter().filter(|node| node.op == op).count();
        assert_eq!((count("Gather"), count("Cast")), (layers.len(), layers.len()));
        let top1 = &document["result"]["proof"]["evaluation"]["comparison"]["outputs"][0]["top1"];
        assert!(top1["candidate_accuracy"].as_f64().unwrap() > 0.9, "{bits} bits: {top1}");
    }
    let wrong = |extra: &[&str]| {
        let fixed = ["--weight-quantizer", "k-means", "--json", "--force"];
        let document = quantize(&output, &[&fixed[..], extra].concat()).exits(2).json();
        document["error"]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(wrong(&["--activations", "8"]), "E0010");
    assert_eq!(wrong(&["--block-size", "16"]), "E0010");
    assert_eq!(wrong(&["--rounding", "adaround"]), "E0500");
}
