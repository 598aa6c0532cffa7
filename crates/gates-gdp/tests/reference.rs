//! Against values and gradients from PyTorch (`fixtures/gates/make.py`), and closed forms.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{DType, Device, Tensor, Var};
use gates_gdp::{Gate, gate};
use serde_json::Value;
use std::path::Path;

fn fixture() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gates/gates.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn tensor(value: &Value, dims: &[usize]) -> Tensor {
    Tensor::from_vec(numbers(value), dims, &Device::Cpu).unwrap()
}

fn close(found: &Tensor, expected: &Value, tolerance: f64) {
    let found: Vec<f64> =
        found.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let expected = numbers(expected);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let difference = (found - expected).abs();
        assert!(difference <= tolerance * expected.abs().max(1.0), "{found} not {expected}");
    }
}

#[test]
fn functions_and_gradients() {
    let fixture = fixture();
    let cases = fixture["functions"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let eps = case["eps"].as_f64().unwrap();
        let alpha = Var::from_tensor(&tensor(&case["alpha"], &[16])).unwrap();
        let values = gate(&alpha, eps).unwrap();
        close(&values, &case["gate"], 1e-12);
        let gradients = values.sum_all().unwrap().backward().unwrap();
        close(gradients.get(&alpha).unwrap(), &case["gradient"], 1e-10);
    }
}

/// Gates on the activation and gates on the weight are the same layer.
#[test]
fn a_convolution_behind_gates() {
    let fixture = fixture();
    let case = &fixture["layer"];
    let f32s = |name: &str, dims: &[usize]| tensor(&case[name], dims).to_dtype(DType::F32).unwrap();
    let mut layer = Gate::new(5, case["eps"].as_f64().unwrap(), &Device::Cpu).unwrap();
    let ones = Tensor::ones(5, DType::F32, &Device::Cpu).unwrap();
    layer.alpha().set(&f32s("alpha", &[5])).unwrap();
    layer.restore(&ones, 0.1).unwrap();
    let x = f32s("x", &[2, 5, 6, 6]);
    let weight = Var::from_tensor(&f32s("weight", &[4, 5, 3, 3])).unwrap();
    let upstream = f32s("upstream", &[2, 4, 3, 3]);
    for on_weight in [false, true] {
        let output = match on_weight {
            true => x.conv2d(&layer.apply(&weight, 1).unwrap(), 1, 2, 1, 1),
            false => layer.apply(&x, 1).unwrap().conv2d(&weight, 1, 2, 1, 1),
        };
        let output = output.unwrap();
        close(&output, &case["output"], 1e-5);
        let gradients = (output * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
        close(gradients.get(layer.alpha()).unwrap(), &case["d_alpha"], 1e-5);
        close(gradients.get(&weight).unwrap(), &case["d_weight"], 1e-5);
    }
}

/// Methods, section 1.2: exact zeros at 0, the steepest point, its value and slope.
#[test]
fn closed_forms() {
    for eps in [1e-4, 0.1, 2.0_f64] {
        let steepest = (eps / 3.0).sqrt();
        let points = [0.0, steepest, 0.99 * steepest, 1.01 * steepest];
        let alpha = Var::new(&points[..], &Device::Cpu).unwrap();
        let values = gate(&alpha, eps).unwrap();
        let slopes = values.sum_all().unwrap().backward().unwrap();
        let slopes = slopes.get(&alpha).unwrap().to_vec1::<f64>().unwrap();
        let values = values.to_vec1::<f64>().unwrap();
        assert_eq!((values[0], slopes[0]), (0.0, 0.0));
        assert!((values[1] - 0.25).abs() < 1e-12);
        assert!((slopes[1] - 3.0 * 3.0_f64.sqrt() / (8.0 * eps.sqrt())).abs() < 1e-9 * slopes[1]);
        assert!(slopes[2] < slopes[1] && slopes[3] < slopes[1]);
    }
}
