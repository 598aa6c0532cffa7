//! What gates are measured against: other ways to train channels towards zero. None of them gives
//! exact zeros, so the weakest channels are cut at the end although they still contribute.

use super::history::History;
use super::place;
use super::plugin::{ListReport, TrainParams};
use crate::gate::along;
use crate::model::{Placement, close};
use crate::optimizer::out_of_reach;
use crate::params::{Goal, out_of_range};
use crate::{Resource, model};
use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;
use std::collections::BTreeMap;
use tensor_core::graph::{Graph, Index};
use tensor_core::rewrite::Edit;
use tensor_core::run::Array;
use tensor_core::train::{Extra, Moment, Outline, Parameters, Plugin, Role, Step};
use tensor_core::{Error, Result};

/// Another way to train channels towards zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Gates `sigmoid(alpha)` with an L1 penalty, weighed by the resource.
    Sigmoid,
    /// An L1 penalty on the scales of BatchNormalization (Liu et al., "Learning efficient
    /// convolutional networks through network slimming", 2017).
    Slimming,
    /// The polarization regularizer `t |gamma|_1 - |gamma - mean|_1` on these scales, t = 1.2 (Zhuang
    /// et al., "Neuron-level structured pruning using polarization regularizer", 2020).
    Polarization,
}

impl Method {
    /// A weight of the penalty with which short runs converge; the best one depends on network and length.
    pub fn default_strength(self) -> f64 {
        match self {
            Self::Sigmoid => 2.0,
            Self::Slimming => 3e-3,
            Self::Polarization => 3e-3,
        }
    }
}

/// `alpha` of a sigmoid gate at the begin: nearly open, where there is still a gradient.
const OPEN: f32 = 2.0;

/// Rate of the sigmoid gates relative to that of the weights.
const RATE: f64 = 20.0;

/// Trains channels towards zero by another method.
pub struct Rival {
    method: Method,
    strength: f64,
    /// Peak learning rate of the run.
    rate: f64,
    params: TrainParams,
    /// Learning rate of each step, relative to the peak.
    rates: Vec<f64>,
    state: Option<State>,
    history: History,
}

/// The scales that the channels of a list have: parameter, and position by channel.
type Scales = Vec<(String, Vec<usize>)>;

struct State {
    placement: Placement,
    resource: Resource,
    goal: f64,
    gates: Vec<Var>,
    /// The scales of each list.
    scales: Vec<Scales>,
    values: Vec<Vec<f32>>,
}

impl Rival {
    /// With a weight of the penalty, for a run with this peak learning rate.
    ///
    /// # Errors
    /// `E0440` when a parameter is out of range, or the goal is no budget.
    pub fn new(method: Method, strength: f64, rate: f64, params: TrainParams) -> Result<Self> {
        params.gates.check()?;
        if !(strength >= 0.0 && strength.is_finite()) {
            return Err(out_of_range("strength", strength, "at least 0"));
        }
        let (rates, state, history) = (Vec::new(), None, History::default());
        Ok(Self { method, strength, rate, params, rates, state, history })
    }

    /// What happened so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The budget.
    pub fn goal(&self) -> Option<f64> {
        self.state.as_ref().map(|state| state.goal)
    }

    /// The resource after the cut, by count, and of all channels.
    pub fn resource(&self) -> Option<[f64; 2]> {
        let state = self.state.as_ref()?;
        let open = counts(&state.closed());
        Some([state.resource.at(&open), state.resource.at(state.resource.full())])
    }

    /// Every list with its channels, relative to the strongest of the network for scales.
    pub fn lists(&self) -> Vec<ListReport> {
        let Some(state) = &self.state else { return Vec::new() };
        let closed = state.closed();
        let lists = state.placement.lists.iter().zip(&state.values).zip(counts(&closed));
        lists
            .map(|((list, values), open)| ListReport {
                list: list.clone(),
                open,
                values: values.clone(),
                factors: values.clone(),
            })
            .collect()
    }

    /// Channels without gates.
    pub fn ungated(&self) -> &[model::Ungated] {
        self.state.as_ref().map_or(&[], |state| &state.placement.ungated)
    }

    /// The trained graph with zeros in place of the weights behind the weakest channels, so many that
    /// the budget is met.
    ///
    /// # Errors
    /// When the graph is not the trained one.
    pub fn close(&self, trained: &Graph) -> Result<Graph> {
        match &self.state {
            Some(state) => close(trained, &state.placement, &state.closed()),
            None => Ok(trained.clone()),
        }
    }
}

fn counts(closed: &[Vec<bool>]) -> Vec<usize> {
    closed.iter().map(|list| list.iter().filter(|closed| !**closed).count()).collect()
}

impl State {
    /// The weakest channels of all, until the budget is met; one stays in each list.
    fn closed(&self) -> Vec<Vec<bool>> {
        let mut closed: Vec<Vec<bool>> =
            self.values.iter().map(|values| vec![false; values.len()]).collect();
        let mut order: Vec<(usize, usize)> = (0..self.values.len())
            .flat_map(|list| (0..self.values[list].len()).map(move |place| (list, place)))
            .collect();
        order.sort_by(|a, b| self.values[a.0][a.1].total_cmp(&self.values[b.0][b.1]));
        let mut open = counts(&closed);
        for (list, place) in order {
            if self.resource.at(&open) <= self.goal {
                break;
            }
            if open[list] > 1 {
                closed[list][place] = true;
                open[list] -= 1;
            }
        }
        closed
    }

