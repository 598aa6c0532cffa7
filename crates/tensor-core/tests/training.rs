//! Training runs of a session: gradients of weights, statistics of batches, and refusals.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{Attributes, Draws, Model, int, ints};
use tensor_core::graph::{Attribute, Graph};
use tensor_core::random::stream;
use tensor_core::run::{Array, Session, Tap, Training};
use tensor_core::{Constant, ElementType, ErrorKind, ValueId};

struct NoTap;

impl Tap for NoTap {}

fn training() -> Training {
    Training::new(stream(1, "dropout"))
}

fn random(dims: &[usize], seed: u16, low: f32, high: f32) -> Vec<f32> {
    Draws::new(vec![seed, seed ^ 91, 7]).floats(dims.iter().product(), low, high)
}

fn parameter(model: &mut Model, dims: &[usize], seed: u16) -> ValueId {
    let low = if dims.len() == 1 { 0.5 } else { -0.5 };
    model.floats(dims, &random(dims, seed, low, 0.9))
}

/// A convolution with everything that a session fuses behind it, and a classifier.
fn network() -> Graph {
    let mut m = Model::new(21);
    let x = m.input(ElementType::F32, &[3, 2, 9, 9]);
    let (w, b) = (parameter(&mut m, &[4, 2, 3, 3], 1), parameter(&mut m, &[4], 2));
    let pads = || vec![("pads", ints(&[1, 1, 1, 1]))];
    let first = m.node("Conv", &[x, w, b], pads());
    let norm = [3, 4, 5, 6].map(|seed| parameter(&mut m, &[4], seed));
    let inputs = [vec![first], norm.to_vec()].concat();
    let first = m.node("BatchNormalization", &inputs, Attributes::new());
    let first = m.node("Softplus", &[first], Attributes::new());
    let w = parameter(&mut m, &[4, 1, 3, 3], 7);
    let depthwise = [pads(), vec![("group", int(4))]].concat();
    let second = m.node("Conv", &[first, w], depthwise);
    let sum = m.node("Add", &[first, second], Attributes::new());
    let sum = m.node("Relu", &[sum], Attributes::new());
    let grouped = [13, 14].map(|seed| parameter(&mut m, &[4], seed));
    let inputs = [vec![sum], grouped.to_vec()].concat();
    let sum = m.node("GroupNormalization", &inputs, vec![("num_groups", int(2))]);
    let sum = m.node("MaxPool", &[sum], vec![("kernel_shape", ints(&[2, 2]))]);
    let window = vec![("kernel_shape", ints(&[3, 3])), ("strides", ints(&[2, 2]))];
    let pooled = m.node("AveragePool", &[sum], window);
    let w = parameter(&mut m, &[4, 3, 2, 2], 8);
    let wide = m.node("ConvTranspose", &[pooled, w], vec![("strides", ints(&[2, 2]))]);
    let instance = [9, 10].map(|seed| parameter(&mut m, &[3], seed));
    let inputs = [vec![wide], instance.to_vec()].concat();
    let wide = m.node("InstanceNormalization", &inputs, Attributes::new());
    let pooled = m.node("GlobalAveragePool", &[wide], Attributes::new());
    let flat = m.node("Flatten", &[pooled], Attributes::new());
    let layer = [15, 16].map(|seed| parameter(&mut m, &[3], seed));
    let flat = m.node("LayerNormalization", &[vec![flat], layer.to_vec()].concat(), vec![]);
    let w = parameter(&mut m, &[3, 3], 17);
    let flat = m.node("MatMul", &[flat, w], Attributes::new());
    let (w, b) = (parameter(&mut m, &[5, 3], 11), parameter(&mut m, &[5], 12));
    let classes = m.node("Gemm", &[flat, w, b], vec![("transB", int(1))]);
    m.finish(&[classes])
}

fn input(graph: &Graph) -> (ValueId, Array) {
    let dims = [3, 2, 9, 9];
    let x = Tensor::from_vec(random(&dims, 77, -1.0, 1.0), &dims, &Device::Cpu).unwrap();
    (graph.inputs[0], Array::float(x))
}

/// Float initializers as variables.
fn variables(graph: &Graph) -> Vec<(ValueId, Var)> {
    let values = graph.initializers().iter();
    values
        .map(|&value| {
            let array = Array::from_constant(graph.initializer(value).unwrap()).unwrap();
            (value, Var::from_tensor(&array.tensor).unwrap())
        })
        .collect()
}

