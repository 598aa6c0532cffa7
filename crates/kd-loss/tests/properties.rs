//! What holds for all inputs.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{assert_close, flat, value_and_gradient};
use kd_loss::{
    Dist, Dkd, Ensemble, LogitLoss, METHODS, Mean, SoftTargets, attention_transfer, dist, dkd,
    hint, log_softmax, logit_matching, relational_angle, relational_distance, soft_targets,
    standardize, with_labels,
};
use proptest::prelude::*;

const N: usize = 4;
const C: usize = 5;

fn matrix(data: &[f64], rows: usize) -> Tensor {
    Tensor::from_slice(data, (rows, data.len() / rows), &Device::Cpu).unwrap()
}

fn logits() -> impl Strategy<Value = Tensor> {
    prop::collection::vec(-6.0..6.0_f64, N * C).prop_map(|data| matrix(&data, N))
}

fn classes() -> impl Strategy<Value = Tensor> {
    prop::collection::vec(0..C as u32, N)
        .prop_map(|labels| Tensor::from_vec(labels, N, &Device::Cpu).unwrap())
}

/// Every logit loss with its defaults.
fn logit_losses() -> Vec<(&'static str, Box<dyn LogitLoss>)> {
    let methods = METHODS.iter().filter(|method| !method.takes_features());
    methods.map(|method| (method.name, method.logit_loss(&[]).unwrap())).collect()
}

fn rows(tensor: &Tensor, order: &[u32]) -> Tensor {
    let order = Tensor::new(order, &Device::Cpu).unwrap();
    tensor.index_select(&order, 0).unwrap()
}