    /// Reads the values of all channels.
    fn read(&mut self, method: Method, parameters: &Parameters) -> Result<()> {
        if method == Method::Sigmoid {
            self.values = self
                .gates
                .iter()
                .map(|alpha| Ok(sigmoid(alpha.as_detached_tensor())?.to_vec1()?))
                .collect::<Result<_>>()?;
            return Ok(());
        }
        let mut most = f32::MIN_POSITIVE;
        for (values, scales) in self.values.iter_mut().zip(&self.scales) {
            values.iter_mut().for_each(|value| *value = 0.0);
            for (name, positions) in scales {
                let Some(parameter) = parameters.get(name) else { continue };
                let found = parameter.var.as_detached_tensor().to_vec1::<f32>()?;
                for (value, &position) in values.iter_mut().zip(positions) {
                    *value += found[position].abs() / scales.len() as f32;
                }
            }
            most = values.iter().copied().fold(most, f32::max);
        }
        self.values.iter_mut().flatten().for_each(|value| *value /= most);
        Ok(())
    }
}

fn sigmoid(alpha: Tensor) -> Result<Tensor> {
    Ok(((alpha.neg()?.exp()? + 1.0)?).recip()?)
}

/// The scales of normalizations that belong to the channels of each list.
fn scales(graph: &Graph, placed: &place::Placed) -> Result<Vec<Scales>> {
    let parameters = Parameters::of(graph)?;
    let mut scales = Vec::new();
    for list in &placed.placement.lists {
        let mut own = Vec::new();
        for parameter in parameters.iter().filter(|parameter| parameter.role == Role::Scale) {
            let classes = placed.channels.positions(parameter.value, 0).unwrap_or_default();
            let find = |class| classes.iter().position(|known| known == class);
            let positions: Option<Vec<usize>> = list.classes.iter().map(find).collect();
            own.extend(positions.map(|positions| (parameter.name.clone(), positions)));
        }
        scales.push(own);
    }
    Ok(scales)
}

impl Plugin for Rival {
    fn name(&self) -> &str {
        "gates"
    }

    fn outline(&mut self, run: &Outline) -> Result<Vec<String>> {
        self.rates = (0..run.steps).map(|step| run.rate(step) * self.rate).collect();
        Ok(Vec::new())
    }

    fn begin(&mut self, graph: &Graph, _steps: u64) -> Result<()> {
        let placed = place::Placed::new(&self.params, graph)?;
        let scales = scales(graph, &placed)?;
        if self.method != Method::Sigmoid && scales.iter().any(Vec::is_empty) {
            return Err(Error::unsupported("channels without BatchNormalization have no scales")
                .code_is("E0441")
                .hint("give a network with normalizations, or `--batch-norm restore`"));
        }
        let (placement, resource) = (placed.placement, placed.resource);
        let total = resource.at(resource.full());
        let goal = match self.params.gates.goal {
            Goal::Keep(share) => share * total,
            Goal::AtMost(most) => most,
            Goal::Weight(_) => {
                return Err(Error::invalid(
                    "the method closes channels to a budget, not at a price",
                )
                .code_is("E0443")
                .hint("give a budget, such as half of the multiply-accumulates"));
            }
        };
        let least = resource.at(&vec![1; placement.lists.len()]);
        if goal < least {
            return Err(out_of_reach(goal, least, total));
        }
        let values = placement.lists.iter().map(|list| vec![1.0; list.channels]).collect();
        let gate = |list: &model::GateList| {
            let open = Tensor::full(OPEN, list.channels, &Device::Cpu)?;
            Ok(Var::from_tensor(&open)?)
        };
        let gates = match self.method {
            Method::Sigmoid => placement.lists.iter().map(gate).collect::<Result<_>>()?,
            _ => Vec::new(),
        };
        self.state = Some(State { placement, resource, goal, gates, scales, values });
        self.history = History::default();
        Ok(())
    }

    fn parameter(&self, name: &str, value: &Tensor) -> Result<Option<Tensor>> {
        let Some(state) = self.state.as_ref().filter(|state| !state.gates.is_empty()) else {
            return Ok(None);
        };
        let mut sites = state.placement.sites.iter();
        let Some(site) = sites.find(|site| site.parameter == name) else { return Ok(None) };
        // Divided by the value at the begin, so that every gate starts at exactly 1.
        let begin = sigmoid(Tensor::full(OPEN, 1, &Device::Cpu)?)?;
        let mut all = Vec::new();
        for gate in &state.gates {
            all.push(sigmoid(gate.as_tensor().clone())?.broadcast_div(&begin)?);
        }
        all.push(Tensor::ones(1, DType::F32, &Device::Cpu)?);
        let places = place::places(&state.placement, site)?;
        let scale = Tensor::cat(&all, 0)?.index_select(&places, 0)?.to_device(value.device())?;
        Ok(Some(value.broadcast_mul(&along(&scale, value, site.axis)?)?))
    }

