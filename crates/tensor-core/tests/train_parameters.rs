//! Which constants are trained, and which value the loss is taken of.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Attributes, Model, int};
use tensor_core::graph::Graph;
use tensor_core::group::Group;
use tensor_core::journal::Identity;
use tensor_core::progress::Silent;
use tensor_core::train::{Job, Length, Parameters, Params, Role, Schedule, prepare, scores, train};
use tensor_core::{Constant, ElementType, Result, ValueId, data};

const NONE: Attributes = Vec::new();

fn ones(model: &mut Model, dims: &[usize]) -> ValueId {
    model.floats(dims, &vec![1.0; dims.iter().product()])
}

/// As TensorFlow writes biases and normalizations, and as layer normalization is written out.
#[test]
fn vectors_behind_products_are_biases_and_scales() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[2, 3, 4, 4]);
    let kernel = ones(&mut m, &[5, 3, 1, 1]);
    let y = m.node("Conv", &[x, kernel], NONE);
    let (scale, bias) = (ones(&mut m, &[1, 5, 1, 1]), ones(&mut m, &[5, 1, 1]));
    let y = m.node("Mul", &[scale, y], NONE);
    let y = m.node("Add", &[y, bias], NONE);
    let y = m.node("GlobalAveragePool", &[y], NONE);
    let y = m.node("Flatten", &[y], NONE);
    let mean = m.node("ReduceMean", &[y], vec![("axes", common::ints(&[1]))]);
    let centred = m.node("Sub", &[y, mean], NONE);
    let two = m.floats(&[], &[2.0]);
    let squared = m.node("Pow", &[centred, two], NONE);
    let variance = m.node("ReduceMean", &[squared], vec![("axes", common::ints(&[1]))]);
    let deviation = m.node("Sqrt", &[variance], NONE);
    let y = m.node("Div", &[centred, deviation], NONE);
    let (gamma, beta) = (ones(&mut m, &[5]), ones(&mut m, &[5]));
    let y = m.node("Mul", &[y, gamma], NONE);
    let y = m.node("Add", &[y, beta], NONE);
    let weight = ones(&mut m, &[5, 2]);
    let product = m.node("MatMul", &[y, weight], NONE);
    // Neither a factor for all nor a mask is a parameter, nor what follows no product.
    let (factor, mask, far) = (m.floats(&[], &[0.5]), ones(&mut m, &[2, 2]), ones(&mut m, &[2]));
    let scaled = m.node("Mul", &[product, factor], NONE);
    let masked = m.node("Add", &[product, mask], NONE);
    let y = m.node("Add", &[scaled, masked], NONE);
    let y = m.node("Relu", &[y], NONE);
    let y = m.node("Add", &[y, far], NONE);
    let graph = m.finish(&[y]);
    let found = Parameters::of(&prepare(&graph)).unwrap();
    let found: Vec<_> = found.iter().map(|p| (p.value, p.role)).collect();
    let expected = [
        (kernel, Role::Weight),
        (scale, Role::Scale),
        (bias, Role::Bias),
        (gamma, Role::Scale),
        (beta, Role::Bias),
        (weight, Role::Weight),
    ];
    assert_eq!(found, expected);
}

/// Tools that merge equal constants leave normalizations with one running mean for two.
#[test]
fn each_normalization_has_its_own_statistics() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[2, 3, 4, 4]);
    let (scale, bias) = (ones(&mut m, &[3]), ones(&mut m, &[3]));
    let (mean, variance) = (ones(&mut m, &[3]), ones(&mut m, &[3]));
    let y = m.node("BatchNormalization", &[x, scale, bias, mean, variance], NONE);
    let y = m.node("BatchNormalization", &[y, scale, bias, mean, variance], NONE);
    let graph = prepare(&m.finish(&[y]));
    let statistics: Vec<_> = graph
        .nodes
        .iter()
        .flat_map(|node| [node.input(3).unwrap(), node.input(4).unwrap()])
        .collect();
    assert_eq!(statistics[..2], [mean, variance]);
    assert!(statistics[2..].iter().all(|value| !statistics[..2].contains(value)));
    assert_eq!(Parameters::of(&graph).unwrap().statistics().len(), 4);
    // Scales that two normalizations share stay shared.
    assert_eq!(graph.nodes[0].inputs[1..3], graph.nodes[1].inputs[1..3]);
    graph.validate().unwrap();
}

