//! Our CPU kernels against candle's own operations, which run on other devices: outputs, gradients
//! and statistics over random sizes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{Device, Tensor};
use common::{Attributes, Draws, Model, config, int, ints};
use proptest::prelude::*;
use std::collections::BTreeSet;
use tensor_core::graph::{Attribute, Dim, Graph};
use tensor_core::random::stream;
use tensor_core::run::{Array, Backend, Session, Tap, Training};
use tensor_core::{ElementType, ValueId};

/// Largest difference relative to the largest value: roundings of two orders of summation.
const TOLERANCE: f32 = 1e-5;

struct NoTap;

impl Tap for NoTap {
    fn touches(&self, _value: ValueId) -> bool {
        false
    }
}

/// Output, gradients of all inputs, and statistics of batches, of a training step.
fn step(graph: &Graph, inputs: &[Tensor], backend: &Backend) -> Vec<Tensor> {
    let given: Vec<(ValueId, Array)> =
        graph.inputs.iter().copied().zip(inputs.iter().cloned().map(Array::float)).collect();
    let wanted: BTreeSet<ValueId> = graph.inputs.iter().copied().collect();
    let mut training = Training::new(stream(1, "dropout"));
    let session = Session::new(graph).unwrap().on(backend).unwrap();
    let recording =
        session.record(&given, &wanted, &graph.outputs, &mut NoTap, &mut training).unwrap();
    let y = recording.outputs()[0].tensor.clone();
    let weights: Vec<f32> = (0..y.elem_count()).map(|i| (i as f32 + 0.5).cos()).collect();
    let weights = Tensor::from_vec(weights, y.dims(), &Device::Cpu).unwrap();
    let loss = (&y * weights).unwrap().sum_all().unwrap();
    let mut gradients = recording.gradients(&loss).unwrap();
    let mut results = vec![y.detach()];
    for (value, input) in graph.inputs.iter().zip(inputs) {
        let gradient = gradients.take(*value).unwrap();
        results.push(gradient.unwrap_or_else(|| input.zeros_like().unwrap()));
    }
    for batch in training.statistics().values() {
        results.extend([batch.mean.clone(), batch.variance.clone()]);
    }
    // Inference, which fuses on the CPU.
    results.push(session.fetch(&given, &graph.outputs).unwrap().remove(0).tensor);
    results
}

