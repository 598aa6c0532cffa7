//! Quantizers with gradients against differences, and what they learn.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{Device, Tensor, Var};
use candle_nn::{Module, Optimizer, SGD};
use quant_mixed::straight_through::{
    Fixed, Levels, Lsq, Pact, StraightThrough, gradient_scale, initial_step, lsq, pact,
};
use serde_json::Value;

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn close(what: &str, ours: &Tensor, theirs: &Value, tolerance: f32) {
    let ours: Vec<f32> = ours.flatten_all().unwrap().to_vec1().unwrap();
    let theirs = floats(theirs);
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: {a} for {b}");
    }
}

#[test]
fn values_and_gradients_are_those_of_differences() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/quant/steps.json");
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 30);
    for case in cases {
        let dims: Vec<usize> = floats(&case["shape"]).iter().map(|&n| n as usize).collect();
        let bits = u8::try_from(case["bits"].as_u64().unwrap()).unwrap();
        let levels = match case["signed"].as_bool().unwrap() {
            true => Levels::signed(bits).unwrap(),
            false => Levels::unsigned(bits).unwrap(),
        };
        let axis = case["axis"].as_u64().map(|axis| axis as usize);
        let x = Tensor::from_vec(floats(&case["x"]), dims.clone(), &Device::Cpu).unwrap();
        let x = Var::from_tensor(&x).unwrap();
        let steps = Tensor::new(floats(&case["steps"]), &Device::Cpu).unwrap();
        let name = case["method"].as_str().unwrap();
        let (parameter, y) = if name == "lsq" {
            let step = Var::from_tensor(&steps).unwrap();
            let y = lsq(&x, &step, axis, levels, 1.0).unwrap();
            (step, y)
        } else {
            let alpha = Var::from_tensor(&(steps * levels.reach()).unwrap()).unwrap();
            let y = pact(&x, &alpha, levels).unwrap();
            (alpha, y)
        };
        let what = format!("{name}, {bits} bits, axis {axis:?}");
        // Sums of up to 120 products in 32 bits, of which the step is a factor.
        close(&what, &y, &case["y"], 1e-6);
        let dy = Tensor::from_vec(floats(&case["dy"]), dims, &Device::Cpu).unwrap();
        let gradients = (&y * dy).unwrap().sum_all().unwrap().backward().unwrap();
        close(&what, gradients.get(&x).unwrap(), &case["dx"], 1e-5);
        close(&what, gradients.get(&parameter).unwrap(), &case["gradient"], 2e-5);
    }
}

#[test]
fn steps_begin_as_the_paper_says() {
    let levels = Levels::signed(3).unwrap();
    let x = Tensor::new(&[[1_f32, -3.0, 2.0], [0.0, 0.0, 0.0], [4.0, 4.0, -1.0]], &Device::Cpu);
    let x = x.unwrap();
    let root = 3_f32.sqrt();
    let all = initial_step(&x, None, levels).unwrap().to_vec1::<f32>().unwrap();
    assert!((all[0] - 2.0 * (15.0 / 9.0) / root).abs() < 1e-6, "{all:?}");
    let rows = initial_step(&x, Some(0), levels).unwrap().to_vec1::<f32>().unwrap();
    for (found, mean) in [(rows[0], 2.0), (rows[2], 3.0)] {
        assert!((found - 2.0 * mean / root).abs() < 1e-6, "{rows:?}");
    }
    assert_eq!(rows[1], 1.0);
    let columns = initial_step(&x, Some(1), levels).unwrap().to_vec1::<f32>().unwrap();
    assert!((columns[1] - 2.0 * (7.0 / 3.0) / root).abs() < 1e-6, "{columns:?}");
    assert_eq!(gradient_scale(12, levels), 1.0 / 6.0);
}

#[test]
fn gradients_are_scaled_by_the_elements_that_share_a_step() {
    let levels = Levels::unsigned(2).unwrap();
    let x: Vec<f32> = (0..24).map(|i| i as f32 / 12.0).collect();
    let x = Tensor::from_vec(x, (2, 12), &Device::Cpu).unwrap();
    let of = |layer: &Lsq| {
        let y = layer.forward(&x).unwrap().sum_all().unwrap();
        let gradients = y.backward().unwrap();
        gradients.get(layer.step()).unwrap().to_vec1::<f32>().unwrap()
    };
    let plain = |axis: Option<usize>, steps: &Tensor| {
        let step = Var::from_tensor(steps).unwrap();
        let y = lsq(&x, &step, axis, levels, 1.0).unwrap().sum_all().unwrap();
        y.backward().unwrap().get(&step).unwrap().to_vec1::<f32>().unwrap()
    };
    // A weight of 24 elements, its rows of 12, and an activation of 12 for each of two samples.
    for (layer, axis, count) in [
        (Lsq::new(&x, None, levels).unwrap(), None, 24.0),
        (Lsq::new(&x, Some(0), levels).unwrap(), Some(0), 12.0),
        (Lsq::for_activation(&x, levels).unwrap(), None, 12.0),
    ] {
        let unscaled = plain(axis, layer.step());
        for (scaled, unscaled) in of(&layer).iter().zip(unscaled) {
            let expected = unscaled / (count * 3_f32).sqrt();
            assert!((scaled - expected).abs() < 1e-5, "{scaled} for {expected}");
        }
    }
}

#[test]
fn a_step_learns_its_range_and_a_fixed_one_stays() {
    let x: Vec<f32> = (0..64).map(|i| i as f32 / 32.0).collect();
    let x = Tensor::new(x, &Device::Cpu).unwrap();
    let levels = Levels::unsigned(3).unwrap();
    let error = |layer: &dyn Module| {
        let error = (layer.forward(&x).unwrap() - &x).unwrap().sqr().unwrap().mean_all().unwrap();
        error.to_scalar::<f32>().unwrap()
    };
    let learned =
        Lsq::with_steps(&Tensor::new(&[0.02_f32], &Device::Cpu).unwrap(), None, levels, 1);
    let learned = learned.unwrap();
    let clip = Pact::new(0.4, levels, &Device::Cpu).unwrap();
    for (layer, var) in
        [(&learned as &dyn Module, learned.step().clone()), (&clip, clip.alpha().clone())]
    {
        let before = error(layer);
        let mut optimizer = SGD::new(vec![var], 0.02).unwrap();
        for _ in 0..300 {
            let y = layer.forward(&x).unwrap();
            optimizer.backward_step(&(y - &x).unwrap().sqr().unwrap().mean_all().unwrap()).unwrap();
        }
        // Evenly spread over two, the best of eight levels leave a twelfth of a step squared.
        assert!(before > 0.2 && error(layer) < 0.012, "{before} to {}", error(layer));
    }
    let step = Tensor::new(&[0.1_f32], &Device::Cpu).unwrap();
    let fixed = Fixed::new(&step, None, levels);
    let x = Var::from_tensor(&x).unwrap();
    let y = fixed.forward(&x).unwrap().sum_all().unwrap();
    assert!(y.backward().unwrap().get(&x).is_some());
    assert!(fixed.variable().is_none());
    assert_eq!(fixed.steps().unwrap(), [0.1]);
}
