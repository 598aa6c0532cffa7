//! Wrong input gets an error that says what and where, not a panic.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{DType, Device, Tensor};
use kd_loss::{
    Adapter, Dist, Distillation, Dkd, Ensemble, FeatureLoss, FeaturePair, METHODS, Mean, Method,
    Relational, attention_transfer, dist, distillation, dkd, hard_labels, hint, log_softmax,
    logit_matching, relational_angle, relational_distance, soft_targets, standardize,
};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn labels(labels: &[i64]) -> Tensor {
    Tensor::new(labels, &Device::Cpu).unwrap()
}

const WRONG: [f64; 5] = [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

#[test]
fn shapes_of_logits() {
    let good = zeros(&[2, 3]);
    for bad in [zeros(&[2, 4]), zeros(&[3, 3]), zeros(&[6]), zeros(&[2, 3, 1])] {
        assert!(soft_targets(&good, &bad, 1.0).is_err());
        assert!(logit_matching(&good, &bad, true).is_err());
        assert!(dkd(&good, &bad, &labels(&[0, 1]), &Dkd::default()).is_err());
        assert!(dist(&good, &bad, &Dist::default()).is_err());
        assert!(Ensemble::default().logits(&[good.clone(), bad], 1.0).is_err());
    }
    for bad in [zeros(&[0, 3]), zeros(&[2, 0]), zeros(&[6]), zeros(&[2, 3, 1])] {
        assert!(soft_targets(&bad, &bad, 1.0).is_err());
        assert!(log_softmax(&bad, 1.0).is_err());
        assert!(standardize(&bad).is_err());
        assert!(hard_labels(&bad, &labels(&[0, 1]), 0.0).is_err());
    }
    let one_class = zeros(&[2, 1]);
    assert!(dkd(&one_class, &one_class, &labels(&[0, 0]), &Dkd::default()).is_err());
    assert!(standardize(&one_class).is_err());
}

#[test]
fn temperatures_and_weights() {
    let (z, target) = (zeros(&[2, 3]), labels(&[0, 2]));
    for temperature in WRONG {
        assert!(soft_targets(&z, &z, temperature).is_err());
        assert!(dkd(&z, &z, &target, &Dkd { temperature, ..Dkd::default() }).is_err());
        assert!(dist(&z, &z, &Dist { temperature, ..Dist::default() }).is_err());
        assert!(Ensemble::default().logits(&[z.clone(), z.clone()], temperature).is_err());
        let config = Distillation { temperature, ..Distillation::default() };
        assert!(distillation(&z, &z, None, &config).is_err());
    }
    for weight in &WRONG[1..] {
        assert!(dkd(&z, &z, &target, &Dkd { alpha: *weight, ..Dkd::default() }).is_err());
        assert!(dkd(&z, &z, &target, &Dkd { beta: *weight, ..Dkd::default() }).is_err());
        assert!(dist(&z, &z, &Dist { beta: *weight, ..Dist::default() }).is_err());
        assert!(dist(&z, &z, &Dist { gamma: *weight, ..Dist::default() }).is_err());
        assert!(Relational { distance: *weight, angle: 1.0 }.loss(&z, &z).is_err());
        assert!(Relational { distance: 1.0, angle: *weight }.loss(&z, &z).is_err());
    }
    for share in [-0.1, 1.1, f64::NAN] {
        assert!(hard_labels(&z, &target, share).is_err());
        // Checked without labels too: a run must not start and fail at its first labelled batch.
        let config = Distillation { hard_weight: share, ..Distillation::default() };
        assert!(distillation(&z, &z, None, &config).is_err());
        let config = Distillation { label_smoothing: share, ..Distillation::default() };
        assert!(distillation(&z, &z, None, &config).is_err());
    }
}

#[test]
fn labels_that_do_not_fit() {
    let z = zeros(&[2, 3]);
    for bad in [&[0_i64][..], &[0, 1, 2], &[0, 3], &[-1, 0]] {
        assert!(hard_labels(&z, &labels(bad), 0.0).is_err(), "{bad:?}");
        assert!(dkd(&z, &z, &labels(bad), &Dkd::default()).is_err(), "{bad:?}");
    }
    assert!(hard_labels(&z, &zeros(&[2]), 0.0).is_err(), "labels are not floats");
    let error = hard_labels(&z, &labels(&[0, 3]), 0.0).unwrap_err().to_string();
    assert!(error.contains("label 3 in row 1"), "{error}");
    let loss = Method::by_name("dkd").unwrap().logit_loss(&[]).unwrap();
    assert!(loss.needs_labels() && loss.loss(&z, &z, None).is_err());
}

#[test]
fn ensembles() {
    let z = zeros(&[2, 3]);
    let of = |weights: &[f64]| Ensemble { mean: Mean::Geometric, weights: weights.to_vec() };
    assert!(of(&[]).logits(&[], 1.0).is_err());
    for weights in [&[1.0][..], &[1.0, -1.0], &[0.0, 0.0], &[f64::NAN, 1.0], &[1.0, 1.0, 1.0]] {
        assert!(of(weights).logits(&[z.clone(), z.clone()], 1.0).is_err(), "{weights:?}");
    }
    assert!(of(&[0.0, 1.0]).logits(&[z.clone(), z.clone()], 1.0).is_ok());
}

#[test]
fn features() {
    let maps = zeros(&[2, 3, 4, 4]);
    for bad in [zeros(&[3, 3, 4, 4]), zeros(&[2, 3, 4]), zeros(&[2, 3, 0, 4]), zeros(&[2, 3])] {
        assert!(attention_transfer(&maps, &bad).is_err());
        assert!(hint(&maps, &bad, None).is_err());
    }
    assert!(hint(&maps, &zeros(&[2, 5, 4, 4]), None).is_err());
    assert!(hint(&zeros(&[2, 3]), &zeros(&[2, 5]), None).is_err());
    for (samples, loss) in [(1, relational_distance as fn(&_, &_) -> _), (2, relational_angle)] {
        assert!(loss(&zeros(&[samples, 3]), &zeros(&[samples, 3])).is_err());
        assert!(loss(&zeros(&[4, 3]), &zeros(&[5, 3])).is_err());
        assert!(loss(&zeros(&[4]), &zeros(&[4])).is_err());
        assert!(loss(&zeros(&[4, 0]), &zeros(&[4, 0])).is_err());
    }
}

#[test]
fn adapters() {
    let new = |from, to, seed| Adapter::new(from, to, seed, DType::F32, &Device::Cpu);
    assert!(new(0, 3, 1).is_err() && new(3, 0, 1).is_err());
    assert!(Adapter::from_tensors(&zeros(&[3, 2]), &zeros(&[2])).is_err());
    assert!(Adapter::from_tensors(&zeros(&[3]), &zeros(&[3])).is_err());
    let adapter = new(2, 3, 1).unwrap();
    assert!(adapter.forward(&zeros(&[4, 3, 5, 5])).is_err());
    assert!(adapter.forward(&zeros(&[4])).is_err());
    assert_eq!(adapter.forward(&zeros(&[4, 2, 5, 6])).unwrap().dims(), [4, 3, 5, 6]);
    assert_eq!(adapter.forward(&zeros(&[4, 2])).unwrap().dims(), [4, 3]);

    let weights = |adapter: &Adapter| {
        adapter.variables()[0].1.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(weights(&adapter), weights(&new(2, 3, 1).unwrap()));
    assert_ne!(weights(&adapter), weights(&new(2, 3, 2).unwrap()));
    // Uniform in +-sqrt(3 / 100): variance 1 / 100.
    let many = weights(&new(100, 1_000, 3).unwrap());
    let variance = many.iter().map(|w| f64::from(w * w)).sum::<f64>() / many.len() as f64;
    assert!((variance * 100.0 - 1.0).abs() < 0.02, "{variance}");
}

#[test]
fn methods() {
    let error = Method::by_name("kd").unwrap_err().to_string();
    assert!(error.contains("soft-targets") && error.contains("relational"), "{error}");
    let pair = FeaturePair {
        student: vec![2, 3, 4, 4],
        teacher: vec![2, 5, 4, 4],
        seed: 0,
        device: Device::Cpu,
    };
    for method in METHODS {
        let (on_logits, on_features) = (method.logit_loss(&[]), method.feature_loss(&[], &pair));
        assert_eq!(on_logits.is_err(), method.takes_features(), "{}", method.name);
        assert_eq!(on_features.is_ok(), method.takes_features(), "{}", method.name);
        assert!(method.check(&[("magic", 1.0)]).is_err());
        for parameter in method.parameters {
            assert!(method.check(&[(parameter.name, parameter.default)]).is_ok());
            for wrong in &WRONG[1..] {
                assert!(method.check(&[(parameter.name, *wrong)]).is_err(), "{}", parameter.name);
            }
        }
        if let Ok(loss) = on_features {
            let (student, teacher) = (zeros(&pair.student), zeros(&pair.teacher));
            if method.name == "hint" {
                assert_eq!(loss.variables().len(), 2);
            }
            if loss.least_samples() <= 2 {
                loss.loss(&student, &teacher).unwrap();
            }
        }
    }
    let none = FeaturePair { student: vec![2], ..pair };
    assert!(Method::by_name("hint").unwrap().feature_loss(&[], &none).is_err());
}
