//! Against values from scikit-learn and numpy (`fixtures/lasso/make.py`).
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Fixture, assert_close};
use faer::Mat;
use lasso_prune::{
    LassoSystem, METHODS, SelectionParams, eliminate, error_curve, lasso_path, reconstruct,
};

/// All of it is f64 on systems with condition numbers up to 1e4; scikit-learn's own path differs
/// from its coordinate descent by 1e-9.
const TIGHT: f64 = 1e-9;

fn stored_system(fixture: &Fixture, energy: f64) -> LassoSystem {
    let c = fixture.count("/channels");
    let gram = fixture.numbers("/gram");
    LassoSystem {
        gram: Mat::from_fn(c, c, |i, j| gram[i * c + j]),
        linear: fixture.numbers("/linear"),
        energy,
    }
}

fn flat(gram: &Mat<f64>) -> Vec<f64> {
    (0..gram.nrows()).flat_map(|i| (0..gram.ncols()).map(move |j| gram[(i, j)])).collect()
}

#[test]
fn system_equals_the_explicit_contributions() {
    let fixture = Fixture::load("narrow.json");
    let layer = fixture.layer();
    for task in [layer.task(), layer.dual_task()] {
        let system = LassoSystem::new(&task);
        assert_close("A", &flat(&system.gram), &fixture.numbers("/gram"), 1e-12);
        assert_close("b", &system.linear, &fixture.numbers("/linear"), 1e-12);
        assert!((system.energy - 1.0).abs() < 1e-12);
    }
}

/// Compares our path, stopped at every count, with all knots of scikit-learn's.
fn compare_paths(fixture: &Fixture, system: &LassoSystem) {
    let lambdas = fixture.numbers("/path/lambdas");
    let path = lasso_path(system, usize::MAX);
    let ours: Vec<f64> = path.knots.iter().map(|knot| knot.lambda).chain([path.lambda]).collect();
    assert_close("knots", &ours, &lambdas, TIGHT);
    let last = fixture.numbers(&format!("/path/coefficients/{}", lambdas.len() - 1));
    assert_close("coefficients at the end", &path.coefficients, &last, 1e-7);

    for keep in 1..=system.channels() {
        let path = lasso_path(system, keep);
        assert_eq!(path.active.len(), keep);
        let knot = path.knots.len() - 1;
        let theirs = fixture.numbers(&format!("/path/coefficients/{knot}"));
        assert_close(&format!("coefficients at {keep}"), &path.coefficients, &theirs, TIGHT);
        assert_close("lambda", &[path.lambda], &lambdas[knot..=knot], TIGHT);
    }
}

#[test]
fn path_equals_scikit_learn() {
    let fixture = Fixture::load("narrow.json");
    compare_paths(&fixture, &LassoSystem::new(&fixture.layer().task()));
}

#[test]
fn path_with_drops_equals_scikit_learn() {
    let fixture = Fixture::load("drops.json");
    let system = stored_system(&fixture, fixture.number("/energy"));
    let path = lasso_path(&system, usize::MAX);
    assert!(path.knots.len() > system.channels(), "this path has channels that leave");
    assert_eq!(path.entries().len(), system.channels());
    compare_paths(&fixture, &system);
}

#[test]
fn every_lasso_solver_selects_the_same() {
    let task = Fixture::load("narrow.json").layer().task();
    for keep in 1..=task.channels() {
        let select = |method: &str| {
            let params = SelectionParams::new().method(method).exchanges(0).check().unwrap();
            params.selector().select(&task, keep).unwrap()
        };
        let exact = select("lasso");
        for method in METHODS.iter().filter(|m| m.name.starts_with("lasso-")) {
            assert_eq!(select(method.name), exact, "{} at {keep}", method.name);
        }
    }
}

#[test]
fn least_squares_equals_numpy() {
    for (name, tolerance) in [("narrow.json", 1e-5), ("wide.json", 1e-5)] {
        let fixture = Fixture::load(name);
        let layer = fixture.layer();
        let kept = fixture.counts("/least_squares/kept");
        let ridge = if name == "wide.json" { fixture.number("/ridge") } else { 0.0 };
        for problem in [layer.problem(), layer.dual_problem()] {
            let result = reconstruct(&problem, &kept, ridge).unwrap();
            let as_f64 = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let weight = fixture.numbers("/least_squares/weight");
            assert_close("weight", &as_f64(&result.weight), &weight, tolerance);
            let intercept = fixture.numbers("/least_squares/intercept");
            assert_close("intercept", &as_f64(&result.intercept), &intercept, tolerance);
            let error = fixture.number("/least_squares/error");
            assert!((result.relative_error - error).abs() < 1e-9 * error, "{name}");
        }
    }
}

#[test]
fn elimination_equals_refitting_without_each_channel() {
    let fixture = Fixture::load("narrow.json");
    let layer = fixture.layer();
    let removed = fixture.counts("/elimination/removed");
    let errors = fixture.numbers("/elimination/errors");
    for task in [layer.task(), layer.dual_task()] {
        let result = eliminate(&task, 0, 1e-10).unwrap();
        assert_eq!(result.removed, removed);
        assert_close("errors", &result.objective[1..], &errors, 1e-6);
    }
}

#[test]
fn wide_elimination_equals_plain_ridge_regression() {
    let fixture = Fixture::load("wide.json");
    let layer = fixture.layer();
    let ridge = fixture.number("/ridge");
    let objectives = fixture.numbers("/elimination/objectives");
    for task in [layer.task(), layer.dual_task()] {
        let result = eliminate(&task, 0, ridge).unwrap();
        assert_eq!(result.removed, fixture.counts("/elimination/removed"));
        assert_close("objectives", &result.objective, &objectives, TIGHT);
        let order: Vec<usize> = result.removed.iter().rev().copied().collect();
        let mut curve = error_curve(&task, &order, ridge).unwrap();
        curve.reverse();
        assert_close("curve", &curve, &objectives, TIGHT);
    }
}

#[test]
fn coordinate_descent_fixture_agrees_with_the_path() {
    // scikit-learn's coordinate descent between knots against our path: the coefficients at lambda
    // are the KKT point, so check stationarity of the stored ones in our system.
    let fixture = Fixture::load("narrow.json");
    let task = fixture.layer().task();
    let system = LassoSystem::new(&task);
    for fit in 0..fixture.rows("/fits") {
        let lambda = fixture.number(&format!("/fits/{fit}/lambda"));
        let beta = fixture.numbers(&format!("/fits/{fit}/coefficients"));
        for (i, b) in beta.iter().enumerate() {
            let fitted: f64 = (0..beta.len()).map(|j| system.gram[(i, j)] * beta[j]).sum();
            let correlation = system.linear[i] - fitted;
            if *b == 0.0 {
                assert!(correlation.abs() <= lambda * (1.0 + 1e-8));
            } else {
                assert!((correlation - lambda * b.signum()).abs() <= 1e-8 * lambda);
            }
        }
    }
}
