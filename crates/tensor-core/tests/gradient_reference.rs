//! Outputs and gradients of operators against values of PyTorch (`fixtures/train/gradients.json`).
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{Device, Tensor, Var};
use common::{Model, typed};
use serde_json::Value;
use std::collections::BTreeSet;
use tensor_core::graph::{Attribute, Graph};
use tensor_core::random::stream;
use tensor_core::run::{Array, Backend, Session, Tap, Training};
use tensor_core::{ElementType, ValueId, ops};

/// Largest error, relative to the largest of the expected values: some roundings of sums of
/// products in single precision. The reference is of double precision.
const TOLERANCE: f32 = 2e-6;

/// Looks at nothing, so that steps are recorded as in training.
struct NoTap;

impl Tap for NoTap {
    fn touches(&self, _value: ValueId) -> bool {
        false
    }
}

/// A node with its inputs, and what PyTorch computes.
struct Case {
    name: String,
    graph: Graph,
    variables: Vec<Tensor>,
    expected: Results,
}

/// In the order of the fixture.
#[derive(Default)]
struct Results {
    outputs: Vec<Tensor>,
    /// Running statistics.
    statistics: Vec<Tensor>,
    /// Absent ones are zeros.
    gradients: Vec<Option<Tensor>>,
}

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/train/gradients.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn tensor(value: &Value) -> Tensor {
    let dims: Vec<usize> = numbers(&value["dims"]);
    let values: Vec<f32> = numbers(&value["values"]);
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn tensors(value: &Value) -> Vec<Tensor> {
    value.as_array().into_iter().flatten().map(tensor).collect()
}

fn attribute(value: &Value) -> Attribute {
    match value {
        Value::String(text) => Attribute::Bytes(text.as_bytes().to_vec()),
        Value::Array(_) => Attribute::Ints(numbers(value)),
        Value::Number(number) if number.is_i64() => Attribute::Int(number.as_i64().unwrap()),
        _ => Attribute::Float(value.as_f64().unwrap() as f32),
    }
}

impl Case {
    fn read(case: &Value) -> Self {
        let mut model = Model::new(21);
        let mut variables = Vec::new();
        let mut inputs = Vec::new();
        for input in case["inputs"].as_array().unwrap() {
            let dims: Option<Vec<usize>> = numbers(&input["dims"]);
            inputs.push(if input.get("values").is_some() {
                variables.push(tensor(input));
                Some(model.input(ElementType::F32, &dims.unwrap()))
            } else if let Some(values) = input.get("floats") {
                Some(model.floats(&dims.unwrap(), &numbers::<Vec<f32>>(values)))
            } else if let Some(values) = input.get("integers") {
                Some(model.ints(&numbers::<Vec<i64>>(values)))
            } else if let Some(values) = input.get("booleans") {
                let values: Vec<i64> = numbers(values);
                Some(model.constant(typed(ElementType::Bool, &dims.unwrap(), &values)))
            } else {
                None
            });
        }
        let outputs = tensors(&case["outputs"]);
        let op = case["op"].as_str().unwrap();
        let made = model.nodes(op, &inputs, outputs.len(), Vec::new());
        let node = model.graph.nodes.last_mut().unwrap();
        for (name, value) in case["attributes"].as_object().unwrap() {
            node.attributes.set(name, attribute(value));
        }
        let gradients = tensors(&case["gradients"]).into_iter().map(Some).collect();
        let statistics = tensors(&case["statistics"]);
        Self {
            name: case["name"].as_str().unwrap().to_owned(),
            graph: model.finish(&made),
            variables,
            expected: Results { outputs, statistics, gradients },
        }
    }

    fn given(&self, tensors: impl Iterator<Item = Tensor>) -> Vec<(ValueId, Array)> {
        self.graph.inputs.iter().copied().zip(tensors.map(Array::float)).collect()
    }

    /// By candle's autograd.
    fn trained(&self, backend: &Backend) -> tensor_core::Result<Results> {
        let vars: Vec<Var> = self.variables.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let given = self.given(vars.iter().map(|var| var.as_tensor().clone()));
        let mut training = Training::new(stream(1, "dropout"));
        let targets = &self.graph.outputs;
        let session = Session::new(&self.graph)?.on(backend)?;
        let outputs = session.train(&given, targets, &mut NoTap, &mut training)?;
        let mut results = self.results(&outputs, &training)?;
        let gradients = loss(&outputs).backward()?;
        results.gradients = vars.iter().map(|var| gradients.get(var).cloned()).collect();
        Ok(results)
    }

    /// By the operator's own rule where it has one.
    fn recorded(&self, backend: &Backend) -> tensor_core::Result<Results> {
        let given = self.given(self.variables.iter().cloned());
        let wanted: BTreeSet<ValueId> = self.graph.inputs.iter().copied().collect();
        let mut training = Training::new(stream(1, "dropout"));
        let targets = &self.graph.outputs;
        let session = Session::new(&self.graph)?.on(backend)?;
        let recording = session.record(&given, &wanted, targets, &mut NoTap, &mut training)?;
        let mut results = self.results(recording.outputs(), &training)?;
        let loss = loss(recording.outputs());
        let mut gradients = recording.gradients(&loss)?;
        results.gradients =
            self.graph.inputs.iter().map(|&v| gradients.take(v)).collect::<Result<_, _>>()?;
        Ok(results)
    }

    /// Outputs and running statistics.
    fn results(&self, outputs: &[Array], training: &Training) -> tensor_core::Result<Results> {
        let outputs = outputs.iter().map(|array| array.tensor.detach()).collect();
        let mut results = Results { outputs, ..Results::default() };
        if let Some(batch) = training.statistics().values().next() {
            let node = &self.graph.nodes[0];
            let old = [3, 4].map(|i| {
                let constant = self.graph.initializer(node.input(i).unwrap()).unwrap();
                Array::from_constant(constant).unwrap().tensor
            });
            let momentum = f64::from(node.attributes.float("momentum", 0.9)?);
            let (mean, variance) = batch.running(&old[0], &old[1], momentum)?;
            results.statistics = vec![mean, variance];
        }
        Ok(results)
    }

    /// What differs from the reference.
    fn differences(&self, found: &Results) -> Vec<String> {
        let expected = &self.expected;
        let mut wrong = Vec::new();
        let mut check = |what: &str, i: usize, found: Option<&Tensor>, expected: &Tensor| {
            if let Err(message) = compare(found, expected) {
                wrong.push(format!("{}: {what} {i}: {message}", self.name));
            }
        };
        for (i, expected) in expected.outputs.iter().enumerate() {
            check("output", i, found.outputs.get(i), expected);
        }
        for (i, expected) in expected.statistics.iter().enumerate() {
            check("statistics", i, found.statistics.get(i), expected);
        }
        for (i, expected) in expected.gradients.iter().flatten().enumerate() {
            let zeros = expected.zeros_like().unwrap();
            check("gradient", i, Some(found.gradients[i].as_ref().unwrap_or(&zeros)), expected);
        }
        wrong
    }
}

/// The sum of all elements of all outputs with the weights of the fixture.
fn loss(outputs: &[Array]) -> Tensor {
    let weighted = outputs.iter().map(|array| {
        let weights = (0..array.tensor.elem_count()).map(|i| (7 * i % 17) as f32 / 8.0 - 1.0);
        let weights: Vec<f32> = weights.collect();
        let weights = Tensor::from_vec(weights, array.dims(), &Device::Cpu).unwrap();
        (&array.tensor * weights).unwrap().sum_all().unwrap()
    });
    weighted.reduce(|sum, term| (sum + term).unwrap()).unwrap()
}

fn compare(found: Option<&Tensor>, expected: &Tensor) -> Result<(), String> {
    let found = found.ok_or("missing")?;
    if found.dims() != expected.dims() {
        return Err(format!("shape {:?} instead of {:?}", found.dims(), expected.dims()));
    }
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (found, expected) = (flat(found), flat(expected));
    let scale = expected.iter().fold(0_f32, |most, x| most.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs();
        if error.is_nan() || error > TOLERANCE * scale {
            return Err(format!("element {i} is {found}, not {expected} (largest {scale})"));
        }
    }
    Ok(())
}

fn check(run: impl Fn(&Case) -> tensor_core::Result<Results>) {
    let fixture = fixture();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() > 200, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases.iter().map(Case::read) {
        match run(&case) {
            Ok(found) => wrong.extend(case.differences(&found)),
            Err(error) => wrong.push(format!("{}: {error}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn custom_operations_agree_with_pytorch() {
    check(|case| case.trained(&Backend::cpu()));
}

#[test]
fn recorded_steps_agree_with_pytorch() {
    check(|case| case.recorded(&Backend::cpu()));
}

/// What runs on other devices.
#[test]
fn operations_of_candle_agree_with_pytorch() {
    check(|case| case.trained(&Backend::candle(Device::Cpu)));
    check(|case| case.recorded(&Backend::candle(Device::Cpu)));
}

/// Every operator that passes gradients is in the fixture.
#[test]
fn the_reference_is_complete() {
    let fixture = fixture();
    let covered: BTreeSet<&str> =
        fixture["cases"].as_array().unwrap().iter().map(|c| c["op"].as_str().unwrap()).collect();
    let elsewhere = [
        // Copies.
        "Cast",
        "CastLike",
        // From integers or to booleans.
        "And",
        "Constant",
        "ConstantOfShape",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "Not",
        "Or",
        "Range",
        "Xor",
        // Refused in training.
        "DequantizeLinear",
        "QuantizeLinear",
        // Random.
        "Dropout",
        // The old form of Resize.
        "Upsample",
        // No gradient by definition.
        "Hardmax",
    ];
    let missing: Vec<&str> = ops::names()
        .into_iter()
        .filter(|name| !covered.contains(name) && !elsewhere.contains(name))
        .filter(|name| !ops::lookup("", name).unwrap().is_flat())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
