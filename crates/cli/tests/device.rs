//! What `kerf train` computes with: devices that a build lacks, and precisions that change nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, Run, TEST, VGG, kerf};

/// Plans a short training of a model.
fn plan(model: &str, more: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.onnx");
    let data = ["--data", TEST, "--preprocess", PREPROCESS, "--batch", "8", "--steps", "1"];
    let out = ["--dry-run", "-o", output.to_str().unwrap()];
    kerf(&[&["train", model], &data[..], &out, more].concat())
}

#[test]
fn a_device_that_the_build_lacks_is_refused_with_the_feature() {
    for (device, built) in [("cuda", cfg!(feature = "cuda")), ("metal", cfg!(feature = "metal"))] {
        if built {
            continue;
        }
        let run = plan(VGG, &["--device", device]).exits(2);
        assert!(run.stderr.contains("E0409"), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("feature `{device}`")), "{}", run.stderr);
    }
    plan(VGG, &["--device", "cpu"]).success();
    assert!(plan(VGG, &["--device", "gpu"]).exits(2).stderr.contains("cuda"));
}

#[test]
fn a_precision_that_changes_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("lenet.onnx");
    let small = small.to_str().unwrap();
    // Five channels, and twelve of these five.
    kerf(&["new", "lenet", "--width", "0.25", "--input", "1x28x28", "-o", small]).success();
    let warning = "--precision bf16 changes nothing: no convolution";
    let run = plan(small, &["--precision", "bf16"]);
    if run.stderr.contains("E0408") {
        // A machine without tiles has nothing to warn of.
        run.exits(2);
        return;
    }
    assert!(run.success().stderr.contains(warning));
    for run in [plan(small, &[]), plan(VGG, &["--precision", "bf16"])] {
        assert!(!run.success().stderr.contains("warning"));
    }
}
