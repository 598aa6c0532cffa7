//! The state of a run: one training step, and what a checkpoint holds.

use super::checkpoint::Snapshot;
use super::evaluate::{arrays, as_matrix, correct};
use super::feed::Feed;
use super::optimizer::{Optimization, Target, clip_factor, global_norm};
use super::views::{self, Views, Watched};
use super::{Extra, Mode, Moment, Parameters, Params, Plugin, Step, average, cross_entropy};
use crate::data::Batch;
use crate::graph::{Attribute, Graph};
use crate::group::Group;
use crate::run::{Array, Backend, Gradients, Session, Training};
use crate::{Error, NodeId, Result, ValueId, random};
use candle_core::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a step measured, on the samples of all processes.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    pub(super) loss: f64,
    /// What it is the sum of; empty where it has one term.
    pub(super) terms: Vec<(String, f64)>,
    /// Correct samples, counted in training mode; 0 without labels.
    pub(super) correct: usize,
}

/// Everything that changes during a run.
pub(super) struct Trainer<'a> {
    pub(super) graph: &'a Graph,
    pub(super) scores: ValueId,
    pub(super) params: &'a Params,
    pub(super) parameters: Parameters,
    pub(super) plugins: &'a mut [Box<dyn Plugin>],
    session: Session<'a>,
    pub(super) backend: Backend,
    watched: Watched,
    targets: Vec<ValueId>,
    frozen: Vec<NodeId>,
    optimization: Optimization,
    /// Variables that a plug-in, by its place, optimizes itself.
    handed_over: Vec<(usize, Extra)>,
    /// The moving average of the parameters, in their order.
    average: Option<Vec<Tensor>>,
    label_weight: f64,
    /// The processes that share each batch, this one's samples of it, and how many it has.
    group: Group,
    own: Range<usize>,
    batch: usize,
}

impl<'a> Trainer<'a> {
    /// Prepares a run on a prepared graph and its parameters.
    pub(super) fn new(
        graph: &'a Graph,
        mut parameters: Parameters,
        feed: &Feed<'a>,
        plugins: &'a mut [Box<dyn Plugin>],
    ) -> Result<Self> {
        let params = feed.params;
        let scores = super::scores(graph)?;
        if params.reinitialize {
            parameters.reinitialize(graph, scores, params.seed)?;
        }
        for plugin in plugins.iter_mut() {
            plugin.begin(graph, feed.plan.steps)?;
        }
        let mixing = plugins.iter().find_map(|plugin| plugin.mixes_samples());
        if let Some(what) = mixing.filter(|_| !feed.group.is_alone()) {
            let message = format!("{what} depends on all samples of a batch at once");
            return Err(Error::unsupported(message)
                .code_is("E0621")
                .hint("take another loss, or train in one process"));
        }
        let mut all: Vec<Target> = parameters
            .iter()
            .filter(|parameter| !parameter.is_frozen())
            .map(|parameter| Target {
                name: parameter.name.clone(),
                var: parameter.var.clone(),
                rate: parameter.rate,
                decays: parameter.role == super::Role::Weight,
            })
            .collect();
        let mut handed_over = Vec::new();
        for (place, plugin) in plugins.iter().enumerate() {
            for extra in plugin.variables() {
                if extra.rate == 0.0 {
                    handed_over.push((place, extra));
                    continue;
                }
                all.push(Target {
                    name: format!("{}:{}", plugin.name(), extra.name),
                    var: extra.var,
                    rate: extra.rate,
                    decays: extra.decays,
                });
            }
        }
        if all.is_empty() && handed_over.is_empty() {
            return Err(Error::invalid("every parameter is frozen")
                .code_is("E0402")
                .hint("leave a layer out of `freeze`, and give none a factor of 0"));
        }
        let watched = Watched::new(graph, plugins)?;
        let targets: Vec<ValueId> = std::iter::once(scores).chain(watched.wanted()).collect();
        let given: Vec<ValueId> =
            graph.inputs.iter().copied().chain(parameters.iter().map(|p| p.value)).collect();
        let backend = params.device.open()?;
        let session = Session::between(graph, &given, &targets)?.on(&backend)?;
        let average = match params.average {
            Some(_) => Some(copies(&parameters)?),
            None => None,
        };
        Ok(Self {
            frozen: parameters.frozen_nodes(graph),
            optimization: Optimization::new(params.optimizer, params.weight_decay, all),
            handed_over,
            label_weight: plugins.iter().map(|plugin| plugin.label_weight()).product(),
            graph,
            scores,
            params,
            parameters,
            plugins,
            session,
            backend,
            watched,
            targets,
            average,
            group: feed.group.clone(),
            own: feed.own(),
            batch: feed.plan.batch,
        })
    }

