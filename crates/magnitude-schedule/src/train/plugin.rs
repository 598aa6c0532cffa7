//! The plug-in.

use super::params::SparseParams;
use super::regrow::{Moving, exchange, moving_share};
use super::zeros::trained_weights;
use crate::distribution::split;
use crate::mask::values;
use crate::{Distribution, LayerWeight, Layout, Mask, Schedule, masks, masks_of_counts};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tensor_core::graph::{Graph, Index};
use tensor_core::rewrite::Edit;
use tensor_core::run::Array;
use tensor_core::text::counted;
use tensor_core::train::{Moment, Outline, Parameters, Plugin};
use tensor_core::{Error, Result};

/// Prunes the graph in training, step by step.
pub struct Sparsifier {
    params: SparseParams,
    schedule: Option<Schedule>,
    layers: Vec<Layer>,
    /// Gradients of the step under way, where weights may come back.
    gradients: BTreeMap<String, Tensor>,
    resets: Vec<(String, Tensor)>,
}

/// A weight under a mask.
struct Layer {
    /// Name of the parameter.
    name: String,
    layout: Layout,
    /// Does the schedule apply?
    is_pruned: bool,
    mask: Mask,
    /// The mask as numbers; none while nothing is masked.
    view: Option<Tensor>,
    /// Zeros of the model that stay.
    fixed: Option<Mask>,
}

impl Layer {
    fn set(&mut self, mask: Mask) -> Result<()> {
        self.view = match mask.zeros() {
            0 => None,
            _ => Some(mask.tensor(DType::F32)?),
        };
        self.mask = mask;
        Ok(())
    }

    /// Keeps zeros, if there are any.
    fn fix(&mut self, nonzero: Mask) -> Result<()> {
        if nonzero.zeros() > 0 {
            self.set(nonzero.clone())?;
            self.fixed = Some(nonzero);
        }
        Ok(())
    }
}

impl Sparsifier {
    /// The share of zeros that the schedule wants at some hundred steps of a run of that length; empty
    /// before [`outline`](Plugin::outline) and where zeros are only kept.
    pub fn curve(&self, steps: u64) -> Vec<(u64, f64)> {
        /// Steps that show the shape of a schedule.
        const SHOWN: u64 = 100;
        let every = steps.div_ceil(SHOWN).max(1);
        let shown = (0..=steps).filter(|step| step % every == 0 || *step == steps);
        let schedule = self.schedule.as_ref();
        schedule.map(|s| shown.map(|step| (step, s.sparsity(step))).collect()).unwrap_or_default()
    }

    /// With these parameters.
    ///
    /// # Errors
    /// `E0430`, `E0431` and `E0436` when a parameter is outside its range.
    pub fn new(params: SparseParams) -> Result<Self> {
        params.check()?;
        let (layers, gradients) = (Vec::new(), BTreeMap::new());
        Ok(Self { params, schedule: None, layers, gradients, resets: Vec::new() })
    }

    /// The schedule of a pruned layer, and whether its masks change after this step.
    fn due(&self, at: Moment, schedule: Schedule) -> bool {
        let interval = schedule.interval();
        let now = interval.last_update(at.step + 1);
        now.is_some() && (at.step == 0 || interval.last_update(at.step) != now)
    }

    /// The schedules of the pruned layers that train, by place.
    fn schedules(&self, is_active: impl Fn(&Layer) -> bool) -> Vec<(usize, Schedule)> {
        let Some(whole) = self.schedule else { return Vec::new() };
        let active: Vec<usize> = (0..self.layers.len())
            .filter(|&at| self.layers[at].is_pruned && is_active(&self.layers[at]))
            .collect();
        let count = active.len();
        let own = |(i, at): (usize, usize)| match self.params.distribution {
            Distribution::Layerwise => (at, whole.part(i, count)),
            _ => (at, whole),
        };
        active.into_iter().enumerate().map(own).collect()
    }

