//! The plug-in.

use super::history::History;
use super::place::{self, Placed};
use crate::gate::along;
use crate::model::{BranchSite, GateList, Placement, Ungated};
use crate::{Gate, GateOptimizer, GateParams};
use candle_core::{Device, Tensor};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::cost::{Price, Resource};
use tensor_core::graph::{Graph, Index};
use tensor_core::rewrite::Edit;
use tensor_core::run::Array;
use tensor_core::train::{Extra, Moment, Parameters, Plugin};
use tensor_core::{Error, Result};

/// What is gated, and how.
#[derive(Debug, Clone)]
pub struct TrainParams {
    /// Of the optimizer of the gates.
    pub gates: GateParams,
    /// What is counted.
    pub resource: Price,
    /// Groups without gates, by id, root, layer or parameter; `*` matches any text.
    pub exclude: Vec<String>,
    /// Names of frozen parameters and layers, whose groups have no gates either.
    pub frozen: Vec<String>,
    /// Gates for whole branches beside a skip path, too.
    pub branches: bool,
    /// Input shapes that the resource is counted at, where the model leaves them open.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The graph that the resource is counted in, with the same weights, where training adds to it;
    /// otherwise the one that is trained.
    pub original: Option<Graph>,
}

impl Default for TrainParams {
    fn default() -> Self {
        Self {
            gates: GateParams::default(),
            resource: Price::Count(Resource::Macs),
            exclude: Vec::new(),
            frozen: Vec::new(),
            branches: false,
            shapes: BTreeMap::new(),
            original: None,
        }
    }
}

/// The gates of one list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListReport {
    /// The list.
    #[serde(flatten)]
    pub list: GateList,
    /// Open gates.
    pub open: usize,
    /// `g(alpha)` by channel.
    pub values: Vec<f32>,
    /// What the weights behind each channel were multiplied by: `gain * g(alpha)`, where the gain keeps
    /// what `eps` had made of it.
    pub factors: Vec<f32>,
}

/// Trains gates with the network.
pub struct Gater {
    params: TrainParams,
    /// From the begin of the run on.
    gated: Option<Gated>,
    history: History,
}

/// A graph with gates.
struct Gated {
    placement: Placement,
    gates: Vec<Gate>,
    optimizer: GateOptimizer,
    /// Place in the list of all gates by position, for each site; one past the end where there is no
    /// gate.
    places: Vec<Tensor>,
    gradients: Vec<Option<Tensor>>,
}

impl Gater {
    /// With these parameters.
    ///
    /// # Errors
    /// `E0440` when a parameter is out of range.
    pub fn new(params: TrainParams) -> Result<Self> {
        params.gates.check()?;
        Ok(Self { params, gated: None, history: History::default() })
    }

    /// What happened so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Every list with its gates.
    ///
    /// # Errors
    /// When candle fails.
    pub fn lists(&self) -> Result<Vec<ListReport>> {
        let Some(gated) = &self.gated else { return Ok(Vec::new()) };
        let lists = gated.placement.lists.iter().zip(&gated.gates);
        lists
            .map(|(list, gate)| {
                let (open, values) = (gate.open()?.len(), gate.openness()?);
                let factors = gate.values()?.to_vec1()?;
                Ok(ListReport { list: list.clone(), open, values, factors })
            })
            .collect()
    }

    /// Channels without gates.
    pub fn ungated(&self) -> &[Ungated] {
        self.gated.as_ref().map_or(&[], |gated| &gated.placement.ungated)
    }

    /// What the resource is with the gates of now, by the term's own count, and with all of them.
    ///
    /// # Errors
    /// When candle fails.
    pub fn resource(&self) -> Result<Option<[f64; 2]>> {
        let Some(gated) = &self.gated else { return Ok(None) };
        let resource = gated.optimizer.resource();
        Ok(Some([resource.at(&gated.open()?), resource.at(resource.full())]))
    }

    /// What the resource may be at the end.
    pub fn goal(&self) -> Option<f64> {
        self.gated.as_ref().and_then(|gated| gated.optimizer.goal())
    }
}

impl Gated {
    fn new(params: &TrainParams, graph: &Graph) -> Result<Self> {
        let Placed { placement, resource, .. } = Placed::new(params, graph)?;
        let optimizer = GateOptimizer::new(params.gates.clone(), resource, &placement.may_close())?;
        let eps = params.gates.eps.first;
        let gates = placement.lists.iter().map(|list| Gate::new(list.channels, eps, &Device::Cpu));
        let gates = gates.collect::<Result<Vec<_>>>()?;
        let places = placement.sites.iter().map(|site| place::places(&placement, site));
        let places = places.collect::<Result<_>>()?;
        let gradients = vec![None; gates.len()];
        Ok(Self { placement, gates, optimizer, places, gradients })
    }

    /// Numbers of open gates.
    fn open(&self) -> Result<Vec<usize>> {
        self.gates.iter().map(|gate| Ok(gate.open()?.len())).collect()
    }

    /// The share of the resource that open gates cost.
    fn share(&self) -> Result<f64> {
        Ok(self.optimizer.resource().share(&self.open()?))
    }

