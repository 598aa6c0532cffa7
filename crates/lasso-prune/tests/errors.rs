//! Wrong input gets an error, not a panic.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Layer;
use lasso_prune::{
    METHODS, Problem, SelectionParams, Task, contiguous_blocks, eliminate, error_curve, reconstruct,
};
use tensor_core::calibrate::Moments;

fn layer() -> Layer {
    Layer::random(3, [20, 4, 2, 3], 0.1)
}

#[test]
fn problems() {
    let layer = layer();
    let new = |weight: &[f32], blocks| Problem::new(layer.moments(), weight, blocks);
    assert!(new(&layer.w[1..], layer.blocks()).is_err());
    let mut nan = layer.w.clone();
    nan[9] = f32::NAN;
    let error = new(&nan, layer.blocks()).unwrap_err();
    assert!(error.message().contains("output 1"), "{error}");
    assert!(new(&layer.w, contiguous_blocks(5, 2)).is_err(), "column out of range");
    assert!(new(&layer.w, vec![vec![0, 1], vec![1]]).is_err(), "column owned twice");
    assert!(Problem::new(Moments::new(8, 3).unwrap(), &layer.w, layer.blocks()).is_err());
    let mut nan = layer.x.clone();
    nan[0] = f32::NAN;
    assert!(Moments::new(8, 3).unwrap().push(&nan, &layer.y).is_err());
}

#[test]
fn tasks() {
    let layer = layer();
    assert!(Task::new(vec![]).is_err());
    let none = Problem::new(layer.moments(), &layer.w, vec![]).unwrap();
    assert!(Task::new(vec![none]).is_err());
    let other = Problem::new(layer.moments(), &layer.w, contiguous_blocks(2, 4)).unwrap();
    assert!(Task::new(vec![layer.problem(), other]).is_err());
    assert!(layer.task().with_producer_norms(vec![1.0; 3]).is_err());
    assert!(layer.task().with_producer_norms(vec![f64::NAN; 4]).is_err());
}

#[test]
fn calls() {
    let task = layer().task();
    for method in METHODS {
        let selector = SelectionParams::new().method(method.name).check().unwrap().selector();
        for keep in [0, 5] {
            assert!(selector.select(&task, keep).unwrap_err().hint_text().is_some());
        }
    }
    let problem = &task.problems()[0];
    assert!(reconstruct(problem, &[4], 1e-6).is_err());
    assert!(reconstruct(problem, &[1, 1], 1e-6).is_err());
    for ridge in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(reconstruct(problem, &[1], ridge).is_err());
        assert!(error_curve(&task, &[0, 1, 2, 3], ridge).is_err());
        assert!(eliminate(&task, 1, ridge).is_err());
        assert!(SelectionParams::new().ridge(ridge).check().is_err());
    }
    for order in [&[0, 1, 2][..], &[0, 1, 2, 2], &[0, 1, 2, 4], &[0, 1, 2, 3, 3]] {
        assert!(error_curve(&task, order, 1e-6).is_err());
    }
    let error = SelectionParams::new().method("L1").check().unwrap_err();
    assert!(error.hint_text().is_some_and(|hint| hint.contains("max-response")));
}

#[test]
fn singular_without_a_ridge() {
    let mut layer = layer();
    let p = layer.inputs();
    // Two equal columns.
    layer.x.chunks_mut(p).for_each(|row| row[1] = row[0]);
    let task = layer.task();
    let error = eliminate(&task, 1, 0.0).unwrap_err();
    assert!(error.hint_text().is_some_and(|hint| hint.contains("ridge")));
    assert!(error_curve(&task, &[0, 1, 2, 3], 0.0).is_err());
    // Reconstruction has a least-squares solution all the same.
    let new = reconstruct(&task.problems()[0], &[0, 1, 2, 3], 0.0).unwrap();
    let with_ridge = reconstruct(&task.problems()[0], &[0, 1, 2, 3], 1e-8).unwrap();
    assert!((new.relative_error - with_ridge.relative_error).abs() < 1e-6);
}

#[test]
fn producer_norms_decide_max_response() {
    let task = layer().task().with_producer_norms(vec![1.0, 4.0, 3.0, 4.0]).unwrap();
    let selector = SelectionParams::new().method("max-response").check().unwrap().selector();
    assert_eq!(selector.order(&task).unwrap(), [1, 3, 2, 0]);
    assert_eq!(selector.select(&task, 2).unwrap(), [1, 3]);
}