fn columns(tensor: &Tensor, order: &[u32]) -> Tensor {
    let order = Tensor::new(order, &Device::Cpu).unwrap();
    tensor.index_select(&order, 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn gradient_is_the_difference_of_probabilities(
        z in logits(), v in logits(), temperature in 0.5..30.0_f64,
    ) {
        let (_, gradient) = value_and_gradient(&z, |z| soft_targets(z, &v, temperature));
        let q = log_softmax(&z, temperature).unwrap().exp().unwrap();
        let p = log_softmax(&v, temperature).unwrap().exp().unwrap();
        let expected = ((q - p).unwrap() * (temperature / N as f64)).unwrap();
        assert_close("T (q - p) / N", &gradient, &flat(&expected), 1e-12);
    }

    #[test]
    fn high_temperatures_match_logits(z in logits(), v in logits()) {
        // The next term of the expansion is of order |logits| / T.
        let (soft, slope) = value_and_gradient(&z, |z| soft_targets(z, &v, 1e5));
        let (matched, expected) = value_and_gradient(&z, |z| logit_matching(z, &v, true));
        assert_close("value", &[soft], &[matched], 1e-3);
        assert_close("gradient", &slope, &expected, 1e-3);
    }

    #[test]
    fn temperature_only_scales(z in logits(), v in logits(), temperature in 0.5..30.0_f64) {
        let scaled = |x: &Tensor| (x / temperature).unwrap();
        let loss = flat(&soft_targets(&z, &v, temperature).unwrap())[0];
        let at_one = flat(&soft_targets(&scaled(&z), &scaled(&v), 1.0).unwrap())[0];
        assert_close("T^2", &[loss], &[temperature * temperature * at_one], 1e-10);
    }

    #[test]
    fn equal_logits_cost_nothing(z in logits(), labels in classes()) {
        // Where a class is unlikely in all samples, DIST's guard is not negligible.
        for (name, loss) in logit_losses().iter().filter(|(name, _)| *name != "dist") {
            let (value, gradient) = value_and_gradient(&z, |s| loss.loss(s, &z, Some(&labels)));
            assert_close(name, &[value], &[0.0], 1e-12);
            assert_close(name, &gradient, &[0.0; N * C], 1e-12);
        }
    }

    #[test]
    fn losses_are_not_negative_and_ignore_order_and_shift(
        z in logits(), v in logits(), labels in classes(), shift in -50.0..50.0_f64,
    ) {
        let order = [2_u32, 0, 3, 1];
        let class_order = [4_u32, 2, 0, 1, 3];
        // Class `class_order[j]` moves to column `j`.
        let renamed: Vec<u32> = labels.to_vec1::<u32>().unwrap().iter()
            .map(|label| class_order.iter().position(|old| old == label).unwrap() as u32)
            .collect();
        let renamed = Tensor::new(renamed, &Device::Cpu).unwrap();
        for (name, loss) in logit_losses() {
            let value = |z: &Tensor, v: &Tensor, labels: &Tensor| {
                flat(&loss.loss(z, v, Some(labels)).unwrap())[0]
            };
            let plain = value(&z, &v, &labels);
            prop_assert!(plain >= 0.0, "{name}: {plain}");
            let by_rows = value(&rows(&z, &order), &rows(&v, &order), &rows(&labels, &order));
            let by_columns = value(&columns(&z, &class_order), &columns(&v, &class_order), &renamed);
            let shifted = value(&(&z + shift).unwrap(), &(&v - shift).unwrap(), &labels);
            for (what, other) in [("rows", by_rows), ("classes", by_columns), ("shift", shifted)] {
                assert_close(&format!("{name}, {what}"), &[other], &[plain], 1e-9);
            }
        }
    }

    #[test]
    fn dkd_is_soft_targets_with_coupled_weights(z in logits(), v in logits(), label in 0..C as u32) {
        let (z, v) = (z.narrow(0, 0, 1).unwrap(), v.narrow(0, 0, 1).unwrap());
        let label = Tensor::new(&[label], &Device::Cpu).unwrap();
        let p = log_softmax(&v, 3.0).unwrap().exp().unwrap();
        let target = flat(&p.gather(&label.unsqueeze(1).unwrap(), 1).unwrap())[0];
        let config = Dkd { alpha: 1.0, beta: 1.0 - target, temperature: 3.0 };
        let split = flat(&dkd(&z, &v, &label, &config).unwrap());
        assert_close("KL", &split, &flat(&soft_targets(&z, &v, 3.0).unwrap()), 1e-10);
    }

    #[test]
    fn standardized_logits_ignore_scale(z in logits(), scale in 0.1..10.0_f64) {
        let scaled = standardize(&((&z * scale).unwrap() + 3.0).unwrap()).unwrap();
        assert_close("Z", &flat(&scaled), &flat(&standardize(&z).unwrap()), 1e-4);
    }

    #[test]
    fn ensembles_average_distributions(
        a in logits(), b in logits(), weight in 0.1..0.9_f64, temperature in 0.5..10.0_f64,
    ) {
        let p = |x: &Tensor| flat(&log_softmax(x, temperature).unwrap().exp().unwrap());
        let teachers = [a.clone(), b.clone()];
        let of = |mean| Ensemble { mean, weights: vec![weight, 1.0 - weight] };
        let mix = of(Mean::Arithmetic).logits(&teachers, temperature).unwrap();
        let expected: Vec<f64> =
            p(&a).iter().zip(p(&b)).map(|(a, b)| weight * a + (1.0 - weight) * b).collect();
        assert_close("arithmetic", &p(&mix), &expected, 1e-12);

        let mix = of(Mean::Geometric).logits(&teachers, temperature).unwrap();
        let product: Vec<f64> =
            p(&a).iter().zip(p(&b)).map(|(a, b)| a.powf(weight) * b.powf(1.0 - weight)).collect();
        let expected: Vec<f64> = product
            .chunks(C)
            .flat_map(|row| row.iter().map(|x| x / row.iter().sum::<f64>()).collect::<Vec<_>>())
            .collect();
        assert_close("geometric", &p(&mix), &expected, 1e-12);
    }

    #[test]
    fn one_teacher_twice_is_one_teacher(v in logits(), temperature in 0.5..10.0_f64) {
        for mean in [Mean::Arithmetic, Mean::Geometric] {
            let ensemble = Ensemble { mean, weights: vec![] };
            let twice = ensemble.logits(&[v.clone(), v.clone()], temperature).unwrap();
            let once = ensemble.logits(std::slice::from_ref(&v), temperature).unwrap();
            let p = |x: &Tensor| flat(&log_softmax(x, temperature).unwrap());
            assert_close("twice", &p(&twice), &p(&once), 1e-12);
        }
    }

    #[test]
    fn relations_ignore_shift_scale_and_rotation(
        data in prop::collection::vec(-3.0..3.0_f64, 15), angle in 0.0..6.0_f64, scale in 0.2..5.0_f64,
    ) {
        let x = matrix(&data, 5);
        let (sin, cos) = angle.sin_cos();
        let turn = matrix(&[cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0], 3);
        let moved = ((x.matmul(&turn).unwrap() * scale).unwrap() + 2.0).unwrap();
        // Coincident points are guarded by 1e-12 under a root, and scaled with it.
        assert_close("d", &flat(&relational_distance(&moved, &x).unwrap()), &[0.0], 1e-6);
        assert_close("a", &flat(&relational_angle(&moved, &x).unwrap()), &[0.0], 1e-6);
    }
}

#[test]
fn dist_is_zero_at_equal_logits() {
    let data: Vec<f64> = (0..N * C).map(|i| (i as f64 * 0.7).sin()).collect();
    let z = matrix(&data, N);
    let (value, gradient) = value_and_gradient(&z, |s| dist(s, &z, &Dist::default()));
    assert_close("value", &[value], &[0.0], 1e-9);
    assert_close("gradient", &gradient, &[0.0; N * C], 1e-9);
}

#[test]
fn extreme_logits_stay_finite() {
    let z = [1e4, -1e4, 0.0, 1e4, -1e4, -1e4, 1e4, 1e4];
    let v = [-1e4, 1e4, 1e4, 0.0, 1e4, -1e4, 1e4, 1e4];
    let labels = Tensor::new(&[1_u32, 2], &Device::Cpu).unwrap();
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let z = matrix(&z, 2).to_dtype(dtype).unwrap();
        let v = matrix(&v, 2).to_dtype(dtype).unwrap();
        for (name, loss) in logit_losses() {
            for (z, v) in [(&z, &v), (&v, &z), (&z, &z)] {
                let (value, gradient) = value_and_gradient(z, |z| {
                    with_labels(loss.as_ref(), z, v, Some(&labels), 0.3, 0.1)
                });
                assert!(value.is_finite(), "{name} {dtype:?}: {value}");
                // DIST's slope at a constant column is 1e8, beyond what F16 holds.
                let fits = dtype != DType::F16 || name != "dist";
                let finite = gradient.iter().all(|g| g.is_finite());
                assert!(finite || !fits, "{name} {dtype:?}: {gradient:?}");
            }
        }
        for mean in [Mean::Arithmetic, Mean::Geometric] {
            let mix = Ensemble { mean, weights: vec![] }.logits(&[z.clone(), v.clone()], 0.5);
            assert!(flat(&mix.unwrap()).iter().all(|x| x.is_finite()), "{mean:?}");
        }
    }
}