/// The outputs weighted by cosines, as one number.
fn objective(y: &Tensor) -> Tensor {
    let weights: Vec<f32> = (0..y.elem_count()).map(|i| (i as f32 + 0.5).cos()).collect();
    let weights = Tensor::from_vec(weights, y.dims(), &Device::Cpu).unwrap();
    (y * weights).unwrap().sum_all().unwrap()
}

/// Every weight's gradient agrees with the change of the objective along it, with running and with
/// batch statistics; nothing is fused away.
#[test]
fn gradients_reach_every_weight() {
    let graph = network();
    let vars = variables(&graph);
    let given: Vec<ValueId> =
        graph.inputs.iter().copied().chain(vars.iter().map(|v| v.0)).collect();
    let session = Session::between(&graph, &given, &graph.outputs).unwrap();
    for train in [false, true] {
        let run = |weights: &[(ValueId, Tensor)]| {
            let mut inputs = vec![input(&graph)];
            inputs.extend(weights.iter().map(|(id, t)| (*id, Array::float(t.clone()))));
            let outputs = match train {
                true => session.train(&inputs, &graph.outputs, &mut NoTap, &mut training()),
                false => session.fetch(&inputs, &graph.outputs),
            };
            objective(&outputs.unwrap()[0].tensor)
        };
        let tensors: Vec<(ValueId, Tensor)> =
            vars.iter().map(|(id, var)| (*id, var.as_tensor().clone())).collect();
        let gradients = run(&tensors).backward().unwrap();
        let mut without = 0;
        for (i, (id, var)) in vars.iter().enumerate() {
            let Some(gradient) = gradients.get(var) else {
                without += 1;
                continue;
            };
            let squares: f32 = gradient.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap();
            // A bias before batch statistics has none: the mean takes it away.
            let norm = squares.sqrt();
            if norm < 1e-3 {
                continue;
            }
            let step = 0.005 / f64::from(norm);
            let at = |sign: f64| -> f32 {
                let mut moved = tensors.clone();
                let change = (gradient.detach() * (sign * step)).unwrap();
                moved[i].1 = (var.as_tensor().detach() + change).unwrap();
                run(&moved).to_scalar().unwrap()
            };
            let found = f64::from(at(1.0) - at(-1.0)) / (2.0 * step);
            let expected = f64::from(squares);
            // The third derivative and the rounding of the two objectives.
            assert!(
                (found - expected).abs() < 0.01 * expected,
                "{}: {found} along the gradient, expected {expected}",
                graph.name(*id)
            );
        }
        // In training the running statistics are not read.
        assert_eq!(without, if train { 2 } else { 0 });
    }
}

#[test]
fn training_leaves_the_statistics_of_the_batch() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[2, 2, 2]);
    let parameters = [[1.0, 2.0], [0.0, 1.0], [10.0, 20.0], [1.0, 4.0]];
    let parameters = parameters.map(|values| m.floats(&[2], &values));
    let inputs = [vec![x], parameters.to_vec()].concat();
    let y = m.node("BatchNormalization", &inputs, vec![("epsilon", Attribute::Float(0.0))]);
    let graph = m.finish(&[y]);
    let session = Session::new(&graph).unwrap();
    let x = Tensor::new(&[[[1_f32, 3.0], [0.0, 0.0]], [[5.0, 7.0], [2.0, 2.0]]], &Device::Cpu);
    let inputs = [(graph.inputs[0], Array::float(x.unwrap()))];
    let mut training = training();
    let y = session.train(&inputs, &graph.outputs, &mut NoTap, &mut training).unwrap();
    let y = y[0].to_f32s().unwrap();
    let root = 5_f32.sqrt();
    let expected = [-3.0 / root, -1.0 / root, -1.0, -1.0, 1.0 / root, 3.0 / root, 3.0, 3.0];
    for (y, expected) in y.iter().zip(expected) {
        assert!((y - expected).abs() < 1e-6, "{y} instead of {expected}");
    }
    let statistics = training.statistics().values().next().unwrap();
    assert_eq!(statistics.mean.to_vec1::<f32>().unwrap(), [4.0, 1.0]);
    assert_eq!(statistics.variance.to_vec1::<f32>().unwrap(), [5.0, 1.0]);
    let old = [[10_f32, 20.0], [1.0, 4.0]].map(|v| Tensor::new(&v, &Device::Cpu).unwrap());
    let (mean, variance) = statistics.running(&old[0], &old[1], 0.75).unwrap();
    assert_eq!(mean.to_vec1::<f32>().unwrap(), [8.5, 15.25]);
    // Four values: the unbiased variances are 20 / 3 and 4 / 3.
    for (found, expected) in
        variance.to_vec1::<f32>().unwrap().iter().zip([29.0 / 12.0, 10.0 / 3.0])
    {
        assert!((found - expected).abs() < 1e-6);
    }

    let mut frozen = self::training();
    frozen.freeze(graph.node_ids().next().unwrap());
    let kept = session.train(&inputs, &graph.outputs, &mut NoTap, &mut frozen).unwrap();
    let inference = session.run(&inputs).unwrap();
    assert_eq!(kept[0].to_f32s().unwrap(), inference[0].to_f32s().unwrap());
    assert!(frozen.statistics().is_empty());
}

