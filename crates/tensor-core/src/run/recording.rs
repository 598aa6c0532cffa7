//! Training steps whose gradients mostly bypass candle's autograd.
//!
//! candle begins every gradient with zeros and adds to it, which costs two more passes over memory
//! per value. Here a node whose operator can
//! [`differentiate`](crate::ops::Operator::differentiate) notes its own way back, and gradients are
//! moved. Any other node, and whatever a tap puts in place of a value, is a small graph of
//! candle's between variables that stand for its inputs, and its outputs. What a tap puts there is a
//! value of its own from then on, so the nodes that read it note their own way back as well.

use super::fuse::Stage;
use super::session::{Session, Step, check_gradient};
use super::{Array, Tap, Training};
use crate::kernels::add;
use crate::ops::{Differentiated, Following, Inputs, NodeCx, Pullback};
use crate::{NodeId, Result, ValueId};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor, TensorId, Var};
use std::collections::{BTreeMap, BTreeSet};

impl Session<'_> {
    /// Runs as [`train`](Self::train) does, and keeps what leads gradients back to the `wanted`
    /// inputs and to the variables of the tap.
    ///
    /// The arrays should have no graph behind them: gradients end at the inputs.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn record(
        &self,
        inputs: &[(ValueId, Array)],
        wanted: &BTreeSet<ValueId>,
        targets: &[ValueId],
        tap: &mut dyn Tap,
        training: &mut Training,
    ) -> Result<Recording> {
        let mut recorder = Recorder {
            session: self,
            live: BTreeMap::new(),
            tracked: wanted.clone(),
            leaves: BTreeMap::new(),
            entries: Vec::new(),
            views: Vec::new(),
            read: BTreeMap::new(),
        };
        for (value, array) in inputs {
            recorder.put(*value, self.backend.inward(array)?, tap)?;
        }
        for stage in &self.trained {
            if !recorder.fused(stage, tap, training)? {
                for &step in &stage.steps {
                    let step = &self.steps[step];
                    recorder
                        .single(step, tap, training)
                        .map_err(|error| self.context(step).locate(error))?;
                }
            }
            for value in &stage.free {
                recorder.live.remove(value);
            }
        }
        let mut outputs = self.collect(&recorder.live, targets)?;
        for (array, &value) in outputs.iter_mut().zip(targets) {
            if recorder.tracked.contains(&value) {
                array.tensor = recorder.leaf(value, &array.tensor)?;
            }
            *array = self.backend.outward(array)?;
        }
        Ok(Recording { outputs, leaves: recorder.leaves, entries: recorder.entries })
    }
}

/// A step of a session that gradients can follow back.
pub struct Recording {
    outputs: Vec<Array>,
    leaves: BTreeMap<ValueId, Var>,
    entries: Vec<Entry>,
}

impl Recording {
    /// The targets, as variables: a loss of them leads to [`gradients`](Self::gradients).
    pub fn outputs(&self) -> &[Array] {
        &self.outputs
    }

    /// The gradients of a scalar that was computed from the outputs, and from what the tap saw.
    ///
    /// # Errors
    /// When a gradient cannot be computed.
    pub fn gradients(self, loss: &Tensor) -> Result<Gradients> {
        let mut gradients = Gradients { values: BTreeMap::new(), store: loss.backward()? };
        for (&value, leaf) in &self.leaves {
            if let Some(gradient) = gradients.store.remove(leaf) {
                gradients.add(value, gradient)?;
            }
        }
        for entry in self.entries.into_iter().rev() {
            match entry {
                Entry::Own { output, inputs, pullback } => {
                    let Some(dy) = gradients.values.remove(&output) else { continue };
                    for (input, gradient) in inputs.into_iter().zip(pullback(&dy)?) {
                        if let (Some(input), Some(gradient)) = (input, gradient) {
                            gradients.add(input, gradient)?;
                        }
                    }
                }
                Entry::Candle { outputs } => {
                    for (value, tensor) in outputs {
                        let Some(dy) = gradients.values.remove(&value) else { continue };
                        let mut store = backward_from(&tensor, dy)?;
                        for (&value, leaf) in &self.leaves {
                            if let Some(gradient) = store.remove(leaf) {
                                gradients.add(value, gradient)?;
                            }
                        }
                        gradients.store.extend(store)?;
                    }
                }
            }
        }
        Ok(gradients)
    }
}

