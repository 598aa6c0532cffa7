//! Quantizers and clips against PyTorch, scikit-learn and NumPy.
#![allow(clippy::unwrap_used, reason = "tests")]

use quant_mixed::clip::{ClipChoice, Distribution, Target};
use quant_mixed::quantizer::{Affine, Codebook, Quantizer};
use serde_json::Value;

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/quant/quant.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn float(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn bits(value: &Value) -> u8 {
    u8::try_from(value["bits"].as_u64().unwrap()).unwrap()
}

/// Both round the scale and the product once.
fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{what}: {a} for {b}");
    }
}

#[test]
fn tensors_are_quantized_as_pytorch_does() {
    let fixture = fixture();
    let x = floats(&fixture["x"]);
    for case in fixture["fake"].as_array().unwrap() {
        let (low, high) = (float(&case["low"]), float(&case["high"]));
        let grid = match case["kind"].as_str().unwrap() {
            "symmetric" => Affine::symmetric(bits(case), high),
            _ => Affine::asymmetric(bits(case), low, high),
        };
        let quantizer = Quantizer::per_tensor(grid.unwrap());
        let y = quantizer.nearest(&[x.len()], &x).unwrap();
        assert_close(&y, &floats(&case["y"]), &case["kind"].to_string());
    }
    for case in fixture["per_channel"].as_array().unwrap() {
        let axis = case["axis"].as_u64().unwrap() as usize;
        let clips = floats(&case["clips"]);
        let grids = clips.iter().map(|&clip| Affine::symmetric(bits(case), clip).unwrap());
        let quantizer = Quantizer::per_channel(axis, grids.collect());
        let y = quantizer.nearest(&[4, 16], &x).unwrap();
        assert_close(&y, &floats(&case["y"]), "per channel");
    }
}

#[test]
fn centres_are_those_of_scikit_learn() {
    let fixture = fixture();
    let weights = &floats(&fixture["tails"])[..300];
    for case in fixture["k_means"].as_array().unwrap() {
        let codebook = Codebook::fit(weights, bits(case)).unwrap();
        assert_close(&codebook.centres, &floats(&case["centres"]), "centres");
    }
}

#[test]
fn clips_are_those_of_plain_loops() {
    let fixture = fixture();
    let values = Distribution::of(&floats(&fixture["tails"])).unwrap();
    for case in fixture["clips"].as_array().unwrap() {
        for name in ["kl", "kl-cdf", "mse"] {
            let clip: ClipChoice = name.parse().unwrap();
            let target = Target { bits: bits(case), symmetric: true };
            let (low, high) = clip.range(&values, target);
            assert_eq!(low, -high);
            let expected = float(&case[name]);
            assert!((high - expected).abs() <= 1e-4 * expected, "{name}: {high} for {expected}");
        }
    }
}

#[test]
fn shared_weights_are_deterministic_and_whole() {
    let weights: Vec<f32> = (0..50_i32).map(|i| (i * 37 % 11) as f32 - 5.0).collect();
    // Eleven different weights fit sixteen centres exactly.
    let exact = Codebook::fit(&weights, 4).unwrap();
    assert_eq!((exact.centres.len(), exact.weights()), (11, weights.clone()));
    assert_eq!(exact.bytes(), 25 + 64);
    // Most of the equally spaced centres are nearest to nothing at first.
    let mut gap = vec![0.0_f32, 0.1, 0.2, 0.3, 0.35, 0.45];
    gap.push(1000.0);
    let found = Codebook::fit(&gap, 2).unwrap();
    assert!(found.centres.iter().all(|centre| centre.is_finite()));
    assert_eq!(found.centres.len(), 4);
    assert_eq!(found, Codebook::fit(&gap, 2).unwrap());
    assert_eq!(Codebook::fit(&[f32::NAN], 2).unwrap_err().code(), "E0503");
    assert_eq!(Codebook::fit(&[1.0], 9).unwrap_err().code(), "E0500");
    assert!(Codebook::fit(&[], 1).unwrap().weights().is_empty());
}

#[test]
fn every_clip_stays_within_the_values_and_keeps_zero() {
    let values = Distribution::of(&[-0.5, 0.0, 0.25, 3.0, 2.0, 1.0]).unwrap();
    for clip in quant_mixed::clip::CLIPS {
        let choice: ClipChoice = clip.name.parse().unwrap();
        for bits in 1..=8 {
            let (low, high) = choice.range(&values, Target { bits, symmetric: false });
            assert!((-0.5..=0.0).contains(&low) && (0.0..=3.0).contains(&high), "{choice}");
            let empty = Distribution::of(&[0.0]).unwrap();
            assert_eq!(choice.range(&empty, Target { bits, symmetric: true }), (0.0, 0.0));
        }
    }
    for (text, code) in [("median", "E0500"), ("percentile:101", "E0500"), ("mse:1", "E0500")] {
        assert_eq!(text.parse::<ClipChoice>().unwrap_err().code(), code);
    }
    assert_eq!("percentile:99.5".parse::<ClipChoice>().unwrap().to_string(), "percentile:99.5");
}