    fn variables(&self) -> Vec<Extra> {
        let gates = self.state.iter().flat_map(|state| state.gates.iter().enumerate());
        let extra = |(list, gate): (usize, &Var)| Extra {
            name: list.to_string(),
            var: gate.clone(),
            decays: false,
            rate: RATE,
        };
        gates.map(extra).collect()
    }

    fn loss(&mut self, _step: &Step) -> Result<Option<Tensor>> {
        let Some(state) = self.state.as_ref().filter(|state| !state.gates.is_empty()) else {
            return Ok(None);
        };
        let full = state.resource.full().to_vec();
        let mut sum = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        for (list, gate) in state.gates.iter().enumerate() {
            let price = self.strength * state.resource.relaxation(&full, list);
            sum = (sum + (sigmoid(gate.as_tensor().clone())?.sum_all()? * price)?)?;
        }
        Ok(Some(sum))
    }

    fn after_step(&mut self, at: Moment, parameters: &Parameters) -> Result<()> {
        let Some(state) = &mut self.state else { return Ok(()) };
        let rate = usize::try_from(at.step).ok().and_then(|step| self.rates.get(step));
        let step = (rate.copied().unwrap_or_default() * self.strength) as f32;
        if self.method != Method::Sigmoid {
            let names: std::collections::BTreeSet<&str> =
                state.scales.iter().flatten().map(|(name, _)| name.as_str()).collect();
            let owned: Vec<_> = names.iter().filter_map(|name| parameters.get(name)).collect();
            let mut all = Vec::new();
            for parameter in &owned {
                all.push(parameter.var.as_detached_tensor().to_vec1::<f32>()?);
            }
            let pull = pull(self.method, &all);
            for ((parameter, mut values), pull) in owned.into_iter().zip(all).zip(pull) {
                values.iter_mut().zip(pull).for_each(|(value, pull)| *value -= step * pull);
                let count = values.len();
                parameter.var.set(&Tensor::from_vec(values, count, parameter.var.device())?)?;
            }
        }
        let done = at.step + 1;
        if History::is_due(done, at.steps) {
            state.read(self.method, parameters)?;
            // Nothing closes before the end: what the weakest channels would leave is known then.
            let open = match done == at.steps {
                true => counts(&state.closed()),
                false => state.resource.full().to_vec(),
            };
            self.history.push(done, state.resource.share(&open), self.strength, &state.values);
        }
        Ok(())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut saved = BTreeMap::new();
        self.history.save(&mut saved)?;
        for (list, values) in self.state.iter().flat_map(|state| state.values.iter().enumerate()) {
            saved.insert(format!("{list}/values"), Tensor::new(values.as_slice(), &Device::Cpu)?);
        }
        Ok(saved)
    }

    fn load_state(&mut self, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        self.history = History::load(saved)?;
        let values = self.state.iter_mut().flat_map(|state| state.values.iter_mut().enumerate());
        for (list, values) in values {
            let found = saved.get(&format!("{list}/values")).and_then(|t| t.to_vec1::<f32>().ok());
            *values = found.filter(|found| found.len() == values.len()).ok_or_else(|| {
                Error::invalid("the checkpoint lacks the values of channels").code_is("E0404")
            })?;
        }
        Ok(())
    }

    /// Multiplies sigmoid gates into the weights.
    fn finish(&self, graph: &Graph) -> Result<Vec<Edit>> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let index = Index::new(graph);
        let mut edits = Vec::new();
        for site in &state.placement.sites {
            let Some(value) = graph.find(&site.parameter) else { continue };
            let Some(constant) = graph.initializer(value) else { continue };
            let array = Array::from_constant(constant)?;
            let Some(scaled) = self.parameter(&site.parameter, &array.tensor)? else { continue };
            let scaled = Array::new(scaled.detach(), array.element)?.to_constant()?;
            for &(node, input) in index.readers(value) {
                edits.push(Edit::SetInput { node, input, constant: scaled.clone() });
            }
        }
        Ok(edits)
    }
}

/// Subgradients of the penalty on scales.
fn pull(method: Method, all: &[Vec<f32>]) -> Vec<Vec<f32>> {
    /// `t` of the polarization regularizer.
    const T: f32 = 1.2;
    let count = all.iter().map(Vec::len).sum::<usize>().max(1) as f32;
    let mean = all.iter().flatten().sum::<f32>() / count;
    let sign = |x: f32| if x == 0.0 { 0.0 } else { x.signum() };
    let drift = all.iter().flatten().map(|&gamma| sign(gamma - mean)).sum::<f32>() / count;
    let of = |&gamma: &f32| match method {
        Method::Polarization => T * sign(gamma) - sign(gamma - mean) + drift,
        _ => sign(gamma),
    };
    all.iter().map(|list| list.iter().map(of).collect()).collect()
}

impl std::fmt::Debug for Rival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rival({:?}, {})", self.method, self.strength)
    }
}
