//! Runs a graph: constants folded once, values freed after their last reader, taps on any value.

use super::fuse::{self, Fusion, Stage};
use super::{Array, Backend, SparseLayer, Training};
use crate::graph::Graph;
use crate::ops::{self, Inputs, NodeCx, Operator, Prepared};
use crate::{ElementType, Error, NodeId, Result, ValueId};
use candle_core::Tensor;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Sees, and may replace, what flows through a run.
///
/// Both methods default to doing nothing.
pub trait Tap {
    /// Called with each input value right before a node reads it; a returned array is read instead.
    ///
    /// # Errors
    /// Ends the run.
    fn before(&mut self, _node: NodeId, _input: usize, _value: &Array) -> Result<Option<Array>> {
        Ok(None)
    }

    /// Called with each value right after it was computed, graph inputs included.
    ///
    /// # Errors
    /// Ends the run.
    fn after(&mut self, _value: ValueId, _array: &Array) -> Result<()> {
        Ok(())
    }

    /// May [`before`](Self::before) replace a value, or [`after`](Self::after) keep it for a loss?
    /// What is not touched can be computed faster by [`Session::record`], which calls neither for
    /// it.
    fn touches(&self, _value: ValueId) -> bool {
        true
    }
}

/// The tap that looks at nothing.
struct NoTap;

impl Tap for NoTap {
    fn touches(&self, _value: ValueId) -> bool {
        false
    }
}

/// One node that is evaluated.
pub(super) struct Step {
    pub(super) node: NodeId,
    pub(super) operator: &'static dyn Operator,
    pub(super) prepared: Option<Prepared>,
}

/// A graph made ready to run: constants converted, constant nodes folded, weights prepared.
pub struct Session<'g> {
    pub(super) graph: Cow<'g, Graph>,
    pub(super) constants: BTreeMap<ValueId, Array>,
    pub(super) steps: Vec<Step>,
    /// One stage per step, for taps.
    separate: Vec<Stage>,
    /// The stages of a run that nobody looks into.
    fused: Vec<Stage>,
    /// The stages of a training step.
    pub(super) trained: Vec<Stage>,
    pub(super) backend: Backend,
    pub(super) sparse_layers: Vec<SparseLayer>,
}

impl<'g> Session<'g> {
    /// Prepares a graph for its outputs.
    ///
    /// # Errors
    /// `E0110` for an unknown operator; invalid constants.
    pub fn new(graph: &'g Graph) -> Result<Self> {
        Self::until(graph, &graph.outputs)
    }