/// The gradients of one step.
pub struct Gradients {
    values: BTreeMap<ValueId, Tensor>,
    store: GradStore,
}

impl Gradients {
    /// Takes out the gradient of an input of the recorded run.
    ///
    /// # Errors
    /// When it cannot be fetched from the device that computed it.
    pub fn take(&mut self, value: ValueId) -> Result<Option<Tensor>> {
        let gradient = self.values.remove(&value);
        Ok(gradient.map(|gradient| gradient.to_device(&Device::Cpu)).transpose()?)
    }

    /// The gradient of a variable, by a loss or a tap.
    pub fn of(&self, var: &Tensor) -> Option<&Tensor> {
        self.store.get(var)
    }

    /// Leads the gradient of an input further back, through the graph behind the tensor that the
    /// input was a copy of.
    ///
    /// # Errors
    /// When candle cannot compute a gradient.
    pub fn follow(&mut self, tensor: &Tensor, gradient: Tensor) -> Result<()> {
        if tensor.is_variable() {
            let sum = match self.store.remove(tensor) {
                Some(known) => (known + gradient)?,
                None => gradient,
            };
            self.store.insert(tensor, sum);
        } else if tensor.track_op() {
            self.store.extend(backward_from(tensor, gradient)?)?;
        }
        Ok(())
    }

    fn add(&mut self, value: ValueId, gradient: Tensor) -> Result<()> {
        // candle's gradients can have a graph of their own, which must not lead back again.
        let gradient = gradient.detach();
        let sum = match self.values.remove(&value) {
            Some(known) => add(&known, &gradient)?,
            None => gradient,
        };
        self.values.insert(value, sum);
        Ok(())
    }
}

/// The gradients behind a tensor whose own gradient is known.
fn backward_from(tensor: &Tensor, gradient: Tensor) -> Result<GradStore> {
    // candle begins with scalars only.
    let scalar = match tensor.device().is_cpu() {
        true => tensor.apply_op1(Begin(gradient))?,
        false => (tensor * gradient)?.sum_all()?,
    };
    Ok(scalar.backward()?)
}

/// A scalar whose gradient with respect to its argument is given. Its value means nothing: this spares
/// the passes over memory of a product and a sum.
struct Begin(Tensor);

impl CustomOp1 for Begin {
    fn name(&self) -> &'static str {
        "begin"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

/// How gradients pass one stage of a run.
enum Entry {
    /// By the operator's own rule.
    Own { output: ValueId, inputs: Vec<Option<ValueId>>, pullback: Pullback },
    /// Through candle's graph, from variables that stand for values.
    Candle { outputs: Vec<(ValueId, Tensor)> },
}

/// The state of a recorded run.
struct Recorder<'a> {
    session: &'a Session<'a>,
    live: BTreeMap<ValueId, Array>,
    /// Values that gradients are wanted of.
    tracked: BTreeSet<ValueId>,
    /// Variables that stand for values.
    leaves: BTreeMap<ValueId, Var>,
    entries: Vec<Entry>,
    /// What the tap put in place of values: each is a value behind those of the graph.
    views: Vec<TensorId>,
    /// What each touched input of a node reads instead.
    read: BTreeMap<(NodeId, usize), Option<ValueId>>,
}

