//! Optimizers, schedules and losses against values of PyTorch (`fixtures/train`).

#![allow(clippy::unwrap_used, reason = "tests")]

use super::optimizer::{Optimization, Target, clip_factor, global_norm};
use super::{Optimizer, Schedule, cross_entropy};
use candle_core::{Device, Tensor, Var};
use serde_json::Value;

fn read(file: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/train/");
    serde_json::from_str(&std::fs::read_to_string(format!("{folder}{file}")).unwrap()).unwrap()
}

fn reference() -> Value {
    read("reference.json")
}

fn steps() -> Value {
    read("steps.json")["steps"].take()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// Within some roundings of f32, which the two sides do in another order.
fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let tolerance = 1e-6 * expected.abs().max(1e-3);
        assert!((found - expected).abs() <= tolerance, "{found} instead of {expected}");
    }
}

#[test]
fn optimizers() {
    let reference = steps();
    for (name, optimizer, decay) in [
        ("sgd", Optimizer::Sgd { momentum: 0.9, nesterov: false }, 0.01),
        ("nesterov", Optimizer::sgd(), 0.01),
        ("adamw", Optimizer::adam_w(), 0.05),
    ] {
        let var = Var::new(floats(&reference["start"]), &Device::Cpu).unwrap();
        let target = || Target { name: "x".into(), var: var.clone(), rate: 1.0, decays: true };
        let mut optimization = Optimization::new(optimizer, decay, vec![target()]);
        let gradients = reference["gradients"].as_array().unwrap().iter().map(floats);
        for (step, gradient) in gradients.enumerate() {
            let rate = reference["rates"][step].as_f64().unwrap();
            optimization.step(step as u64, rate, vec![Some(gradient)], 1.0).unwrap();
            assert_close(&var.to_vec1().unwrap(), &floats(&reference[name][step]));
            // A resumed optimizer goes on the same way.
            let state = optimization.state().unwrap();
            optimization = Optimization::new(optimizer, decay, vec![target()]);
            optimization.load_state(&state).unwrap();
        }
    }
}

#[test]
fn one_cycle() {
    for case in reference()["one_cycle"].as_array().unwrap() {
        let steps = case["steps"].as_u64().unwrap();
        let warmup = case["warmup"].as_f64().unwrap();
        for step in 0..steps {
            let found = Schedule::OneCycle.factor(step, steps, warmup);
            let expected = case["factors"][step as usize].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-12, "{step}/{steps}: {found}, not {expected}");
        }
    }
}

#[test]
fn cross_entropies() {
    for case in steps()["cross_entropy"].as_array().unwrap() {
        let rows: Vec<Vec<f32>> = case["scores"].as_array().unwrap().iter().map(floats).collect();
        let scores = Var::from_tensor(&Tensor::new(rows, &Device::Cpu).unwrap()).unwrap();
        let labels: Vec<u32> = serde_json::from_value(case["labels"].clone()).unwrap();
        let smoothing = case["smoothing"].as_f64().unwrap();
        let loss = cross_entropy(scores.as_tensor(), &labels, smoothing).unwrap();
        assert_close(&[loss.to_scalar().unwrap()], &[case["loss"].as_f64().unwrap() as f32]);
        let gradients = loss.backward().unwrap();
        let found = gradients.get(&scores).unwrap().to_vec2::<f32>().unwrap();
        for (found, expected) in found.iter().zip(case["gradient"].as_array().unwrap()) {
            for (found, expected) in found.iter().zip(floats(expected)) {
                // Differences of probabilities: what counts is the absolute error.
                assert!((found - expected).abs() < 1e-7, "{found} instead of {expected}");
            }
        }
    }
}

#[test]
fn clipping() {
    let reference = reference();
    for case in reference["clipping"].as_array().unwrap() {
        let gradients: Vec<Option<Vec<f32>>> =
            (0..2).map(|i| Some(floats(&reference["gradients"][i]))).collect();
        let norm = global_norm(&gradients);
        assert_close(&[norm as f32], &[case["norm"].as_f64().unwrap() as f32]);
        let factor = clip_factor(norm, case["most"].as_f64().unwrap());
        for (gradient, expected) in gradients.iter().zip(case["clipped"].as_array().unwrap()) {
            let found: Vec<f32> = gradient.iter().flatten().map(|g| g * factor).collect();
            // PyTorch adds 1e-6 to the norm that it divides by.
            for (found, expected) in found.iter().zip(floats(expected)) {
                assert!((found - expected).abs() < 2e-6, "{found} instead of {expected}");
            }
        }
    }
}