    /// Prepares only what the given values need; runs end there.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn until(graph: &'g Graph, targets: &[ValueId]) -> Result<Self> {
        Self::between(graph, &[], targets)
    }

    /// Prepares what leads from given values to the targets: runs start from the former.
    ///
    /// Given values are inputs of the run, also those that the graph holds as initializers: this is
    /// how trainable weights are passed.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn between(graph: &'g Graph, from: &[ValueId], targets: &[ValueId]) -> Result<Self> {
        Self::make_ready(Cow::Borrowed(graph), from, targets)
    }

    /// Prepares what the given values need of a graph that the session keeps.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn owned(graph: Graph, targets: &[ValueId]) -> Result<Session<'static>> {
        Session::make_ready(Cow::Owned(graph), &[], targets)
    }

    fn make_ready(kept: Cow<'g, Graph>, from: &[ValueId], targets: &[ValueId]) -> Result<Self> {
        let graph = &*kept;
        let (needed, wanted) = needed_nodes(graph, from, targets);
        let mut constants = BTreeMap::new();
        for value in graph.initializers().iter().filter(|value| wanted[value.index()]) {
            if let Some(constant) = graph.initializer(*value)
                && !from.contains(value)
                && constant.element().storage().is_some()
            {
                constants.insert(*value, Array::from_constant(constant)?);
            }
        }
        let mut steps = Vec::new();
        for id in graph.node_ids().filter(|id| needed[id.index()]) {
            let operator = ops::for_node(graph, id)?;
            let cx = NodeCx::new(graph, id);
            let inputs = Inputs::new(
                cx.node.inputs.iter().map(|v| v.and_then(|v| constants.get(&v))).collect(),
            );
            if cx.node.inputs.iter().flatten().all(|value| constants.contains_key(value)) {
                let outputs = operator.eval(&cx, &inputs).map_err(|error| cx.locate(error))?;
                for (value, array) in cx.node.outputs.iter().zip(outputs) {
                    if let Some(value) = value {
                        constants.insert(*value, array);
                    }
                }
                continue;
            }
            let prepared = operator.prepare(&cx, &inputs).map_err(|error| cx.locate(error))?;
            steps.push(Step { node: id, operator, prepared });
        }
        let separate = fuse::separate(graph, &steps, targets);
        let fused = fuse::fused(graph, &steps, &constants, targets, |op| op.fusing().is_some());
        let trained = fuse::fused(graph, &steps, &constants, targets, |op| op.leads_in_training());
        let backend = Backend::cpu();
        let sparse_layers = Vec::new();
        Ok(Self { graph: kept, constants, steps, separate, fused, trained, backend, sparse_layers })
    }

    /// Computes there from now on; a new session computes on the CPU, by our own kernels.
    ///
    /// # Errors
    /// When the constants do not fit the device.
    pub fn on(mut self, backend: &Backend) -> Result<Self> {
        self.backend = backend.clone();
        for constant in self.constants.values_mut() {
            *constant = backend.inward(constant)?;
        }
        Ok(self)
    }

    /// Runs on named inputs and returns the graph outputs in order.
    ///
    /// # Errors
    /// When an input is missing or has the wrong shape, or a node fails.
    pub fn run(&self, inputs: &[(ValueId, Array)]) -> Result<Vec<Array>> {
        self.fetch(inputs, &self.graph.outputs)
    }

    /// Runs and returns values that the session was prepared for.
    ///
    /// Nothing else can be seen, so operators are fused where that saves memory traffic.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when the session was not prepared for a target.
    pub fn fetch(&self, inputs: &[(ValueId, Array)], targets: &[ValueId]) -> Result<Vec<Array>> {
        if self.backend.is_portable() {
            return self.visit(inputs, targets, &mut NoTap, None);
        }
        let mut live: BTreeMap<ValueId, Array> = inputs.iter().cloned().collect();
        for stage in &self.fused {
            let covered = match &stage.fusion {
                Some(fusion) => self.run_fused(stage, fusion, &mut live)?,
                None => false,
            };
            if !covered {
                for &step in &stage.steps {
                    self.step(step, &mut live, &mut NoTap, None)?;
                }
            }
            for value in &stage.free {
                live.remove(value);
            }
        }
        self.collect(&live, targets)
    }

    /// Runs on the model's only input.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when the model has several inputs.
    pub fn run_one(&self, input: candle_core::Tensor) -> Result<Vec<Array>> {
        match self.graph.inputs.as_slice() {
            [value] => self.run(&[(*value, Array::float(input))]),
            inputs => {
                Err(Error::invalid(format!("the model has {} inputs, not one", inputs.len())))
            }
        }
    }

    /// Runs and returns the given values, with a tap that sees every value.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_for(
        &self,
        inputs: &[(ValueId, Array)],
        targets: &[ValueId],
        tap: &mut dyn Tap,
    ) -> Result<Vec<Array>> {
        self.visit(inputs, targets, tap, None)
    }

    /// Runs as in training: batch normalization by the statistics of the batch, which are left in
    /// `training`, and dropout that drops.
    ///
    /// Gradients lead from the returned values to every variable among the inputs, and among what
    /// the tap puts in their place.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when a gradient would be lost in a node, such as a quantization.
    pub fn train(
        &self,
        inputs: &[(ValueId, Array)],
        targets: &[ValueId],
        tap: &mut dyn Tap,
        training: &mut Training,
    ) -> Result<Vec<Array>> {
        self.visit(inputs, targets, tap, Some(training))
    }

    fn visit(
        &self,
        inputs: &[(ValueId, Array)],
        targets: &[ValueId],
        tap: &mut dyn Tap,
        mut training: Option<&mut Training>,
    ) -> Result<Vec<Array>> {
        let mut live: BTreeMap<ValueId, Array> = BTreeMap::new();
        for (value, array) in inputs {
            self.show(*value, array, tap)?;
            live.insert(*value, self.backend.inward(array)?);
        }
        for stage in &self.separate {
            for &step in &stage.steps {
                self.step(step, &mut live, tap, training.as_deref_mut())?;
            }
            for value in &stage.free {
                live.remove(value);
            }
        }
        self.outputs(&live, targets)
    }

    /// Targets, on the CPU.
    fn outputs(&self, live: &BTreeMap<ValueId, Array>, targets: &[ValueId]) -> Result<Vec<Array>> {
        let arrays = self.collect(live, targets)?;
        arrays.iter().map(|array| self.backend.outward(array)).collect()
    }

    /// Shows a value to a tap; one that does not touch it is spared the way from another device.
    pub(super) fn show(&self, value: ValueId, array: &Array, tap: &mut dyn Tap) -> Result<()> {
        if self.backend.is_remote() && !tap.touches(value) {
            return Ok(());
        }
        tap.after(value, &self.backend.outward(array)?)
    }

    /// What a tap puts in place of the input of a node.
    pub(super) fn replacement(
        &self,
        (node, input, value): (NodeId, usize, ValueId),
        array: &Array,
        tap: &mut dyn Tap,
    ) -> Result<Option<Array>> {
        if self.backend.is_remote() && !tap.touches(value) {
            return Ok(None);
        }
        let new = tap.before(node, input, &self.backend.outward(array)?)?;
        new.map(|new| self.backend.inward(&new)).transpose()
    }

    /// Targets, which may be on another device.
    pub(super) fn collect(
        &self,
        live: &BTreeMap<ValueId, Array>,
        targets: &[ValueId],
    ) -> Result<Vec<Array>> {
        targets
            .iter()
            .map(|value| {
                live.get(value).or_else(|| self.constants.get(value)).cloned().ok_or_else(|| {
                    Error::invalid(format!("`{}` was not computed", self.graph.name(*value)))
                })
            })
            .collect()
    }

    /// Runs the steps of a stage as one; false when they do not fit at these shapes, or when
    /// gradients are wanted, which fused operators do not have.
    fn run_fused(
        &self,
        stage: &Stage,
        fusion: &Fusion,
        live: &mut BTreeMap<ValueId, Array>,
    ) -> Result<bool> {
        let (Some(&first), Some(&last)) = (stage.steps.first(), stage.steps.last()) else {
            return Ok(false);
        };
        let (first, last) = (&self.steps[first], &self.steps[last]);
        let (Some(operator), Some(output)) =
            (first.operator.fusing(), self.graph.node(last.node).output(0))
        else {
            return Ok(false);
        };
        let cx = self.context(first);
        let run = || {
            let inputs = self.inputs(&cx, live)?;
            let mut epilogue = fusion.epilogue.clone();
            if let Some(residual) = fusion.residual {
                epilogue.residual = Some(self.value(residual, live)?.tensor.clone());
            }
            let tensors = inputs.iter().flatten().map(|array| &array.tensor);
            if tensors.chain(&epilogue.residual).any(Tensor::track_op) {
                return Ok(None);
            }
            operator.eval_fused(&cx, &Inputs::new(inputs), epilogue)
        };
        let result = run().map_err(|error| cx.locate(error))?;
        Ok(result.map(|array| live.insert(output, array)).is_some())
    }

    #[cfg(test)]
    pub(super) fn stages(&self) -> &[Stage] {
        &self.fused
    }

    pub(super) fn context<'a>(&'a self, step: &'a Step) -> NodeCx<'a> {
        NodeCx { prepared: step.prepared.as_deref(), ..NodeCx::new(&self.graph, step.node) }
    }

    pub(super) fn value<'a>(
        &'a self,
        value: ValueId,
        live: &'a BTreeMap<ValueId, Array>,
    ) -> Result<&'a Array> {
        live.get(&value).or_else(|| self.constants.get(&value)).ok_or_else(|| {
            Error::invalid(format!("input `{}` was not given", self.graph.name(value)))
        })
    }

    pub(super) fn inputs<'a>(
        &'a self,
        cx: &NodeCx,
        live: &'a BTreeMap<ValueId, Array>,
    ) -> Result<Vec<Option<&'a Array>>> {
        let inputs = cx.node.inputs.iter();
        inputs.map(|value| value.map(|value| self.value(value, live)).transpose()).collect()
    }

    fn step(
        &self,
        step: usize,
        live: &mut BTreeMap<ValueId, Array>,
        tap: &mut dyn Tap,
        training: Option<&mut Training>,
    ) -> Result<()> {
        let step = &self.steps[step];
        let cx = self.context(step);
        self.eval(step, cx, live, tap, training).map_err(|error| cx.locate(error))
    }

    fn eval(
        &self,
        step: &Step,
        mut cx: NodeCx,
        live: &mut BTreeMap<ValueId, Array>,
        tap: &mut dyn Tap,
        training: Option<&mut Training>,
    ) -> Result<()> {
        let mut inputs = self.inputs(&cx, live)?;
        let mut replaced: Vec<Option<Array>> = vec![None; inputs.len()];
        for (i, array) in inputs.iter().enumerate() {
            if let Some(array) = array {
                let Some(value) = cx.node.input(i) else { continue };
                replaced[i] = self.replacement((step.node, i, value), array, tap)?;
            }
        }
        for (i, new) in replaced.iter().enumerate() {
            let Some(new) = new else { continue };
            inputs[i] = Some(new);
            // What was prepared from a constant does not hold for what takes its place.
            if cx.node.input(i).is_some_and(|value| self.constants.contains_key(&value)) {
                cx.prepared = None;
            }
        }
        let inputs = Inputs::new(inputs);
        let outputs = self.compute(step.operator, &cx, &inputs, training)?;
        check_gradient(step.operator, &inputs, &outputs)?;
        for (value, array) in cx.node.outputs.iter().zip(outputs) {
            if let Some(value) = value {
                self.show(*value, &array, tap)?;
                live.insert(*value, array);
            }
        }
        Ok(())
    }
}