    /// Do the data need labels?
    pub(super) fn needs_labels(&self) -> bool {
        self.label_weight != 0.0
    }

    /// One step on this process's part of an augmented batch.
    pub(super) fn step(&mut self, at: Moment, batch: &Batch) -> Result<Measured> {
        let inputs: Vec<(String, Array)> = self
            .graph
            .inputs
            .iter()
            .map(|&value| self.graph.name(value).to_owned())
            .zip(arrays(self.graph, batch)?)
            .collect();
        let samples = inputs.first().and_then(|(_, array)| array.dims().first().copied());
        let tensors = self.parameters.iter().map(|parameter| match parameter.is_frozen() {
            true => parameter.var.as_detached_tensor(),
            false => parameter.var.as_tensor().clone(),
        });
        let seen = views::parameters(&self.parameters, tensors, self.plugins)?;
        let mut given: Vec<(ValueId, Array)> = self
            .graph
            .inputs
            .iter()
            .copied()
            .zip(inputs.iter().map(|(_, array)| array.clone()))
            .collect();
        let mut wanted = BTreeSet::new();
        for (parameter, tensor) in self.parameters.iter().zip(&seen) {
            given.push((parameter.value, parameter.array(tensor.detach())));
            if tensor.track_op() {
                wanted.insert(parameter.value);
            }
        }
        let stream = random::stream(self.params.seed, &format!("train/dropout/{}", at.step));
        let mut training = Training::new(stream).in_precision(self.params.precision).sharing(
            &self.group,
            self.own.clone(),
            self.batch,
        );
        for &node in &self.frozen {
            training.freeze(node);
        }
        let mut views = Views::new(self.graph, &self.watched, self.plugins, Mode::Train);
        let recording =
            self.session.record(&given, &wanted, &self.targets, &mut views, &mut training)?;
        drop(given);
        let values = std::mem::take(&mut views.values);
        drop(views);
        let scores = recording.outputs().first().ok_or_else(|| Error::internal("no scores"))?;
        let scores = as_matrix(&scores.tensor, samples.unwrap_or_default())?;
        let labels = batch.labels.as_deref();
        let step = Step { at, inputs: &inputs, scores: &scores, labels, values: &values };
        let (loss, terms) = self.loss(&step)?;
        let mut measured = Measured {
            loss: f64::from(loss.to_scalar::<f32>()?),
            terms,
            correct: labels.map_or(Ok(0), |labels| correct(&scores, labels))?,
        };
        let loss = self.over_all(loss, &mut measured)?;
        if !measured.loss.is_finite() {
            return Err(not_finite(at, "the loss", measured.loss));
        }
        let mut gradients = recording.gradients(&loss)?;
        for (parameter, tensor) in self.parameters.iter().zip(&seen) {
            if let Some(gradient) = gradients.take(parameter.value)? {
                let mut all = None;
                for plugin in self.plugins.iter_mut().filter(|plugin| plugin.wants_gradients(at)) {
                    if all.is_none() {
                        all = Some(sum_over(&self.group, &gradient)?);
                    }
                    plugin.gradient(&parameter.name, all.as_ref().unwrap_or(&gradient))?;
                }
                gradients.follow(tensor, gradient)?;
            }
        }
        self.descend(at, gradients)?;
        self.follow_statistics(&training)?;
        self.follow_average(at)?;
        for plugin in self.plugins.iter_mut() {
            plugin.after_step(at, &self.parameters)?;
            for (name, places) in plugin.take_resets() {
                self.optimization.reset(&name, &places)?;
            }
        }
        Ok(measured)
    }

    /// The loss, and what it is the sum of by name where that is more than one term.
    fn loss(&mut self, step: &Step) -> Result<(Tensor, Vec<(String, f64)>)> {
        let mut terms = Vec::new();
        let mut named = Vec::new();
        if let Some(labels) = step.labels.filter(|_| self.label_weight != 0.0) {
            let loss = cross_entropy(step.scores, labels, self.params.label_smoothing)?;
            let loss = if self.label_weight == 1.0 { loss } else { (loss * self.label_weight)? };
            named.push(("labels".to_owned(), loss.clone()));
            terms.push(loss);
        }
        for plugin in self.plugins.iter_mut() {
            let Some(loss) = plugin.loss(step)? else { continue };
            match plugin.take_terms() {
                own if own.is_empty() => named.push((plugin.name().to_owned(), loss.clone())),
                own => named.extend(own),
            }
            terms.push(loss);
        }
        let mut values = Vec::new();
        for (name, term) in named.iter().filter(|_| named.len() > 1) {
            values.push((name.clone(), f64::from(term.to_scalar::<f32>()?)));
        }
        let mut terms = terms.into_iter();
        let first = terms.next().ok_or_else(|| {
            Error::invalid("there is nothing to minimize: no labels and no other loss")
                .code_is("E0207")
                .hint("give `labels`")
        })?;
        let loss: Result<Tensor> = terms.try_fold(first, |sum, term| Ok((sum + term)?));
        Ok((loss?, values))
    }