    /// The parameter as its gates let it through; `None` when nothing scales it.
    fn view(&self, name: &str, value: &Tensor) -> Result<Option<Tensor>> {
        let mut scaled = None;
        let mut sites = self.placement.sites.iter().zip(&self.places);
        if let Some((site, places)) = sites.find(|(site, _)| site.parameter == name) {
            let mut all = self.gates.iter().map(Gate::values).collect::<Result<Vec<_>>>()?;
            all.push(Tensor::ones(1, candle_core::DType::F32, &Device::Cpu)?);
            let scale = Tensor::cat(&all, 0)?.index_select(places, 0)?;
            let scale = scale.to_device(value.device())?;
            scaled = Some(value.broadcast_mul(&along(&scale, value, site.axis)?)?);
        }
        let is_scaled = |site: &&BranchSite| site.scaled.iter().any(|scaled| scaled == name);
        if let Some(site) = self.placement.branches.iter().find(is_scaled) {
            let scale = self.gates[site.list].values()?.to_device(value.device())?;
            scaled = Some(scaled.as_ref().unwrap_or(value).broadcast_mul(&scale)?);
        }
        Ok(scaled)
    }

    /// Names of what gates change.
    fn parameters(&self) -> BTreeSet<&str> {
        let sites = self.placement.sites.iter().map(|site| &site.parameter);
        let branches = self.placement.branches.iter();
        let branches = branches.flat_map(|site| site.scaled.iter().chain([&site.weight]));
        sites.chain(branches).map(String::as_str).collect()
    }

    /// Is the parameter the weight before a closed branch's end? It does nothing any more, and as zeros
    /// it says so.
    fn is_cut_off(&self, name: &str) -> Result<bool> {
        match self.placement.branches.iter().find(|site| site.weight == name) {
            Some(site) => Ok(self.gates[site.list].open()?.is_empty()),
            None => Ok(false),
        }
    }
}

impl Plugin for Gater {
    fn name(&self) -> &str {
        "gates"
    }

    fn begin(&mut self, graph: &Graph, _steps: u64) -> Result<()> {
        self.gated = Some(Gated::new(&self.params, graph)?);
        self.history = History::default();
        Ok(())
    }

    fn parameter(&self, name: &str, value: &Tensor) -> Result<Option<Tensor>> {
        self.gated.as_ref().map_or(Ok(None), |gated| gated.view(name, value))
    }

    fn variables(&self) -> Vec<Extra> {
        let gates = self.gated.iter().flat_map(|gated| gated.gates.iter().enumerate());
        let extra = |(list, gate): (usize, &Gate)| Extra {
            name: list.to_string(),
            var: gate.alpha().clone(),
            decays: false,
            rate: 0.0,
        };
        gates.map(extra).collect()
    }

    fn variable_gradient(&mut self, name: &str, gradient: &Tensor) -> Result<()> {
        let gated = self.gated.as_mut();
        let place = name.parse::<usize>().ok();
        if let (Some(gated), Some(place)) = (gated, place)
            && let Some(slot) = gated.gradients.get_mut(place)
        {
            *slot = Some(gradient.clone());
        }
        Ok(())
    }

    fn after_step(&mut self, at: Moment, _parameters: &Parameters) -> Result<()> {
        let Some(gated) = &mut self.gated else { return Ok(()) };
        let gradients = std::mem::replace(&mut gated.gradients, vec![None; gated.gates.len()]);
        gated.optimizer.step((at.step, at.steps), &mut gated.gates, &gradients)?;
        let done = at.step + 1;
        if History::is_due(done, at.steps) {
            let values = gated.gates.iter().map(Gate::openness).collect::<Result<Vec<_>>>()?;
            let share = gated.share()?;
            self.history.push(done, share, gated.optimizer.weight(), &values);
        }
        Ok(())
    }

    fn note(&self) -> Option<Value> {
        let gated = self.gated.as_ref()?;
        let share = gated.share().ok()?;
        let values = |gate: &Gate| {
            let rounded = |value: f32| (f64::from(value) * 1e6).round() / 1e6;
            gate.openness().map_or(Vec::new(), |v| v.into_iter().map(rounded).collect::<Vec<_>>())
        };
        let lists = gated.placement.lists.iter().zip(&gated.gates);
        let lists: Vec<Value> = lists
            .map(|(list, gate)| json!({ "id": list.id, "name": list.name, "values": values(gate) }))
            .collect();
        Some(json!({ "resource": share, "weight": gated.optimizer.weight(), "lists": lists }))
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let Some(gated) = &self.gated else { return Ok(BTreeMap::new()) };
        let mut state = gated.optimizer.state(&gated.gates)?;
        self.history.save(&mut state)?;
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        if let Some(gated) = &mut self.gated {
            gated.optimizer.load_state(state, &mut gated.gates)?;
        }
        self.history = History::load(state)?;
        Ok(())
    }

    /// Multiplies the gates into the weights; those of closed gates become exactly 0.
    fn finish(&self, graph: &Graph) -> Result<Vec<Edit>> {
        let Some(gated) = &self.gated else { return Ok(Vec::new()) };
        let index = Index::new(graph);
        let mut edits = Vec::new();
        for name in gated.parameters() {
            let value = graph.find(name);
            let found = value.and_then(|value| Some((value, graph.initializer(value)?)));
            let (value, constant) =
                found.ok_or_else(|| Error::internal(format!("`{name}` is gone")))?;
            let array = Array::from_constant(constant)?;
            let scaled = match gated.is_cut_off(name)? {
                true => Some(array.tensor.zeros_like()?),
                false => gated.view(name, &array.tensor)?,
            };
            let Some(scaled) = scaled else { continue };
            // A gate of 0 may meet a negative weight: the zero is to be +0.
            let scaled = Array::new((scaled.detach() + 0.0)?, array.element)?.to_constant()?;
            for &(node, input) in index.readers(value) {
                edits.push(Edit::SetInput { node, input, constant: scaled.clone() });
            }
        }
        Ok(edits)
    }
}

impl std::fmt::Debug for Gater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gater({:?})", self.params.gates)
    }
}
