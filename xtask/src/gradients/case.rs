//! One node, its inputs, and what libtorch computes for them.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use tch::{Kind, Tensor};
use tensor_core::random::{below, stream};

/// Seed of all inputs.
const SEED: u64 = 1;

/// What an input holds.
pub(super) enum Input {
    /// Random numbers of three decimals in a range; their gradient is stored.
    Variable { dims: Vec<i64>, range: (f64, f64) },
    /// Floats without a gradient.
    Floats { dims: Vec<i64>, values: Vec<f32> },
    /// Integers along one axis: sizes, axes or indices.
    Integers(Vec<i64>),
    /// Truth values, as 0 and 1.
    Booleans { dims: Vec<i64>, values: Vec<i64> },
    /// An optional input that is not there.
    Absent,
}

/// Numbers in `-2..2`.
pub(super) fn any(dims: &[i64]) -> Input {
    within(dims, (-2.0, 2.0))
}

/// Numbers in `0.5..2.5`, where nothing has a pole.
pub(super) fn positive(dims: &[i64]) -> Input {
    within(dims, (0.5, 2.5))
}

/// Numbers in a range.
pub(super) fn within(dims: &[i64], range: (f64, f64)) -> Input {
    Input::Variable { dims: dims.to_vec(), range }
}

/// Integers along one axis.
pub(super) fn integers(values: &[i64]) -> Input {
    Input::Integers(values.to_vec())
}

/// Floats along one axis, or a scalar when `dims` is empty.
pub(super) fn floats(dims: &[i64], values: &[f32]) -> Input {
    Input::Floats { dims: dims.to_vec(), values: values.to_vec() }
}

/// The results of one node.
pub(super) struct Results {
    pub(super) outputs: Vec<Tensor>,
    /// Running statistics after the step.
    pub(super) statistics: Vec<Tensor>,
}

impl From<Tensor> for Results {
    fn from(output: Tensor) -> Self {
        Self { outputs: vec![output], statistics: Vec::new() }
    }
}

impl From<Vec<Tensor>> for Results {
    fn from(outputs: Vec<Tensor>) -> Self {
        Self { outputs, statistics: Vec::new() }
    }
}

/// From the variables of a node to its results.
type Compute = dyn Fn(&[Tensor]) -> Results;

/// A node and how libtorch computes it from its variables.
pub(super) struct Case {
    name: String,
    op: &'static str,
    attributes: Value,
    inputs: Vec<Input>,
    compute: Box<Compute>,
}

impl Case {
    /// `about` tells the case from others of the operator; `attributes` are an object, whose
    /// integers, floats, lists and texts become attributes of the node.
    pub(super) fn new<R: Into<Results>>(
        op: &'static str,
        about: &str,
        attributes: Value,
        inputs: Vec<Input>,
        compute: impl Fn(&[Tensor]) -> R + 'static,
    ) -> Self {
        let name = if about.is_empty() { op.to_owned() } else { format!("{op}: {about}") };
        let compute = Box::new(move |variables: &[Tensor]| compute(variables).into());
        Self { name, op, attributes, inputs, compute }
    }

    /// Outputs and gradients.
    pub(super) fn computed(&self) -> Result<Computed<'_>> {
        let mut random = stream(SEED, &format!("gradients/{}", self.name));
        let mut inputs = Vec::new();
        let mut variables = Vec::new();
        for input in &self.inputs {
            inputs.push(match input {
                Input::Variable { dims, range } => {
                    let count = dims.iter().product::<i64>();
                    let steps = ((range.1 - range.0) * 1000.0) as u64;
                    let draw = |_| {
                        let value = range.0 + below(&mut random, steps) as f64 / 1000.0;
                        ((value * 1000.0).round() / 1000.0) as f32
                    };
                    let values: Vec<f32> = (0..count).map(draw).collect();
                    let tensor = Tensor::from_slice(&values).to_kind(Kind::Double);
                    variables.push(tensor.reshape(dims).set_requires_grad(true));
                    Stored::Variable { dims: dims.clone(), values }
                }
                Input::Floats { dims, values } => {
                    Stored::Floats { dims: dims.clone(), floats: values.clone() }
                }
                Input::Integers(values) => Stored::Integers { integers: values.clone() },
                Input::Booleans { dims, values } => {
                    Stored::Booleans { dims: dims.clone(), booleans: values.clone() }
                }
                Input::Absent => Stored::Absent {},
            });
        }
        let results = (self.compute)(&variables);
        let loss = results.outputs.iter().map(weighted).reduce(|sum, term| sum + term);
        let loss = loss.with_context(|| format!("{} has no output", self.name))?;
        let gradients = Tensor::f_run_backward(&[loss], &variables, false, false)
            .with_context(|| format!("gradients of {}", self.name))?;
        let stored = |tensors: &[Tensor]| tensors.iter().map(Array::of).collect::<Result<_>>();
        Ok(Computed {
            name: &self.name,
            op: self.op,
            attributes: &self.attributes,
            inputs,
            outputs: stored(&results.outputs)?,
            statistics: stored(&results.statistics)?,
            gradients: stored(&gradients)?,
        })
    }
}

/// The sum of an output's elements, each times a weight: `(7 i mod 17 - 8) / 8` for element `i`.
fn weighted(output: &Tensor) -> Tensor {
    let count = output.numel() as i64;
    let weights: Vec<f64> = (0..count).map(|i| ((7 * i % 17) - 8) as f64 / 8.0).collect();
    (output.reshape(-1) * Tensor::from_slice(&weights)).sum(Kind::Double)
}

/// A case as it is stored.
#[derive(Serialize)]
pub(super) struct Computed<'a> {
    name: &'a str,
    op: &'a str,
    attributes: &'a Value,
    inputs: Vec<Stored>,
    outputs: Vec<Array>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statistics: Vec<Array>,
    /// Of the variables, in their order.
    gradients: Vec<Array>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Stored {
    Variable { dims: Vec<i64>, values: Vec<f32> },
    Floats { dims: Vec<i64>, floats: Vec<f32> },
    Integers { integers: Vec<i64> },
    Booleans { dims: Vec<i64>, booleans: Vec<i64> },
    Absent {},
}

#[derive(Serialize)]
struct Array {
    dims: Vec<i64>,
    values: Vec<f32>,
}

impl Array {
    fn of(tensor: &Tensor) -> Result<Self> {
        let values = Vec::<f32>::try_from(tensor.detach().to_kind(Kind::Float).reshape(-1))?;
        Ok(Self { dims: tensor.size(), values })
    }
}