/// A flat classifier with further nodes behind its scores.
fn classifier(behind: &[(&str, Attributes)]) -> (Graph, ValueId) {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[4, 6]);
    let (weight, bias) = (ones(&mut m, &[6, 3]), ones(&mut m, &[3]));
    let logits = m.node("Gemm", &[x, weight, bias], NONE);
    let mut y = logits;
    for (op, attributes) in behind {
        y = m.node(op, &[y], attributes.clone());
    }
    (m.finish(&[y]), logits)
}

#[test]
fn the_loss_is_taken_before_a_softmax() {
    let (softmax, flatten) = (("Softmax", NONE), ("Flatten", NONE));
    let last = ("Softmax", vec![("axis", int(1))]);
    for behind in [&[softmax.clone()][..], &[last, flatten.clone()], &[softmax, ("Identity", NONE)]]
    {
        let (graph, logits) = classifier(behind);
        assert_eq!(scores(&graph).unwrap(), logits);
    }
    let (graph, _) = classifier(&[flatten]);
    assert_eq!(scores(&graph).unwrap(), graph.outputs[0]);
    for op in [("Sigmoid", NONE), ("Softmax", vec![("axis", int(0))])] {
        let (graph, _) = classifier(&[op]);
        let error = scores(&graph).unwrap_err();
        assert_eq!(error.code(), "E0405");
        assert!(error.node().is_some() && error.hint_text().is_some(), "{error}");
    }
}

/// One step on eight samples of noise, and an evaluation on them where asked for.
fn step(graph: &Graph, params: Params, evaluates: bool) -> Result<Graph> {
    let options = data::Options { inputs: data::InputSpec::of(graph), ..data::Options::default() };
    let values = common::Draws::new(vec![5, 7]).floats(8 * 6, -1.0, 1.0);
    let samples = Constant::from_f32s(&[8, 6], &values)?;
    let labels = Some((0..8).map(|i| i % 3).collect());
    let set = data::from_memory(vec![("x0".to_owned(), samples)], labels, &options)?;
    let job = Job {
        graph,
        data: &set,
        evaluation: evaluates.then_some(&set),
        params: &Params { length: Length::Steps(1), ..params },
        plugins: &mut [],
        folder: None,
        identity: Identity::new(),
        progress: &Silent,
        group: Group::alone(),
    };
    Ok(train(job)?.graph)
}

#[test]
fn random_weights_leave_frozen_ones_alone() {
    let (graph, _) = classifier(&[]);
    let [weight, bias] = [1, 2].map(|input| graph.nodes[0].input(input).unwrap());
    let freeze = vec![graph.name(weight).to_owned()];
    let params = Params { reinitialize: true, freeze, batch: 4, ..Params::default() };
    let trained = step(&graph, params, false).unwrap();
    assert_eq!(trained.initializer(weight), graph.initializer(weight));
    assert_ne!(trained.initializer(bias), graph.initializer(bias));
}

#[test]
fn weights_that_left_the_range_of_floats_are_an_error() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[4, 6]);
    let (inner, outer) = (ones(&mut m, &[6, 6]), ones(&mut m, &[6, 3]));
    let y = m.node("MatMul", &[x, inner], NONE);
    let y = m.node("MatMul", &[y, outer], NONE);
    let graph = m.finish(&[y]);
    let diverge = |rate, evaluates| {
        let schedule = Schedule::Constant;
        let params = Params { rate, schedule, batch: 4, ..Params::default() };
        let error = step(&graph, params, evaluates).unwrap_err();
        assert_eq!(error.code(), "E0401");
        error.message().to_owned()
    };
    let message = diverge(1e39, false);
    assert!(message.ends_with("is not finite after the last step"), "{message}");
    // The weights are finite, their product is not.
    let message = diverge(1e30, true);
    assert!(message.starts_with("the loss on the held-out samples is "), "{message}");
}

/// Its normalization by the statistics of the batch would be a constant.
#[test]
fn one_value_per_channel_is_no_batch() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[4, 6]);
    let [scale, bias, mean, variance] = [(); 4].map(|()| ones(&mut m, &[6]));
    let y = m.node("BatchNormalization", &[x, scale, bias, mean, variance], NONE);
    let weight = ones(&mut m, &[6, 3]);
    let y = m.node("MatMul", &[y, weight], NONE);
    let graph = m.finish(&[y]);
    let error = step(&graph, Params { batch: 1, ..Params::default() }, false).unwrap_err();
    assert!(error.message().contains("more than one value per channel"), "{error}");
    step(&graph, Params { batch: 2, ..Params::default() }, false).unwrap();
}
