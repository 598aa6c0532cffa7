//! Gradients of the operators that training will use, against central differences.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{Attributes, Draws, Model, int, ints};
use tensor_core::graph::{Attribute, Graph};
use tensor_core::run::{Array, Session};
use tensor_core::{Constant, ElementType};

/// A graph of one operator; all inputs that are not sizes are doubles, for exact differences.
struct Case {
    op: &'static str,
    attributes: Attributes,
    shapes: &'static [&'static [usize]],
    range: (f32, f32),
    sizes: Option<&'static [i64]>,
}

fn case(op: &'static str, shapes: &'static [&'static [usize]], range: (f32, f32)) -> Case {
    Case { op, attributes: Vec::new(), shapes, range, sizes: None }
}

impl Case {
    fn with(mut self, name: &'static str, value: Attribute) -> Self {
        self.attributes.push((name, value));
        self
    }

    fn sizes(mut self, sizes: &'static [i64]) -> Self {
        self.sizes = Some(sizes);
        self
    }

    fn graph(&self) -> Graph {
        let mut model = Model::new(18);
        let mut inputs: Vec<_> =
            self.shapes.iter().map(|dims| model.input(ElementType::F64, dims)).collect();
        if let Some(sizes) = self.sizes {
            inputs.push(model.constant(Constant::from_i64s(&[sizes.len()], sizes).unwrap()));
        }
        let out = model.node(self.op, &inputs, self.attributes.clone());
        model.finish(&[out])
    }
}

/// The outputs weighted by cosines, as one number.
fn objective(graph: &Graph, inputs: &[Tensor]) -> Tensor {
    let arrays: Vec<_> = graph
        .inputs
        .iter()
        .zip(inputs)
        .map(|(&value, tensor)| (value, Array::new(tensor.clone(), ElementType::F64).unwrap()))
        .collect();
    let out = Session::new(graph).unwrap().run(&arrays).unwrap().remove(0).tensor;
    let weights: Vec<f64> = (0..out.elem_count()).map(|i| (i as f64 + 0.5).cos()).collect();
    let weights = Tensor::from_vec(weights, out.dims(), &Device::Cpu).unwrap();
    (out * weights).unwrap().sum_all().unwrap()
}

fn check(case: &Case) -> Result<(), String> {
    let graph = case.graph();
    let mut draws = Draws::new(vec![7, 11, 13]);
    let vars: Vec<Var> = case
        .shapes
        .iter()
        .map(|dims| {
            let values = draws.floats(dims.iter().product(), case.range.0, case.range.1);
            let tensor = Tensor::from_vec(values, *dims, &Device::Cpu).unwrap();
            Var::from_tensor(&tensor.to_dtype(DType::F64).unwrap()).unwrap()
        })
        .collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let gradients = objective(&graph, &tensors).backward().map_err(|e| e.to_string())?;
    for (i, var) in vars.iter().enumerate() {
        let gradient = gradients.get(var).ok_or(format!("input {i} got no gradient"))?;
        let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f64> = var.flatten_all().unwrap().to_vec1().unwrap();
        for (k, &found) in gradient.iter().enumerate() {
            let at = |step: f64| -> f64 {
                let mut moved = values.clone();
                moved[k] += step;
                let mut tensors = tensors.clone();
                tensors[i] = Tensor::from_vec(moved, var.dims(), &Device::Cpu).unwrap();
                objective(&graph, &tensors).to_scalar().unwrap()
            };
            let step = 1e-5;
            let expected = (at(step) - at(-step)) / (2.0 * step);
            if (found - expected).abs() > 1e-6 * (1.0 + expected.abs()) {
                return Err(format!("input {i}, element {k}: {found}, expected {expected}"));
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_match_central_differences() {
    const ONE: &[&[usize]] = &[&[3, 4]];
    const SAME: &[&[usize]] = &[&[2, 3], &[2, 3]];
    const CHANNELS: &[&[usize]] = &[&[2, 3, 4], &[3, 1]];
    const BOTH: &[&[usize]] = &[&[2, 1], &[1, 3]];
    let mut cases = Vec::new();
    for op in [
        "Relu",
        "LeakyRelu",
        "Elu",
        "Celu",
        "Selu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Exp",
        "Neg",
        "Abs",
        "Sin",
        "Cos",
        "Softplus",
        "Softsign",
        "Mish",
        "Erf",
        "ThresholdedRelu",
        "Clip",
        "Identity",
        "Gelu",
        "Swish",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
    ] {
        cases.push(case(op, ONE, (-2.0, 2.0)));
    }
    for op in ["Log", "Sqrt", "Reciprocal"] {
        cases.push(case(op, ONE, (0.3, 2.0)));
    }
    for op in ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean"] {
        cases.extend([SAME, CHANNELS, BOTH].map(|shapes| case(op, shapes, (0.3, 2.0))));
    }
    // Also of negative bases, as in a normalization that is written out.
    for exponent in [&[0_i64][..], &[1], &[2], &[3]] {
        cases.push(case("Pow", ONE, (-2.0, 2.0)).sizes(exponent));
    }
    cases.push(case("Mod", CHANNELS, (0.3, 2.0)).with("fmod", int(1)));
    cases.push(case("Gelu", ONE, (-2.0, 2.0)).with("approximate", common::text("tanh")));
    cases.push(case("PRelu", CHANNELS, (-2.0, 2.0)));
    cases.push(case("Softmax", ONE, (-2.0, 2.0)).with("axis", int(0)));
    cases.push(case("LogSoftmax", ONE, (-2.0, 2.0)).with("axis", int(1)));
    for op in [
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceProd",
        "ReduceLogSum",
        "ReduceLogSumExp",
    ] {
        cases.push(case(op, &[&[2, 3, 4]], (0.3, 2.0)).sizes(&[1]));
    }
    cases.push(case("Reshape", ONE, (-1.0, 1.0)).sizes(&[2, -1]));
    cases.push(case("Squeeze", &[&[3, 1, 2]], (-1.0, 1.0)).sizes(&[1]));
    cases.push(case("Unsqueeze", ONE, (-1.0, 1.0)).sizes(&[0]));
    cases.push(case("Flatten", &[&[2, 3, 2]], (-1.0, 1.0)));
    cases.push(case("Transpose", ONE, (-1.0, 1.0)).with("perm", ints(&[1, 0])));
    cases.push(case("Expand", &[&[3, 1]], (-1.0, 1.0)).sizes(&[2, 3, 4]));
    cases.push(case("Tile", ONE, (-1.0, 1.0)).sizes(&[2, 3]));
    cases.push(case("Pad", ONE, (-1.0, 1.0)).sizes(&[1, 0, 0, 2]));
    cases.push(
        case("Pad", ONE, (-1.0, 1.0)).sizes(&[1, 0, 0, 2]).with("mode", common::text("reflect")),
    );
    cases.push(case("Gather", ONE, (-1.0, 1.0)).sizes(&[2, 0, 2, -1]));
    cases.push(case("Concat", &[&[2, 3], &[1, 3]], (-1.0, 1.0)).with("axis", int(0)));
    cases.push(case("DepthToSpace", &[&[1, 8, 2, 2]], (-1.0, 1.0)).with("blocksize", int(2)));
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| check(case).err().map(|e| format!("{}: {e}", case.op)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `Resize` interpolates in single precision; it is linear, so that long steps are exact.
#[test]
fn the_gradient_of_resize_is_the_transposed_interpolation() {
    let mut model = Model::new(18);
    let x = model.input(ElementType::F32, &[1, 1, 3, 4]);
    let (none, scales) = (model.floats(&[0], &[]), model.floats(&[4], &[1.0, 1.0, 2.0, 1.5]));
    let out = model.node("Resize", &[x, none, scales], vec![("mode", common::text("cubic"))]);
    let graph = model.finish(&[out]);
    let run = |x: &Tensor| -> Tensor {
        let inputs = [(graph.inputs[0], Array::float(x.clone()))];
        Session::new(&graph).unwrap().run(&inputs).unwrap().remove(0).tensor
    };
    let x = Var::zeros((1, 1, 3, 4), DType::F32, &Device::Cpu).unwrap();
    let y = run(x.as_tensor());
    let weights: Vec<f32> = (0..y.elem_count()).map(|i| (i as f32).cos()).collect();
    let weights = Tensor::from_vec(weights, y.dims(), &Device::Cpu).unwrap();
    let gradients = (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let found: Vec<f32> = gradients.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    for (k, found) in found.into_iter().enumerate() {
        let mut unit = vec![0_f32; 12];
        unit[k] = 1.0;
        let column = run(&Tensor::from_vec(unit, (1, 1, 3, 4), &Device::Cpu).unwrap());
        let expected: f32 = (column * &weights).unwrap().sum_all().unwrap().to_scalar().unwrap();
        assert!((found - expected).abs() < 1e-5, "element {k}: {found}, expected {expected}");
    }
}