    /// The loss as this process's part of the mean over the whole batch, and the measurements of all
    /// processes.
    fn over_all(&self, loss: Tensor, measured: &mut Measured) -> Result<Tensor> {
        if self.group.is_alone() {
            return Ok(loss);
        }
        let share = self.own.len() as f64 / self.batch as f64;
        let terms = measured.terms.iter().map(|(_, value)| share * value);
        let mut sums: Vec<f64> =
            [share * measured.loss, measured.correct as f64].into_iter().chain(terms).collect();
        self.group.sum_f64(&mut sums)?;
        (measured.loss, measured.correct) = (sums[0], sums[1] as usize);
        for ((_, value), sum) in measured.terms.iter_mut().zip(&sums[2..]) {
            *value = *sum;
        }
        Ok((loss * share)?)
    }

    /// Updates the variables along the gradients of the loss.
    fn descend(&mut self, at: Moment, by: Gradients) -> Result<()> {
        for (plugin, extra) in &self.handed_over {
            if let Some(gradient) = by.of(extra.var.as_tensor()) {
                let gradient = sum_over(&self.group, gradient)?;
                self.plugins[*plugin].variable_gradient(&extra.name, &gradient)?;
            }
        }
        let mut gradients = Vec::new();
        for target in self.optimization.targets() {
            let gradient = by.of(target.var.as_tensor());
            gradients.push(gradient.map(|g| g.flatten_all()?.to_vec1::<f32>()).transpose()?);
        }
        drop(by);
        sum_all_over(&self.group, &mut gradients)?;
        let norm = global_norm(&gradients);
        if !norm.is_finite() {
            return Err(not_finite(at, "the gradient", norm));
        }
        let scale = self.params.clip_norm.map_or(1.0, |most| clip_factor(norm, most));
        let factor = self.params.schedule.factor(at.step, at.steps, self.params.warmup());
        self.optimization.step(at.step, self.params.rate * factor, gradients, scale)
    }

    /// Mixes the statistics of the batch into the running ones.
    fn follow_statistics(&mut self, training: &Training) -> Result<()> {
        for (&id, statistics) in training.statistics() {
            let node = self.graph.node(id);
            let momentum = match node.attributes.get("momentum") {
                Some(Attribute::Float(momentum)) => f64::from(*momentum),
                _ => 0.9,
            };
            let (Some(mean), Some(variance)) = (node.input(3), node.input(4)) else { continue };
            let known = self.parameters.statistics();
            let (Some(old_mean), Some(old_variance)) = (known.get(&mean), known.get(&variance))
            else {
                return Err(Error::unsupported("running statistics that are computed")
                    .in_node(self.graph.describe(id)));
            };
            let new = statistics.running(old_mean, old_variance, momentum)?;
            self.parameters.set_statistics(mean, new.0);
            self.parameters.set_statistics(variance, new.1);
        }
        Ok(())
    }

    fn follow_average(&mut self, at: Moment) -> Result<()> {
        let (Some(average), Some(decay)) = (&mut self.average, self.params.average) else {
            return Ok(());
        };
        let decay = average::decay_at(decay, at.step);
        for (average, parameter) in average.iter_mut().zip(self.parameters.iter()) {
            if !parameter.is_frozen() {
                *average = average::mix(average, parameter.var.as_tensor(), decay)?;
            }
        }
        Ok(())
    }

    /// The weights that count: the average where there is one.
    fn weights(&self) -> Vec<Tensor> {
        match &self.average {
            Some(average) => average.clone(),
            None => self.parameters.iter().map(|p| p.var.as_detached_tensor()).collect(),
        }
    }

    /// The graph with the weights of now, plain or as plug-ins let it see them.
    pub(super) fn written(&self, as_seen: bool) -> Result<Graph> {
        let mut tensors = self.weights();
        if as_seen {
            tensors = views::parameters(&self.parameters, tensors.into_iter(), self.plugins)?;
        }
        self.parameters.written(self.graph, &tensors)
    }

    /// Refuses weights that hold NaN or infinity: no loss was taken since the last step.
    pub(super) fn check_finite(&self) -> Result<()> {
        for (parameter, tensor) in self.parameters.iter().zip(self.weights()) {
            let sum = tensor.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
            if !sum.is_finite() {
                let name = &parameter.name;
                return Err(diverged(format!("`{name}` is not finite after the last step")));
            }
        }
        Ok(())
    }

