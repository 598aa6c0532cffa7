//! How a technique takes part in training.

use super::Parameters;
use crate::graph::Graph;
use crate::rewrite::Edit;
use crate::run::Array;
use crate::{Error, Result};
use candle_core::{Tensor, Var};
use serde_json::Value;
use std::any::Any;
use std::collections::BTreeMap;

/// A technique that takes part in [the training loop](super), such as distillation, quantization
/// in training or gates.
///
/// A run calls [`outline`](Self::outline) and [`begin`](Self::begin) once, then for each step [`parameter`](Self::parameter) and
/// [`activation`](Self::activation) while the graph is evaluated, [`loss`](Self::loss) after it and
/// [`after_step`](Self::after_step) when the weights were updated, and [`finish`](Self::finish) at
/// the end. Several plug-ins are applied in the order of their list. All methods but
/// [`name`](Self::name) default to doing nothing. Whoever made the list may take a plug-in back as
/// what it is after the run, by [`Any`].
///
/// Everything must be deterministic: what a resumed run computes may depend only on the graph, the
/// [`Step`], the variables and what [`state`](Self::state) gave.
pub trait Plugin: Any {
    /// A short name, different from that of any other plug-in of the run. Checkpoints, the journal
    /// and errors use it.
    fn name(&self) -> &str;

    /// What the run is going to be, before it [begins](Self::begin). Gives warnings for whoever
    /// watches.
    ///
    /// # Errors
    /// When the technique does not fit the run.
    fn outline(&mut self, _run: &Outline) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The run begins: graph as trained (weights are initializers, see
    /// [`prepare`](super::prepare)) and number of optimizer steps.
    ///
    /// # Errors
    /// When the graph is not fit for the technique, such as a name that it does not have.
    fn begin(&mut self, _graph: &Graph, _steps: u64) -> Result<()> {
        Ok(())
    }

    /// The differentiable view of a parameter that the graph computes with, of the same shape: a
    /// mask, a gate, a fake-quantized weight. `None` leaves it as it is.
    ///
    /// Called once per parameter and step, trainable or frozen, with what the plug-ins before made
    /// of it, and in evaluation.
    ///
    /// # Errors
    /// Ends the run.
    fn parameter(&self, _name: &str, _value: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Names of the values that [`activation`](Self::activation) replaces.
    fn activations(&self) -> Vec<String> {
        Vec::new()
    }

    /// The differentiable view of a value that the nodes after it read. Called once per value and
    /// run of the graph, in evaluation as well.
    ///
    /// # Errors
    /// Ends the run.
    fn activation(&mut self, _name: &str, value: &Tensor, _mode: Mode) -> Result<Tensor> {
        Ok(value.clone())
    }

    /// Names of the values that [`loss`](Self::loss) wants to see in [`Step::value`].
    fn wants(&self) -> Vec<String> {
        Vec::new()
    }

    /// The weight of the cross-entropy with the labels, by which that of other plug-ins is
    /// multiplied. At 0 the data need no labels.
    fn label_weight(&self) -> f64 {
        1.0
    }

    /// A term that is added to the loss: a scalar, averaged over the batch.
    ///
    /// # Errors
    /// Ends the run.
    fn loss(&mut self, _step: &Step) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// What of its term depends on several samples of a batch at once, in words, known from
    /// [`begin`](Self::begin) on. Any other term is a mean over samples, so that processes can share a
    /// batch: each has the mean over its own.
    fn mixes_samples(&self) -> Option<String> {
        None
    }

    /// What the term of the last [`loss`](Self::loss) was the sum of, by name, each as it counts there;
    /// nothing where it has no parts.
    fn take_terms(&mut self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Does [`gradient`](Self::gradient) want to see this step?
    fn wants_gradients(&self, _at: Moment) -> bool {
        false
    }

    /// The gradient of what the graph computes with in place of a trained parameter, before the
    /// [view](Self::parameter) leads it back: where a mask hides weights, theirs too.
    ///
    /// # Errors
    /// Ends the run.
    fn gradient(&mut self, _name: &str, _gradient: &Tensor) -> Result<()> {
        Ok(())
    }

    /// The weights have been updated: proximal steps, masks, schedules. Parameters may be changed
    /// here.
    ///
    /// # Errors
    /// Ends the run.
    fn after_step(&mut self, _at: Moment, _parameters: &Parameters) -> Result<()> {
        Ok(())
    }

    /// Parameters whose optimizer state is to be forgotten after this step, where the tensor of the
    /// same shape is not zero. Asked for once after each [`after_step`](Self::after_step).
    fn take_resets(&mut self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Variables beyond the parameters of the graph, such as gates or learned step sizes. The loop
    /// optimizes those with a rate and checkpoints all; the list stays the same during a run.
    fn variables(&self) -> Vec<Extra> {
        Vec::new()
    }

    /// The gradient of one of its [variables](Self::variables) that the loop does not optimize,
    /// before [`after_step`](Self::after_step) of the same step.
    ///
    /// # Errors
    /// Ends the run.
    fn variable_gradient(&mut self, _name: &str, _gradient: &Tensor) -> Result<()> {
        Ok(())
    }

    /// What the journal notes about the technique at each evaluation, under its name.
    fn note(&self) -> Option<Value> {
        None
    }

    /// What a checkpoint must hold beyond the variables, by name.
    ///
    /// # Errors
    /// Ends the run.
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::new())
    }

    /// Goes on from what [`state`](Self::state) gave; called after [`begin`](Self::begin).
    ///
    /// # Errors
    /// When the state is not that of this technique.
    fn load_state(&mut self, _state: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }

    /// Folds what was learned into a plain graph: edits of the trained graph, which holds the
    /// parameters without any plug-in's view. Edits of plug-ins before are already applied.
    ///
    /// # Errors
    /// When it cannot be folded exactly.
    fn finish(&self, _graph: &Graph) -> Result<Vec<Edit>> {
        Ok(Vec::new())
    }
}

/// What the graph is evaluated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For a gradient.
    Train,
    /// For the accuracy on held-out data.
    Evaluate,
}

/// A run before it begins.
pub struct Outline<'a> {
    /// Optimizer steps of the whole run.
    pub steps: u64,
    /// Steps per pass over the data.
    pub steps_per_epoch: u64,
    rate: &'a dyn Fn(u64) -> f64,
}

