//! Gradient steps on any loss of a graph's values: what is left of training without data sets, labels
//! and plug-ins.

use super::optimizer::{Optimization, Target, clip_factor, global_norm};
use super::{Optimizer, Parameters, Role};
use crate::graph::Graph;
use crate::run::{Array, Session, Tap, Training};
use crate::{Error, Result, ValueId, random};
use candle_core::Tensor;
use std::collections::BTreeSet;

/// Largest norm of a gradient; longer ones are shortened to it.
const CLIP_NORM: f64 = 1.0;

/// A graph whose parameters follow the gradients of losses, by Adam.
///
/// Normalizations keep their running statistics, and dropout does nothing.
pub struct Fitter<'g> {
    graph: &'g Graph,
    parameters: Parameters,
    session: Session<'g>,
    targets: Vec<ValueId>,
    optimization: Optimization,
}

impl<'g> Fitter<'g> {
    /// Makes a [prepared](super::prepare) graph ready for losses of these values.
    ///
    /// # Errors
    /// `E0402` when the graph has no parameter; as [`Session::between`].
    pub fn new(graph: &'g Graph, targets: &[ValueId]) -> Result<Self> {
        let parameters = Parameters::of(graph)?;
        let given: Vec<ValueId> =
            graph.inputs.iter().copied().chain(parameters.iter().map(|p| p.value)).collect();
        let session = Session::between(graph, &given, targets)?;
        let variables = parameters.iter().map(|parameter| Target {
            name: parameter.name.clone(),
            var: parameter.var.clone(),
            rate: 1.0,
            decays: parameter.role == Role::Weight,
        });
        let optimization = Optimization::new(Optimizer::adam_w(), 0.0, variables.collect());
        Ok(Self { graph, parameters, session, targets: targets.to_vec(), optimization })
    }

    /// The target values for these inputs, in the order of the graph's.
    ///
    /// # Errors
    /// When a node fails.
    pub fn values(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        self.session.fetch(&self.given(inputs), &self.targets)
    }

    /// One step, `step` steps after the first, at a learning rate. `loss` makes a scalar of the target
    /// values, which is returned.
    ///
    /// # Errors
    /// When a node fails, and when the loss or its gradient is not finite.
    pub fn step(
        &mut self,
        step: u64,
        rate: f64,
        inputs: &[Array],
        loss: impl FnOnce(&[Array]) -> Result<Tensor>,
    ) -> Result<f64> {
        let mut training = Training::new(random::stream(0, "fitter"));
        self.graph.node_ids().for_each(|node| training.freeze(node));
        let wanted: BTreeSet<ValueId> = self.parameters.iter().map(|p| p.value).collect();
        let given = self.given(inputs);
        let recording =
            self.session.record(&given, &wanted, &self.targets, &mut NoTap, &mut training)?;
        let loss = loss(recording.outputs())?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        let mut by = recording.gradients(&loss)?;
        let gradients = self
            .parameters
            .iter()
            .map(|parameter| match by.take(parameter.value)? {
                Some(gradient) => Ok(Some(gradient.flatten_all()?.to_vec1::<f32>()?)),
                None => Ok(None),
            })
            .collect::<Result<Vec<_>>>()?;
        let norm = global_norm(&gradients);
        if !(value.is_finite() && norm.is_finite()) {
            return Err(Error::invalid(format!("the loss of step {step} is not finite"))
                .code_is("E0401")
                .hint("take a smaller learning rate"));
        }
        self.optimization.step(step, rate, gradients, clip_factor(norm, CLIP_NORM))?;
        Ok(value)
    }

    /// The graph with the weights of now.
    ///
    /// # Errors
    /// When a weight cannot be stored.
    pub fn written(&self) -> Result<Graph> {
        let tensors: Vec<Tensor> =
            self.parameters.iter().map(|p| p.var.as_detached_tensor()).collect();
        self.parameters.written(self.graph, &tensors)
    }

    fn given(&self, inputs: &[Array]) -> Vec<(ValueId, Array)> {
        let data = self.graph.inputs.iter().copied().zip(inputs.iter().cloned());
        let weights = self.parameters.iter().map(|parameter| {
            (parameter.value, parameter.array(parameter.var.as_detached_tensor()))
        });
        data.chain(weights).collect()
    }
}

/// The targets are all that is looked at.
struct NoTap;

impl Tap for NoTap {
    fn touches(&self, _value: ValueId) -> bool {
        false
    }
}
