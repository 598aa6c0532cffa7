//! Stored values and small helpers.
#![allow(dead_code, reason = "not every test uses everything")]

use candle_core::{Device, Tensor, Var};
use serde_json::Value;

/// `fixtures/kd/losses.json`.
pub(crate) struct Fixture(pub(crate) Value);

impl Fixture {
    pub(crate) fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/kd/losses.json");
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        let shape: Vec<usize> =
            numbers(&self.0[name]["shape"]).iter().map(|&n| n as usize).collect();
        Tensor::from_vec(numbers(&self.0[name]["data"]), shape, &Device::Cpu).unwrap()
    }

    pub(crate) fn labels(&self) -> Tensor {
        let labels: Vec<u32> = numbers(&self.0["labels"]).iter().map(|&n| n as u32).collect();
        let count = labels.len();
        Tensor::from_vec(labels, count, &Device::Cpu).unwrap()
    }
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

pub(crate) fn flat(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.flatten_all().unwrap().to_dtype(candle_core::DType::F64).unwrap();
    tensor.to_vec1().unwrap()
}

/// Value of a scalar function and its gradient.
pub(crate) fn value_and_gradient(
    input: &Tensor,
    loss: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> (f64, Vec<f64>) {
    let variable = Var::from_tensor(input).unwrap();
    let value = loss(&variable).unwrap();
    let gradients = value.backward().unwrap();
    let gradient = gradients.get(&variable).map_or(vec![0.0; input.elem_count()], flat);
    (flat(&value)[0], gradient)
}

pub(crate) fn assert_close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}, entry {i}: {a} and {b}");
    }
}