    /// The new masks of the layers that are due.
    fn updated(&self, at: Moment, parameters: &Parameters) -> Result<Vec<(usize, Mask)>> {
        let trains = |layer: &Layer| {
            parameters.get(&layer.name).is_some_and(|parameter| !parameter.is_frozen())
        };
        let schedules = self.schedules(trains);
        if !schedules.iter().any(|(_, schedule)| self.due(at, *schedule)) {
            return Ok(Vec::new());
        }
        let mut weights = Vec::new();
        for &(place, _) in &schedules {
            let parameter = parameters.get(&self.layers[place].name);
            let parameter = parameter.ok_or_else(|| Error::internal("a weight is gone"))?;
            weights.push(parameter.var.as_detached_tensor());
        }
        let layers: Vec<LayerWeight> = schedules
            .iter()
            .zip(&weights)
            .map(|(&(place, _), weight)| {
                let Layer { layout, mask, .. } = &self.layers[place];
                LayerWeight { weight, layout: *layout, mask: Some(mask) }
            })
            .collect();
        let done = at.step + 1;
        let pattern = self.params.pattern;
        let target = self.params.sparsity.unwrap_or(0.0);
        let new = match self.params.distribution {
            Distribution::Global => {
                let now = schedules.first().map_or(0.0, |(_, schedule)| schedule.sparsity(done));
                masks(&layers, Distribution::Global, now, pattern)?
            }
            distribution => {
                let sizes = layers.iter().map(|layer| layer.size(pattern));
                let last = split(distribution, &sizes.collect::<Result<Vec<_>>>()?, target)?;
                // In whole weights, so that the last update is exact and none is taken back.
                let share = |schedule: &Schedule| match target > 0.0 {
                    true => schedule.sparsity(done) / target,
                    false => 0.0,
                };
                let counts: Vec<usize> = schedules
                    .iter()
                    .zip(&last)
                    .map(|((_, schedule), &last)| (share(schedule) * last as f64).floor() as usize)
                    .collect();
                masks_of_counts(&layers, &counts, pattern)?
            }
        };
        let mut changed = Vec::new();
        for ((&(place, schedule), weight), mask) in schedules.iter().zip(&weights).zip(new) {
            if self.due(at, schedule) {
                let mask = self.regrown(&self.layers[place], weight, mask, (schedule, done))?;
                changed.push((place, mask));
            }
        }
        Ok(changed)
    }

    /// The mask after weights were exchanged, where that was asked for.
    fn regrown(
        &self,
        layer: &Layer,
        weight: &Tensor,
        mask: Mask,
        (schedule, done): (Schedule, u64),
    ) -> Result<Mask> {
        let passed = schedule.interval().share(done);
        let (Some(alpha), Some(gradient)) = (self.params.regrow, self.gradients.get(&layer.name))
        else {
            return Ok(mask);
        };
        if passed >= 1.0 || mask.zeros() == 0 {
            return Ok(mask);
        }
        let moving = Moving {
            weight: &values(weight)?,
            gradient: &values(gradient)?,
            layout: layer.layout,
            pattern: self.params.pattern,
            mask: &mask,
            fixed: layer.fixed.as_ref(),
        };
        exchange(moving, mask.zeros(), moving_share(alpha, passed))
    }
}

impl Plugin for Sparsifier {
    fn name(&self) -> &str {
        "sparsity"
    }

    fn outline(&mut self, run: &Outline) -> Result<Vec<String>> {
        self.schedule = self.params.schedule(run)?;
        Ok(self.schedule.as_ref().map_or(Vec::new(), |s| SparseParams::warnings(s, run)))
    }

    fn begin(&mut self, graph: &Graph, _steps: u64) -> Result<()> {
        let mut layers = Vec::new();
        let SparseParams { pattern, dense, all, .. } = &self.params;
        for weight in crate::prunable(graph, *pattern, dense, *all)? {
            let Some(constant) = graph.initializer(weight.value) else { continue };
            let mut layer = Layer {
                name: weight.name,
                layout: weight.layout,
                is_pruned: weight.dense.is_none() && self.params.sparsity.is_some(),
                mask: Mask::full(constant.dims()),
                view: None,
                fixed: None,
            };
            if self.params.keep_zeros {
                layer.fix(Mask::of_nonzeros(&Array::from_constant(constant)?.tensor)?)?;
            }
            layers.push(layer);
        }
        if self.params.keep_zeros {
            for weight in trained_weights(graph)? {
                let is_known = layers.iter().any(|layer| layer.name == weight.name);
                if is_known || weight.nonzero.zeros() == 0 {
                    continue;
                }
                let mut layer = Layer {
                    name: weight.name,
                    layout: Layout::OutputsFirst,
                    is_pruned: false,
                    mask: Mask::full(weight.nonzero.dims()),
                    view: None,
                    fixed: None,
                };
                layer.fix(weight.nonzero)?;
                layers.push(layer);
            }
        }
        if self.params.sparsity.is_some() && !layers.iter().any(|layer| layer.is_pruned) {
            return Err(Error::unsupported("no layer can be pruned")
                .code_is("E0432")
                .hint("it takes convolutions or matrix products with constant weights"));
        }
        self.layers = layers;
        Ok(())
    }