#[test]
fn dead_and_equal_features_stay_finite() {
    let zeros = Tensor::zeros((3, 2, 4, 4), DType::F32, &Device::Cpu).unwrap();
    let ones = zeros.ones_like().unwrap();
    for student in [&zeros, &ones] {
        for loss in [attention_transfer, relational_distance, relational_angle] {
            let (value, gradient) = value_and_gradient(student, |s| loss(s, &ones));
            assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
        }
    }
}

#[test]
fn half_precision_is_widened() {
    let data: Vec<f64> = (0..N * C).map(|i| (i as f64 * 0.7).sin() * 4.0).collect();
    let z = matrix(&data, N).to_dtype(DType::BF16).unwrap();
    let v = matrix(&data, N).affine(-0.5, 0.25).unwrap().to_dtype(DType::BF16).unwrap();
    let wide = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
    let loss = soft_targets(&z, &v, 2.0).unwrap();
    assert_eq!(loss.dtype(), DType::F32);
    assert_eq!(flat(&loss), flat(&soft_targets(&wide(&z), &wide(&v), 2.0).unwrap()));
}

#[test]
fn teachers_take_no_gradient() {
    let z = Var::from_tensor(&matrix(&[0.5, -1.0, 2.0, 0.0, 1.0, -0.5], 3)).unwrap();
    let v = Var::from_tensor(&matrix(&[1.5, -2.0, 0.0, 0.5, 1.0, 0.25], 3)).unwrap();
    let labels = Tensor::new(&[1_u32, 0, 1], &Device::Cpu).unwrap();
    let mut losses: Vec<Tensor> =
        logit_losses().iter().map(|(_, loss)| loss.loss(&z, &v, Some(&labels)).unwrap()).collect();
    losses.push(hint(&z, &v, None).unwrap());
    losses.push(relational_distance(&z, &v).unwrap());
    losses.push(relational_angle(&z, &v).unwrap());
    let mixed =
        Ensemble::default().logits(&[v.as_tensor().clone(), (v.as_tensor() * 2.0).unwrap()], 2.0);
    losses.push(soft_targets(&z, &mixed.unwrap(), 2.0).unwrap());
    for loss in losses {
        let gradients = loss.backward().unwrap();
        assert!(gradients.get(&z).is_some() && gradients.get(&v).is_none());
    }
}

#[test]
fn soft_gradients_keep_their_size_over_temperatures() {
    // "This ensures that the relative contributions of the hard and soft targets remain roughly
    // unchanged" (Hinton et al. 2015, section 2).
    let z = matrix(&[0.5, -1.0, 2.0, 0.0, 1.0, -0.5, 0.3, -0.2], 2);
    let v = matrix(&[1.5, -2.0, 0.0, 0.5, 1.0, 0.25, -1.0, 0.7], 2);
    let norm = |temperature| {
        let loss = SoftTargets { temperature };
        let (_, gradient) = value_and_gradient(&z, |z| loss.loss(z, &v, None));
        gradient.iter().map(|g| g * g).sum::<f64>().sqrt()
    };
    for temperature in [2.0, 5.0, 10.0, 20.0] {
        let ratio = norm(temperature) / norm(20.0);
        assert!((0.5..2.0).contains(&ratio), "T = {temperature}: {ratio}");
    }
}