impl<'a> Outline<'a> {
    /// Of so many steps, with the learning rate of each step relative to its peak.
    pub fn new(steps: u64, steps_per_epoch: u64, rate: &'a dyn Fn(u64) -> f64) -> Self {
        Self { steps, steps_per_epoch, rate }
    }

    /// The learning rate of a step, relative to its peak.
    pub fn rate(&self, step: u64) -> f64 {
        (self.rate)(step)
    }
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Optimizer steps before this one, from 0.
    pub step: u64,
    /// Optimizer steps of the whole run.
    pub steps: u64,
    /// Passes over the data before this one, from 0.
    pub epoch: u64,
}

/// One training step, after the graph was evaluated.
#[derive(Debug)]
pub struct Step<'a> {
    /// Where the run is.
    pub at: Moment,
    /// The batch as the graph saw it, augmented: input names and arrays, in the order of the
    /// graph's inputs. Where processes share a batch, this process's samples of it.
    pub inputs: &'a [(String, Array)],
    /// The scores that the loss is taken of, N x classes: the first graph output, before a softmax
    /// that ends the graph.
    pub scores: &'a Tensor,
    /// The class of each of the N samples, if there are labels.
    pub labels: Option<&'a [u32]>,
    pub(crate) values: &'a BTreeMap<String, Tensor>,
}

impl Step<'_> {
    /// A value that [`Plugin::wants`] named, with its gradient.
    ///
    /// # Errors
    /// When no plug-in of the run wants it.
    pub fn value(&self, name: &str) -> Result<&Tensor> {
        self.values
            .get(name)
            .ok_or_else(|| Error::internal(format!("`{name}` was not asked for before the step")))
    }
}

/// A variable of a plug-in.
#[derive(Debug, Clone)]
pub struct Extra {
    /// Name, unique within the plug-in.
    pub name: String,
    /// The variable, `F32`.
    pub var: Var,
    /// Does weight decay apply?
    pub decays: bool,
    /// Factor of the learning rate; 0 where the loop is not to optimize it, but to
    /// [hand over](Plugin::variable_gradient) its gradient.
    pub rate: f64,
}