#[test]
fn dropout_drops_by_its_stream_and_keeps_the_mean() {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[10_000]);
    let ratio = m.floats(&[], &[0.25]);
    let y = m.node("Dropout", &[x, ratio], Attributes::new());
    let graph = m.finish(&[y]);
    let session = Session::new(&graph).unwrap();
    let x = Var::ones(10_000, DType::F32, &Device::Cpu).unwrap();
    let inputs = [(graph.inputs[0], Array::float(x.as_tensor().clone()))];
    let run =
        || session.train(&inputs, &graph.outputs, &mut NoTap, &mut training()).unwrap().remove(0);
    let y = run();
    let values = y.to_f32s().unwrap();
    assert_eq!(values, run().to_f32s().unwrap());
    assert!(values.iter().all(|&y| y == 0.0 || (y - 4.0 / 3.0).abs() < 1e-6));
    let dropped = values.iter().filter(|&&y| y == 0.0).count();
    // Three standard deviations of 43 around 2,500.
    assert!((2370..=2630).contains(&dropped), "{dropped} of 10,000 dropped");
    let gradients = y.tensor.sum_all().unwrap().backward().unwrap();
    assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>().unwrap(), values);
    assert!(session.run(&inputs).unwrap()[0].to_f32s().unwrap().iter().all(|&y| y == 1.0));
}

#[test]
fn choices_pass_gradients_to_what_was_chosen() {
    let mut m = Model::new(17);
    let (yes, no) = (m.input(ElementType::F32, &[2, 3]), m.input(ElementType::F32, &[3]));
    let condition = m.constant(common::typed(ElementType::Bool, &[2, 1], &[1, 0]));
    let y = m.node("Where", &[condition, yes, no], Attributes::new());
    let graph = m.finish(&[y]);
    let vars = [
        Var::zeros((2, 3), DType::F32, &Device::Cpu).unwrap(),
        Var::zeros(3, DType::F32, &Device::Cpu).unwrap(),
    ];
    let inputs: Vec<_> = graph
        .inputs
        .iter()
        .zip(&vars)
        .map(|(&id, var)| (id, Array::float(var.as_tensor().clone())))
        .collect();
    let y = Session::new(&graph).unwrap().run(&inputs).unwrap().remove(0).tensor;
    let gradients = y.sum_all().unwrap().backward().unwrap();
    let gradient = |i: usize| -> Vec<f32> {
        gradients.get(&vars[i]).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_eq!(gradient(0), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(gradient(1), [1.0, 1.0, 1.0]);
}

/// A lost gradient is an error that names the node; positions and conditions have none to lose.
#[test]
fn gradients_are_never_lost_silently() {
    let run = |op: &str, parameters: &[Constant], attributes: Attributes| {
        let mut m = Model::new(17);
        let mut inputs = vec![m.input(ElementType::F32, &[2, 3])];
        inputs.extend(parameters.iter().map(|constant| m.constant(constant.clone())));
        let y = m.node(op, &inputs, attributes);
        let graph = m.finish(&[y]);
        let x = Var::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
        let inputs = [(graph.inputs[0], Array::float(x.as_tensor().clone()))];
        Session::new(&graph).unwrap().run(&inputs).map(|_| ())
    };
    let scalar = |value: f32| Constant::from_f32s(&[], &[value]).unwrap();
    for (op, parameters, attributes) in [
        ("QuantizeLinear", vec![scalar(0.1)], Attributes::new()),
        ("Cast", vec![], vec![("to", int(7))]),
    ] {
        let error = run(op, &parameters, attributes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(op), "{error}");
    }
    for (op, parameters) in
        [("Greater", vec![scalar(0.0)]), ("ArgMax", vec![]), ("Shape", vec![]), ("IsNaN", vec![])]
    {
        run(op, &parameters, Attributes::new()).unwrap();
    }
}
