//! One operator in a model, run by us and by ONNX Runtime.

use super::common::{Attributes, Draws, Model, ints};
use proptest::prelude::*;
use tensor_core::graph::Graph;
use tensor_core::measure::{Choice, engine};
use tensor_core::run::{Array, Session};
use tensor_core::{Constant, ValueId};

/// A graph of one operator with its inputs.
pub(crate) struct Case {
    model: Model,
    /// Values of the graph inputs; the other inputs are initializers.
    data: Vec<Constant>,
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// Largest difference relative to 1 + the expected magnitude.
    tolerance: f64,
}

impl Case {
    pub(crate) fn new(opset: i64) -> Self {
        Self { model: Model::new(opset), data: Vec::new(), inputs: Vec::new(), tolerance: 2e-6 }
    }

    pub(crate) fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// A graph input.
    pub(crate) fn data(&mut self, constant: Constant) {
        let value = self.model.input(constant.element(), constant.dims());
        self.inputs.push(Some(value));
        self.data.push(constant);
    }

    pub(crate) fn floats(&mut self, draws: &mut Draws, dims: &[usize], low: f32, high: f32) {
        let values = draws.floats(dims.iter().product(), low, high);
        self.data(Constant::from_f32s(dims, &values).unwrap());
    }

    pub(crate) fn integers(&mut self, draws: &mut Draws, dims: &[usize], low: i64, high: i64) {
        let values = draws.integers(dims.iter().product(), low, high);
        self.data(Constant::from_i64s(dims, &values).unwrap());
    }

    /// An initializer.
    pub(crate) fn constant(&mut self, constant: Constant) {
        let value = self.model.constant(constant);
        self.inputs.push(Some(value));
    }

    pub(crate) fn sizes(&mut self, values: &[i64]) {
        self.constant(Constant::from_i64s(&[values.len()], values).unwrap());
    }

    pub(crate) fn absent(&mut self) {
        self.inputs.push(None);
    }

    /// Axes as an attribute before the given opset, as an input from it on.
    pub(crate) fn axes(
        &mut self,
        opset: i64,
        since: i64,
        axes: &[i64],
        attributes: &mut Attributes,
    ) {
        if opset >= since {
            self.sizes(axes);
        } else {
            attributes.push(("axes", ints(axes)));
        }
    }

    pub(crate) fn check(self, op: &str, attributes: Attributes) -> Result<(), TestCaseError> {
        self.check_outputs(op, attributes, 1)
    }

    /// Runs both engines and compares all outputs.
    pub(crate) fn check_outputs(
        self,
        op: &str,
        attributes: Attributes,
        outputs: usize,
    ) -> Result<(), TestCaseError> {
        let Self { mut model, data, inputs, tolerance } = self;
        let shown = format!("{op} {attributes:?}");
        let made = model.nodes(op, &inputs, outputs, attributes);
        let graph = model.finish(&made);
        let arrays: Vec<(ValueId, Array)> = graph
            .inputs
            .iter()
            .zip(&data)
            .map(|(&value, constant)| (value, Array::from_constant(constant).unwrap()))
            .collect();
        let ours = Session::new(&graph)
            .and_then(|session| session.run(&arrays))
            .map_err(|e| TestCaseError::fail(format!("{shown}: {e}")))?;
        let theirs = reference(&graph, &arrays)
            .map_err(|e| TestCaseError::fail(format!("{shown}: reference: {e}")))?;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let theirs = theirs.to_dtype(ours.tensor.dtype()).unwrap();
            prop_assert_eq!(ours.dims(), theirs.dims(), "{}", shown);
            let wide = |tensor: &candle_core::Tensor| -> Vec<f64> {
                let tensor = tensor.to_dtype(candle_core::DType::F64).unwrap();
                tensor.flatten_all().unwrap().to_vec1().unwrap()
            };
            for (a, b) in wide(&ours.tensor).into_iter().zip(wide(&theirs)) {
                let same = a == b || (a.is_nan() && b.is_nan());
                let allowed =
                    if ours.element.is_float() { tolerance * (1.0 + b.abs()) } else { 0.0 };
                prop_assert!(same || (a - b).abs() <= allowed, "{}: {} and {}", shown, a, b);
            }
        }
        Ok(())
    }
}

fn reference(
    graph: &Graph,
    inputs: &[(ValueId, Array)],
) -> tensor_core::Result<Vec<candle_core::Tensor>> {
    let bytes = tensor_core::onnx::encode(graph)?;
    let mut runner = engine(Choice::OnnxRuntime)?.engine.load(&bytes, 1)?;
    let named: Vec<_> = inputs
        .iter()
        .map(|(value, array)| (graph.name(*value).to_owned(), array.tensor.clone()))
        .collect();
    Ok(runner.run(&named)?.into_iter().map(|(_, tensor)| tensor).collect())
}
