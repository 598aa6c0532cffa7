//! Against values and gradients from PyTorch (`fixtures/kd/make.py`).
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{Result, Tensor, Var};
use common::{Fixture, assert_close, flat, numbers, value_and_gradient};
use kd_loss::{
    Adapter, Dist, Distillation, Dkd, Ensemble, Mean, attention_transfer, dist, distillation, dkd,
    hard_labels, hint, logit_matching, relational_angle, relational_distance, soft_targets,
    standardize,
};
use serde_json::Value;

/// Double precision on both sides; the small terms that keep gradients finite enter differently.
const TIGHT: f64 = 1e-10;

fn logit_loss(fixture: &Fixture, case: &Value, student: &Tensor) -> Result<Tensor> {
    let teacher = fixture.tensor("teacher");
    let labels = fixture.labels();
    let number = |name: &str| case["parameters"][name].as_f64().unwrap();
    let ensemble = |mean| {
        let ensemble = Ensemble { mean, weights: vec![1.0, 3.0] };
        let teachers = [teacher.clone(), fixture.tensor("second")];
        soft_targets(student, &ensemble.logits(&teachers, number("T"))?, number("T"))
    };
    match case["name"].as_str().unwrap() {
        "soft_targets" => soft_targets(student, &teacher, number("T")),
        "standardized" => {
            soft_targets(&standardize(student)?, &standardize(&teacher)?, number("T"))
        }
        "logit_matching" => {
            logit_matching(student, &teacher, case["parameters"]["centred"].as_bool().unwrap())
        }
        "dkd" => {
            let (alpha, beta, temperature) = (number("alpha"), number("beta"), number("T"));
            dkd(student, &teacher, &labels, &Dkd { alpha, beta, temperature })
        }
        "dist" => {
            let (beta, gamma, temperature) = (number("beta"), number("gamma"), number("T"));
            dist(student, &teacher, &Dist { beta, gamma, temperature })
        }
        "hard_labels" => hard_labels(student, &labels, number("smoothing")),
        "distillation" => {
            let (hard_weight, temperature) = (number("a"), number("T"));
            let config = Distillation { hard_weight, temperature, label_smoothing: 0.0 };
            distillation(student, &teacher, Some(&labels), &config)
        }
        "ensemble_arithmetic" => ensemble(Mean::Arithmetic),
        "ensemble_geometric" => ensemble(Mean::Geometric),
        name => panic!("no loss for {name}"),
    }
}

#[test]
fn logit_losses() {
    let fixture = Fixture::load();
    let cases = fixture.0["logits"].as_array().unwrap();
    assert_eq!(cases.len(), 16);
    for case in cases {
        let what = format!("{} {}", case["name"], case["parameters"]);
        let loss = |student: &Tensor| logit_loss(&fixture, case, student);
        let (value, gradient) = value_and_gradient(&fixture.tensor("student"), loss);
        assert_close(&what, &[value], &[case["value"].as_f64().unwrap()], TIGHT);
        assert_close(&what, &gradient, &numbers(&case["gradient"]), TIGHT);
    }
}

fn adapter(fixture: &Fixture) -> Adapter {
    Adapter::from_tensors(&fixture.tensor("weight"), &fixture.tensor("bias")).unwrap()
}

#[test]
fn feature_losses() {
    let fixture = Fixture::load();
    let stored = |area: &str, name: &str| {
        let cases = fixture.0[area].as_array().unwrap();
        cases.iter().find(|case| case["name"] == name).unwrap().clone()
    };
    let adapter = adapter(&fixture);
    let hint_of_pair = |s: &Tensor, t: &Tensor| hint(s, t, Some(&adapter));
    type Loss<'a> = &'a dyn Fn(&Tensor, &Tensor) -> Result<Tensor>;
    let cases: [(&str, &str, &str, Loss); 4] = [
        ("features", "attention", "maps", &attention_transfer),
        ("features", "hint", "maps", &hint_of_pair),
        ("relations", "relational_distance", "vectors", &relational_distance),
        ("relations", "relational_angle", "vectors", &relational_angle),
    ];
    for (area, name, features, loss) in cases {
        let case = stored(area, name);
        let teacher = fixture.tensor(&format!("teacher_{features}"));
        let (value, gradient) =
            value_and_gradient(&fixture.tensor(features), |student| loss(student, &teacher));
        assert_close(name, &[value], &[case["value"].as_f64().unwrap()], TIGHT);
        assert_close(name, &gradient, &numbers(&case["gradient"]), TIGHT);
    }
}

#[test]
fn gradients_reach_the_adapter() {
    let fixture = Fixture::load();
    let adapter = adapter(&fixture);
    let student = Var::from_tensor(&fixture.tensor("maps")).unwrap();
    let loss = hint(&student, &fixture.tensor("teacher_maps"), Some(&adapter)).unwrap();
    let gradients = loss.backward().unwrap();
    let case = &fixture.0["features"][1];
    for (i, (name, variable)) in adapter.variables().into_iter().enumerate() {
        let ours = flat(gradients.get(variable).unwrap());
        assert_close(name, &ours, &numbers(&case["trained_gradients"][i]), TIGHT);
    }
}