    fn parameter(&self, name: &str, value: &Tensor) -> Result<Option<Tensor>> {
        let layer = self.layers.iter().find(|layer| layer.name == name);
        match layer.and_then(|layer| layer.view.as_ref()) {
            Some(view) => Ok(Some((value * view)?)),
            None => Ok(None),
        }
    }

    fn wants_gradients(&self, at: Moment) -> bool {
        let is_due = || self.schedules(|_| true).iter().any(|(_, s)| self.due(at, *s));
        self.params.regrow.is_some() && is_due()
    }

    fn gradient(&mut self, name: &str, gradient: &Tensor) -> Result<()> {
        if self.layers.iter().any(|layer| layer.is_pruned && layer.name == name) {
            self.gradients.insert(name.to_owned(), gradient.to_device(&Device::Cpu)?);
        }
        Ok(())
    }

    fn after_step(&mut self, at: Moment, parameters: &Parameters) -> Result<()> {
        let mut changed = self.updated(at, parameters)?;
        self.gradients.clear();
        if at.step == 0 {
            // Zeros that stay may meet random weights.
            for (place, layer) in self.layers.iter().enumerate() {
                if layer.fixed.is_some() && changed.iter().all(|(known, _)| *known != place) {
                    changed.push((place, layer.mask.clone()));
                }
            }
        }
        for (place, mask) in changed {
            let layer = &mut self.layers[place];
            if let Some(parameter) = parameters.get(&layer.name) {
                parameter.var.set(&mask.apply(&parameter.var.as_detached_tensor())?)?;
            }
            let stays = mask.and(&layer.mask)?.tensor(DType::U8)?;
            self.resets.push((layer.name.clone(), stays.eq(0_u8)?));
            layer.set(mask)?;
        }
        Ok(())
    }

    fn take_resets(&mut self) -> Vec<(String, Tensor)> {
        std::mem::take(&mut self.resets)
    }

    fn note(&self) -> Option<Value> {
        let pruned = || self.layers.iter().filter(|layer| layer.is_pruned);
        let weights: usize = pruned().map(|layer| layer.mask.keep().len()).sum();
        let zeros: usize = pruned().map(|layer| layer.mask.zeros()).sum();
        let sparsity = zeros as f64 / weights.max(1) as f64;
        (weights > 0).then(|| json!({ "sparsity": sparsity }))
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let masks = self.layers.iter();
        masks.map(|layer| Ok((layer.name.clone(), layer.mask.tensor(DType::U8)?))).collect()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for layer in &mut self.layers {
            let tensor = state.get(&layer.name).filter(|t| t.dims() == layer.mask.dims());
            let tensor = tensor.ok_or_else(|| {
                Error::invalid(format!("the checkpoint lacks the mask of `{}`", layer.name))
                    .code_is("E0404")
                    .hint("remove the run folder and begin again")
            })?;
            layer.set(Mask::of_nonzeros(tensor)?)?;
        }
        Ok(())
    }

    /// Weights are zero where they are masked; a moving average of them is not yet.
    fn finish(&self, graph: &Graph) -> Result<Vec<Edit>> {
        let index = Index::new(graph);
        let mut edits = Vec::new();
        for layer in self.layers.iter().filter(|layer| layer.view.is_some()) {
            let Some(value) = graph.find(&layer.name) else { continue };
            let Some(constant) = graph.initializer(value) else { continue };
            let array = Array::from_constant(constant)?;
            let masked = Array::new(layer.mask.apply(&array.tensor)?, array.element)?;
            let masked = masked.to_constant()?;
            if masked.bytes() == constant.bytes() {
                continue;
            }
            for &(node, input) in index.readers(value) {
                edits.push(Edit::SetInput { node, input, constant: masked.clone() });
            }
        }
        Ok(edits)
    }
}

impl std::fmt::Debug for Sparsifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sparsifier({:?}, {})", self.params, counted(self.layers.len(), "layer"))
    }
}