/// Runs a graph of random inputs both ways.
fn compare(graph: &Graph, draws: &mut Draws) -> Result<(), TestCaseError> {
    let tensor = |&input: &ValueId| {
        let declared = graph.declared(input).unwrap().dims.clone().unwrap();
        let known = |dim: &Dim| match dim {
            Dim::Known(length) => *length,
            other => panic!("{other:?}"),
        };
        let dims: Vec<usize> = declared.iter().map(known).collect();
        let values = draws.floats(dims.iter().product(), -1.0, 1.0);
        Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().map(tensor).collect();
    let own = step(graph, &inputs, &Backend::cpu());
    let candle = step(graph, &inputs, &Backend::candle(Device::Cpu));
    prop_assert_eq!(own.len(), candle.len());
    for (i, (own, candle)) in own.iter().zip(&candle).enumerate() {
        prop_assert_eq!(own.dims(), candle.dims(), "result {}", i);
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (own, candle) = (flat(own), flat(candle));
        let scale = own.iter().fold(1e-3_f32, |most, x| most.max(x.abs()));
        for (own, candle) in own.iter().zip(&candle) {
            let error = (own - candle).abs();
            prop_assert!(error <= TOLERANCE * scale, "result {i}: {own} and {candle} of {scale}");
        }
    }
    Ok(())
}

/// Strides, pads and dilations of a window of one or two axes, for inputs that hold it.
struct Window {
    spatial: Vec<usize>,
    kernel: Vec<usize>,
    attributes: Attributes,
}

fn window(draws: &mut Draws, pools: bool) -> Window {
    let rank = 2 - draws.below(2);
    let mut window = Window { spatial: Vec::new(), kernel: Vec::new(), attributes: Vec::new() };
    let (mut strides, mut dilations, mut pads) = (Vec::new(), Vec::new(), vec![0; 2 * rank]);
    for axis in 0..rank {
        let kernel = 1 + draws.below(4);
        let dilation = 1 + draws.below(3);
        let extent = (kernel - 1) * dilation + 1;
        window.spatial.push(extent + draws.below(6));
        window.kernel.push(kernel);
        strides.push(1 + draws.below(3) as i64);
        dilations.push(dilation as i64);
        // A pool refuses padding that holds a whole window.
        let most = if pools { extent } else { 4 };
        pads[axis] = draws.below(most) as i64;
        pads[rank + axis] = draws.below(most) as i64;
    }
    window.attributes =
        vec![("strides", ints(&strides)), ("dilations", ints(&dilations)), ("pads", ints(&pads))];
    window
}

fn list() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 24)
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn convolutions_agree(list in list()) {
        let mut draws = Draws::new(list);
        let window = window(&mut draws, false);
        let groups = 1 + draws.below(3);
        let per_group = 1 + draws.below(3);
        let outputs = groups * (1 + draws.below(3));
        let mut model = Model::new(17);
        let dims = |first: [usize; 2], rest: &[usize]| [&first[..], rest].concat();
        let batch = 1 + draws.below(2);
        let x = model.input(ElementType::F32, &dims([batch, groups * per_group], &window.spatial));
        let w = model.input(ElementType::F32, &dims([outputs, per_group], &window.kernel));
        let mut inputs = vec![x, w];
        if draws.coin() {
            inputs.push(model.input(ElementType::F32, &[outputs]));
        }
        let attributes = [window.attributes, vec![("group", int(groups as i64))]].concat();
        let y = model.node("Conv", &inputs, attributes);
        compare(&model.finish(&[y]), &mut draws)?;
    }

    #[test]
    fn pools_agree(list in list()) {
        let mut draws = Draws::new(list);
        let Window { spatial, kernel, mut attributes } = window(&mut draws, true);
        let mut model = Model::new(19);
        let dims = [vec![1 + draws.below(2), 1 + draws.below(3)], spatial].concat();
        let x = model.input(ElementType::F32, &dims);
        let kernel: Vec<i64> = kernel.into_iter().map(|n| n as i64).collect();
        attributes.push(("kernel_shape", ints(&kernel)));
        attributes.push(("ceil_mode", int(draws.below(2) as i64)));
        let op = draws.pick(&["MaxPool", "AveragePool"]);
        if op == "AveragePool" {
            attributes.push(("count_include_pad", int(draws.below(2) as i64)));
        }
        // Behind a rectifier many elements are equal.
        let x = if draws.coin() { model.node("Relu", &[x], Vec::new()) } else { x };
        let y = model.node(op, &[x], attributes);
        compare(&model.finish(&[y]), &mut draws)?;
    }

    #[test]
    fn batch_normalizations_agree(list in list()) {
        let mut draws = Draws::new(list);
        // Two values per channel are normalized to plus and minus one, whatever they are.
        let dims = [vec![3 + draws.below(4), 1 + draws.below(4)], draws.shape(0, 2, 5)].concat();
        let mut model = Model::new(17);
        let x = model.input(ElementType::F32, &dims);
        let (scale, bias) = (
            model.input(ElementType::F32, &dims[1..2]),
            model.input(ElementType::F32, &dims[1..2]),
        );
        let means = draws.floats(dims[1], -1.0, 1.0);
        let variances = draws.floats(dims[1], 0.5, 2.0);
        let (mean, variance) =
            (model.floats(&dims[1..2], &means), model.floats(&dims[1..2], &variances));
        let epsilon = vec![("epsilon", Attribute::Float(0.01))];
        let mut y =
            model.node("BatchNormalization", &[x, scale, bias, mean, variance], epsilon);
        // What our kernels take along.
        if draws.coin() {
            y = model.node("Add", &[y, x], Vec::new());
        }
        if draws.coin() {
            y = model.node("Relu", &[y], Vec::new());
        }
        compare(&model.finish(&[y]), &mut draws)?;
    }
}