    /// Everything that a run needs to go on, as tensors that later steps do not change.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::new();
        for parameter in self.parameters.iter() {
            let copy = parameter.var.as_detached_tensor().copy()?;
            snapshot.insert(format!("parameter/{}", parameter.name), copy);
        }
        for (&value, tensor) in self.parameters.statistics() {
            let name = format!("statistics/{}", self.graph.name(value));
            snapshot.insert(name, tensor.clone());
        }
        for (name, tensor) in self.optimization.state()? {
            snapshot.insert(format!("optimizer/{name}"), tensor);
        }
        for (average, parameter) in self.average.iter().flatten().zip(self.parameters.iter()) {
            snapshot.insert(format!("average/{}", parameter.name), average.clone());
        }
        for plugin in self.plugins.iter() {
            for extra in plugin.variables() {
                let name = format!("variable/{}/{}", plugin.name(), extra.name);
                snapshot.insert(name, extra.var.as_detached_tensor().copy()?);
            }
            for (name, tensor) in plugin.state()? {
                let tensor = tensor.detach().copy()?;
                snapshot.insert(format!("state/{}/{name}", plugin.name()), tensor);
            }
        }
        Ok(snapshot)
    }

    /// Goes back to a snapshot.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let find = |name: String, like: &Tensor| match snapshot.get(&name) {
            Some(tensor) if tensor.dims() == like.dims() && tensor.dtype() == like.dtype() => {
                Ok(tensor.clone())
            }
            _ => Err(Error::invalid(format!("the checkpoint lacks `{name}`"))
                .code_is("E0404")
                .hint("remove the run folder and begin again")),
        };
        for parameter in self.parameters.iter() {
            let tensor = find(format!("parameter/{}", parameter.name), &parameter.var)?;
            parameter.var.set(&tensor)?;
        }
        let statistics: Vec<(ValueId, Tensor)> =
            self.parameters.statistics().iter().map(|(&v, tensor)| (v, tensor.clone())).collect();
        for (value, old) in statistics {
            let tensor = find(format!("statistics/{}", self.graph.name(value)), &old)?;
            self.parameters.set_statistics(value, tensor);
        }
        self.optimization.load_state(&within(snapshot, "optimizer/"))?;
        for (average, parameter) in self.average.iter_mut().flatten().zip(self.parameters.iter()) {
            *average = find(format!("average/{}", parameter.name), average)?;
        }
        for plugin in self.plugins.iter_mut() {
            for extra in plugin.variables() {
                let name = format!("variable/{}/{}", plugin.name(), extra.name);
                extra.var.set(&find(name, &extra.var)?)?;
            }
            plugin.load_state(&within(snapshot, &format!("state/{}/", plugin.name())))?;
        }
        Ok(())
    }
}

/// The sum of a tensor over the processes of a group.
fn sum_over(group: &Group, tensor: &Tensor) -> Result<Tensor> {
    if group.is_alone() {
        return Ok(tensor.clone());
    }
    let mut values = tensor.flatten_all()?.to_vec1::<f32>()?;
    group.sum_f32(&mut values)?;
    Ok(Tensor::from_vec(values, tensor.dims(), tensor.device())?)
}

/// The sums of several over the processes of a group, in one go.
fn sum_all_over(group: &Group, gradients: &mut [Option<Vec<f32>>]) -> Result<()> {
    if group.is_alone() {
        return Ok(());
    }
    let mut all: Vec<f32> = gradients.iter().flatten().flatten().copied().collect();
    group.sum_f32(&mut all)?;
    let mut rest = all.as_slice();
    for gradient in gradients.iter_mut().flatten() {
        let (own, others) = rest.split_at(gradient.len());
        gradient.copy_from_slice(own);
        rest = others;
    }
    Ok(())
}

/// The tensors whose names begin with a prefix, without it.
fn within(snapshot: &Snapshot, prefix: &str) -> BTreeMap<String, Tensor> {
    let own = |(name, tensor): (&String, &Tensor)| {
        name.strip_prefix(prefix).map(|name| (name.to_owned(), tensor.clone()))
    };
    snapshot.iter().filter_map(own).collect()
}

fn copies(parameters: &Parameters) -> Result<Vec<Tensor>> {
    parameters.iter().map(|p| Ok(p.var.as_detached_tensor().copy()?)).collect()
}

fn not_finite(at: Moment, what: &str, value: f64) -> Error {
    diverged(format!("{what} is {value} in step {} of {}", at.step + 1, at.steps))
}

/// The refusal of a run whose numbers left the range of floats.
pub(super) fn diverged(message: String) -> Error {
    Error::invalid(message)
        .code_is("E0401")
        .hint("use a smaller `lr`, a longer `warmup` or `clip_norm = 1`")
}