impl Recorder<'_> {
    /// The value that an input of a node reads: its own, or what the tap puts in its place.
    fn viewed(
        &mut self,
        (node, input, value): (NodeId, usize, ValueId),
        tap: &mut dyn Tap,
    ) -> Result<ValueId> {
        if !tap.touches(value) {
            return Ok(value);
        }
        if let Some(known) = self.read.get(&(node, input)) {
            return Ok(known.unwrap_or(value));
        }
        let array = self.session.value(value, &self.live)?.clone();
        let seen = self.seen(value, &array)?;
        let made = self.session.replacement((node, input, value), &seen, tap)?;
        let made = made.map(|view| self.view(view));
        self.read.insert((node, input), made);
        Ok(made.unwrap_or(value))
    }

    /// A value for what a tap made; the same tensor for several readers is one value.
    fn view(&mut self, view: Array) -> ValueId {
        let first = self.session.graph.value_count();
        if let Some(known) = self.views.iter().position(|&id| id == view.tensor.id()) {
            return ValueId::from_index(first + known);
        }
        let value = ValueId::from_index(first + self.views.len());
        self.views.push(view.tensor.id());
        let plain = Array { tensor: view.tensor.detach(), element: view.element };
        self.live.insert(value, plain);
        if view.tensor.track_op() {
            self.tracked.insert(value);
            self.entries.push(Entry::Candle { outputs: vec![(value, view.tensor)] });
        }
        value
    }

    /// The values that all inputs of a node read.
    fn read_by(
        &mut self,
        node: NodeId,
        values: &[Option<ValueId>],
        tap: &mut dyn Tap,
    ) -> Result<Vec<Option<ValueId>>> {
        let inputs = values.iter().enumerate();
        inputs.map(|(i, value)| value.map(|v| self.viewed((node, i, v), tap)).transpose()).collect()
    }

    fn arrays(&self, values: &[Option<ValueId>]) -> Result<Vec<Option<&Array>>> {
        let arrays = values.iter();
        arrays.map(|value| value.map(|v| self.session.value(v, &self.live)).transpose()).collect()
    }

    /// What was prepared from a constant does not hold for what takes its place.
    fn unprepared(&self, own: &[Option<ValueId>], read: &[Option<ValueId>]) -> bool {
        own.iter().zip(read).any(|(own, read)| {
            own != read && own.is_some_and(|value| self.session.constants.contains_key(&value))
        })
    }

    /// A variable that stands for a value.
    fn leaf(&mut self, value: ValueId, tensor: &Tensor) -> Result<Tensor> {
        if let Some(leaf) = self.leaves.get(&value) {
            return Ok(leaf.as_tensor().clone());
        }
        let leaf = Var::from_tensor(tensor)?;
        let tensor = leaf.as_tensor().clone();
        self.leaves.insert(value, leaf);
        Ok(tensor)
    }

    /// A value as candle's graph begins with it.
    fn seen(&mut self, value: ValueId, array: &Array) -> Result<Array> {
        let tensor = match self.tracked.contains(&value) {
            true => self.leaf(value, &array.tensor)?,
            false => array.tensor.clone(),
        };
        Ok(Array { tensor, element: array.element })
    }

    /// Notes a computed value, and shows it to the tap.
    fn put(&mut self, value: ValueId, array: Array, tap: &mut dyn Tap) -> Result<()> {
        if tap.touches(value) {
            let seen = self.seen(value, &array)?;
            self.session.show(value, &seen, tap)?;
        }
        self.live.insert(value, array);
        Ok(())
    }

    /// Runs the steps of a stage as one; false when they have to run one by one.
    fn fused(&mut self, stage: &Stage, tap: &mut dyn Tap, training: &mut Training) -> Result<bool> {
        // A scale that follows is a normalization by constants, which training leaves alone.
        let Some(fusion) = stage.fusion.as_ref().filter(|fusion| {
            fusion.epilogue.scale.is_none() && !self.session.backend.is_portable()
        }) else {
            return Ok(false);
        };
        let session = self.session;
        let nodes: Vec<NodeId> = stage.steps.iter().map(|&step| session.steps[step].node).collect();
        let (Some(&first), Some(&last)) = (stage.steps.first(), nodes.last()) else {
            return Ok(false);
        };
        let Some(output) = session.graph.node(last).output(0) else { return Ok(false) };
        // Between the nodes nobody can look.
        let mut inner =
            nodes.iter().flat_map(|&node| session.graph.node(node).outputs.iter().flatten());
        if inner.any(|&value| tap.touches(value) && value != output) {
            return Ok(false);
        }
        let first = &session.steps[first];
        let mut cx = session.context(first);
        let residual = fusion.residual;
        let mut run = || {
            let mut read = self.read_by(first.node, &cx.node.inputs, tap)?;
            if self.unprepared(&cx.node.inputs, &read) {
                cx.prepared = None;
            }
            // The residual is read by a later node of the stage.
            let reader = nodes.iter().skip(1).find_map(|&node| {
                let inputs = &session.graph.node(node).inputs;
                inputs.iter().position(|&input| input == residual).map(|input| (node, input))
            });
            let residual = match (residual, reader) {
                (Some(value), Some((node, input))) => Some(self.viewed((node, input, value), tap)?),
                (value, _) => value,
            };
            let wanted = [&read[..], &[residual]].concat();
            let wanted = self.wanted(&wanted);
            if !wanted.contains(&true) {
                return Ok(None);
            }
            let following = Following {
                residual: residual.map(|value| session.value(value, &self.live)).transpose()?,
                clamp: fusion.epilogue.clamp,
            };
            let inputs = Inputs::new(self.arrays(&read)?);
            let run = first.operator.differentiate(&cx, &inputs, &wanted, &following, training)?;
            read.push(residual);
            Ok(run.map(|run| (read, run)))
        };
        let run = run();
        match run.map_err(|error| session.context(first).locate(error))? {
            Some((read, run)) => self.own(output, read, run, tap).map(|()| true),
            None => Ok(false),
        }
    }

    fn wanted(&self, values: &[Option<ValueId>]) -> Vec<bool> {
        values.iter().map(|v| v.is_some_and(|v| self.tracked.contains(&v))).collect()
    }

    fn own(
        &mut self,
        output: ValueId,
        inputs: Vec<Option<ValueId>>,
        run: Differentiated,
        tap: &mut dyn Tap,
    ) -> Result<()> {
        self.tracked.insert(output);
        self.entries.push(Entry::Own { output, inputs, pullback: run.pullback });
        self.put(output, run.output, tap)
    }

    fn single(&mut self, step: &Step, tap: &mut dyn Tap, training: &mut Training) -> Result<()> {
        let session = self.session;
        let mut cx = session.context(step);
        let read = self.read_by(step.node, &cx.node.inputs, tap)?;
        if self.unprepared(&cx.node.inputs, &read) {
            cx.prepared = None;
        }
        let wanted = self.wanted(&read);
        if !session.backend.is_portable()
            && wanted.contains(&true)
            && let [Some(output)] = cx.node.outputs[..]
        {
            let inputs = Inputs::new(self.arrays(&read)?);
            let following = Following::default();
            let run = step.operator.differentiate(&cx, &inputs, &wanted, &following, training)?;
            if let Some(run) = run {
                return self.own(output, read, run, tap);
            }
        }
        self.candle(step, (cx, &read), tap, training)
    }

    /// Runs a step on candle's graph.
    fn candle(
        &mut self,
        step: &Step,
        (cx, read): (NodeCx, &[Option<ValueId>]),
        tap: &mut dyn Tap,
        training: &mut Training,
    ) -> Result<()> {
        let session = self.session;
        let mut inputs = Vec::new();
        for &value in read {
            let Some(value) = value else {
                inputs.push(None);
                continue;
            };
            let array = session.value(value, &self.live)?.clone();
            inputs.push(Some(self.seen(value, &array)?));
        }
        let inputs = Inputs::new(inputs.iter().map(Option::as_ref).collect());
        let arrays = session.compute(step.operator, &cx, &inputs, Some(training))?;
        check_gradient(step.operator, &inputs, &arrays)?;
        let mut outputs = Vec::new();
        for (value, array) in cx.node.outputs.iter().zip(arrays) {
            let Some(value) = *value else { continue };
            let plain = Array { tensor: array.tensor.detach(), element: array.element };
            if array.tensor.track_op() {
                self.tracked.insert(value);
                outputs.push((value, array.tensor));
            }
            self.put(value, plain, tap)?;
        }
        if !outputs.is_empty() {
            self.entries.push(Entry::Candle { outputs });
        }
        Ok(())
    }
}