impl Session<'_> {
    /// The outputs of a node where the session computes: by candle's own operations, or on the CPU
    /// where there are none.
    pub(super) fn compute(
        &self,
        operator: &dyn Operator,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        mut training: Option<&mut Training>,
    ) -> Result<Vec<Array>> {
        let run = |inputs: &Inputs<Array>, training: Option<&mut Training>| match training {
            Some(training) => operator.train(cx, inputs, training),
            None => operator.eval(cx, inputs),
        };
        if !self.backend.is_portable() {
            return run(inputs, training);
        }
        // Operators that choose or compare have inputs of other elements as well.
        if inputs.get(0).is_some_and(|array| array.element == ElementType::F32)
            && let Some(outputs) = operator.portable(cx, inputs, training.as_deref_mut())?
        {
            return Ok(outputs);
        }
        let near = inputs.iter().map(|array| array.map(|a| self.backend.outward(a)).transpose());
        let near: Vec<Option<Array>> = near.collect::<Result<_>>()?;
        let near = Inputs::new(near.iter().map(Option::as_ref).collect());
        let outputs = run(&near, training)?;
        outputs.iter().map(|array| self.backend.inward(array)).collect()
    }
}

/// Refuses to go on where a gradient would silently be lost.
pub(super) fn check_gradient(
    operator: &dyn Operator,
    inputs: &Inputs<Array>,
    outputs: &[Array],
) -> Result<()> {
    let tracked = |array: &Array| array.tensor.track_op();
    let lost = inputs.iter().flatten().any(tracked) && !outputs.iter().any(tracked);
    if !lost || operator.is_flat() || outputs.iter().all(|o| o.element == ElementType::Bool) {
        return Ok(());
    }
    Err(Error::unsupported("this operator passes no gradient on to its inputs")
        .hint("train the model without this node, or keep what leads to it constant"))
}

/// Marks the nodes and values that the targets depend on, going back no further than `from`.
fn needed_nodes(graph: &Graph, from: &[ValueId], targets: &[ValueId]) -> (Vec<bool>, Vec<bool>) {
    let mut wanted = vec![false; graph.value_count()];
    let mut given = vec![false; graph.value_count()];
    for value in from {
        given[value.index()] = true;
    }
    for target in targets {
        wanted[target.index()] = true;
    }
    let mut needed = vec![false; graph.nodes.len()];
    let is_needed =
        |value: &ValueId, wanted: &[bool]| wanted[value.index()] && !given[value.index()];
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().flatten().any(|value| is_needed(value, &wanted)) {
            needed[i] = true;
            for value in node.inputs.iter().flatten() {
                wanted[value.index()] = true;
            }
        }
    }
    (needed, wanted)
}
