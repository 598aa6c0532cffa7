//! Gradient steps on losses of a graph's values.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{Device, Tensor};
use common::{Attributes, Draws, Model};
use tensor_core::run::{Array, Session};
use tensor_core::train::Fitter;
use tensor_core::{ElementType, Graph, ValueId};

/// `y = relu(x W1) W2`.
fn network(seed: u16) -> (Graph, ValueId, ValueId) {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[16, 4]);
    let draw = |n: usize, seed: u16| Draws::new(vec![seed, 3, 5]).floats(n, -0.8, 0.8);
    let first = m.floats(&[4, 6], &draw(24, seed));
    let hidden = m.node("MatMul", &[x, first], Attributes::new());
    let hidden = m.node("Relu", &[hidden], Attributes::new());
    let second = m.floats(&[6, 3], &draw(18, seed + 1));
    let y = m.node("MatMul", &[hidden, second], Attributes::new());
    let mut graph = m.graph;
    graph.outputs.push(y);
    (graph, hidden, y)
}

fn data(seed: u16) -> Vec<Array> {
    let values = Draws::new(vec![seed, 1]).floats(64, -1.0, 1.0);
    vec![Array::float(Tensor::from_vec(values, (16, 4), &Device::Cpu).unwrap())]
}

fn distance(a: &Array, b: &Array) -> f64 {
    let pairs = a.to_f32s().unwrap().into_iter().zip(b.to_f32s().unwrap());
    pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

#[test]
fn a_network_learns_another_ones_values() {
    let (teacher, hidden, y) = network(40);
    let (student, _, _) = network(80);
    let inputs = data(7);
    let given: Vec<_> = teacher.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
    let expected =
        Session::until(&teacher, &[hidden, y]).unwrap().fetch(&given, &[hidden, y]).unwrap();
    let mut fitter = Fitter::new(&student, &[hidden, y]).unwrap();
    let before = fitter.values(&inputs).unwrap();
    let mut losses = Vec::new();
    for step in 0..400 {
        let loss = fitter.step(step, 0.02, &inputs, |values| {
            let term = |i: usize| (&values[i].tensor - &expected[i].tensor)?.sqr()?.mean_all();
            Ok((term(0)? + term(1)?)?)
        });
        losses.push(loss.unwrap());
    }
    assert!(losses[399] < 0.05 * losses[0], "{} {}", losses[0], losses[399]);
    // What is written computes what the fitter does.
    let after = fitter.values(&inputs).unwrap();
    let written = fitter.written().unwrap();
    let found = Session::new(&written).unwrap().run(&given).unwrap();
    assert!(distance(&found[0], &after[1]) < 1e-9);
    assert!(distance(&after[1], &expected[1]) < 0.1 * distance(&before[1], &expected[1]));
}

#[test]
fn a_loss_that_is_not_finite_is_refused() {
    let (graph, _, y) = network(40);
    let mut fitter = Fitter::new(&graph, &[y]).unwrap();
    let refused =
        fitter.step(0, 0.1, &data(7), |values| Ok((values[0].tensor.sum_all()? * f64::INFINITY)?));
    assert_eq!(refused.unwrap_err().code(), "E0401");
}
