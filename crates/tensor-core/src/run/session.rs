//! Runs a graph: constants folded once, values freed after their last reader, taps on any value.

use super::Array;
use crate::graph::Graph;
use crate::ops::{self, Inputs, NodeCx, Operator, Prepared};
use crate::{Error, NodeId, Result, ValueId};
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
}

/// The tap that looks at nothing.
struct NoTap;

impl Tap for NoTap {}

struct Step {
    node: NodeId,
    operator: &'static dyn Operator,
    prepared: Option<Prepared>,
    /// Values that no later step reads.
    free: Vec<ValueId>,
}

/// A graph made ready to run: constants converted, constant nodes folded, weights prepared.
pub struct Session<'g> {
    graph: &'g Graph,
    constants: BTreeMap<ValueId, Array>,
    steps: Vec<Step>,
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
    /// # Errors
    /// As [`new`](Self::new).
    pub fn between(graph: &'g Graph, from: &[ValueId], targets: &[ValueId]) -> Result<Self> {
        let (needed, wanted) = needed_nodes(graph, from, targets);
        let mut constants = BTreeMap::new();
        for value in graph.initializers().iter().filter(|value| wanted[value.index()]) {
            if let Some(constant) = graph.initializer(*value)
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
            steps.push(Step { node: id, operator, prepared, free: Vec::new() });
        }
        plan_frees(graph, targets, &mut steps);
        Ok(Self { graph, constants, steps })
    }

    /// Runs on named inputs and returns the graph outputs in order.
    ///
    /// # Errors
    /// When an input is missing or has the wrong shape, or a node fails.
    pub fn run(&self, inputs: &[(ValueId, Array)]) -> Result<Vec<Array>> {
        self.run_for(inputs, &self.graph.outputs, &mut NoTap)
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

    /// Runs and returns the given values, with a tap.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_for(
        &self,
        inputs: &[(ValueId, Array)],
        targets: &[ValueId],
        tap: &mut dyn Tap,
    ) -> Result<Vec<Array>> {
        let mut live: BTreeMap<ValueId, Array> = BTreeMap::new();
        for (value, array) in inputs {
            tap.after(*value, array)?;
            live.insert(*value, array.clone());
        }
        for step in &self.steps {
            let cx =
                NodeCx { prepared: step.prepared.as_deref(), ..NodeCx::new(self.graph, step.node) };
            self.step(step, &cx, &mut live, tap).map_err(|error| cx.locate(error))?;
            for value in &step.free {
                live.remove(value);
            }
        }
        targets
            .iter()
            .map(|value| {
                live.get(value).or_else(|| self.constants.get(value)).cloned().ok_or_else(|| {
                    Error::invalid(format!("`{}` was not computed", self.graph.name(*value)))
                })
            })
            .collect()
    }

    fn step(
        &self,
        step: &Step,
        cx: &NodeCx,
        live: &mut BTreeMap<ValueId, Array>,
        tap: &mut dyn Tap,
    ) -> Result<()> {
        let mut replaced: Vec<Option<Array>> = vec![None; cx.node.inputs.len()];
        let mut read: Vec<Option<&Array>> = Vec::with_capacity(cx.node.inputs.len());
        for value in &cx.node.inputs {
            read.push(match value {
                None => None,
                Some(value) => Some(
                    live.get(value).or_else(|| self.constants.get(value)).ok_or_else(|| {
                        Error::invalid(format!("input `{}` was not given", self.graph.name(*value)))
                    })?,
                ),
            });
        }
        for (i, array) in read.iter().enumerate() {
            if let Some(array) = array {
                replaced[i] = tap.before(step.node, i, array)?;
            }
        }
        let inputs = read.iter().zip(&replaced).map(|(old, new)| new.as_ref().or(*old)).collect();
        let outputs = step.operator.eval(cx, &Inputs::new(inputs))?;
        for (value, array) in cx.node.outputs.iter().zip(outputs) {
            if let Some(value) = value {
                tap.after(*value, &array)?;
                live.insert(*value, array);
            }
        }
        Ok(())
    }
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

/// Notes for each step which values it is the last to touch.
fn plan_frees(graph: &Graph, targets: &[ValueId], steps: &mut [Step]) {
    let mut seen = vec![false; graph.value_count()];
    for target in targets {
        seen[target.index()] = true;
    }
    for step in steps.iter_mut().rev() {
        let node = graph.node(step.node);
        for value in node.inputs.iter().chain(&node.outputs).flatten() {
            if !std::mem::replace(&mut seen[value.index()], true) {
                step.free.push(*value);
            }
        }
    }
}
