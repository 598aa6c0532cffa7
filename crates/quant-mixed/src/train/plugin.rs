//! The plug-in.

use super::methods::Start;
use super::{Exported, QatParams, report};
use crate::model::{Learned, ScaleKey, Site, Trainable, stored_bias};
use crate::straight_through::{Levels, StraightThrough};
use candle_core::Tensor;
use std::collections::BTreeMap;
use tensor_core::graph::{Graph, Index};
use tensor_core::progress::Progress;
use tensor_core::rewrite::Edit;
use tensor_core::run::Array;
use tensor_core::text::counted;
use tensor_core::train::{Extra, Mode, Moment, Parameters, Plugin};
use tensor_core::{Error, Result};

/// A step does not become smaller than this share of what it begins with: it has to stay positive.
const LEAST: f64 = 1e-3;

/// Quantizes weights and activations of [its graph](Self::graph) while that trains.
pub struct FakeQuantizer {
    params: QatParams,
    model: Trainable,
    /// By layer.
    weights: Vec<Learner>,
    /// By scale.
    activations: BTreeMap<ScaleKey, Learner>,
    /// The scale of each value.
    sites: BTreeMap<String, ScaleKey>,
}

/// A quantizer and what it learns.
struct Learner {
    quantizer: Box<dyn StraightThrough>,
    /// Name of the variable.
    name: String,
    /// Steps before training.
    start: Vec<f32>,
    /// What the variable does not go below.
    least: Vec<f32>,
}

impl Learner {
    fn new(name: String, quantizer: Box<dyn StraightThrough>) -> Result<Self> {
        let start = quantizer.steps()?;
        let least = match quantizer.variable() {
            Some((var, _)) => {
                let scaled = (var.as_detached_tensor() * LEAST)?;
                scaled.flatten_all()?.to_vec1()?
            }
            None => Vec::new(),
        };
        Ok(Self { quantizer, name, start, least })
    }

    fn extra(&self, rate: f64) -> Option<Extra> {
        let (var, decays) = self.quantizer.variable()?;
        Some(Extra { name: self.name.clone(), var: var.clone(), decays, rate })
    }

    /// Keeps the variable positive.
    fn hold(&self) -> Result<()> {
        let Some((var, _)) = self.quantizer.variable() else { return Ok(()) };
        let values: Vec<f32> = var.as_detached_tensor().flatten_all()?.to_vec1()?;
        if values.iter().zip(&self.least).all(|(value, least)| value >= least) {
            return Ok(());
        }
        let held = values.iter().zip(&self.least).map(|(value, least)| value.max(*least));
        let held: Vec<f32> = held.collect();
        Ok(var.set(&Tensor::from_vec(held, var.dims(), var.device())?)?)
    }
}

impl FakeQuantizer {
    /// Quantizes the model after training, on calibration data, as
    /// [`quantize`](crate::model::quantize()) does, and begins there.
    ///
    /// # Errors
    /// `E0500` when a parameter is out of range; as [`quantize`](crate::model::quantize()).
    pub fn new(
        graph: &Graph,
        shapes: &BTreeMap<String, Vec<usize>>,
        batches: &[Vec<Array>],
        params: QatParams,
        progress: &dyn Progress,
    ) -> Result<Self> {
        params.check()?;
        let model = Trainable::new(graph, shapes, batches, &params.quantize, progress)?;
        let method = params.method;
        let weights = model.weights.iter().zip(&model.prepared.layers).map(|(weight, layer)| {
            let grids = weight.quantizer.grids();
            let start = Start {
                steps: grids.iter().map(|grid| grid.scale).collect(),
                axis: weight.quantizer.axis(),
                levels: Levels::of(&grids[0]),
                count: layer.count() / grids.len(),
            };
            Learner::new(format!("weight/{}", weight.name), (method.weight)(&start)?)
        });
        let weights = weights.collect::<Result<_>>()?;
        let mut activations = BTreeMap::new();
        for Site { value, key, grid, count } in &model.sites {
            if activations.contains_key(key) {
                continue;
            }
            let (steps, levels) = (vec![grid.scale], Levels::of(grid));
            let start = Start { steps, axis: None, levels, count: *count };
            let name = format!("activation/{value}");
            activations.insert(*key, Learner::new(name, (method.activation)(&start)?)?);
        }
        let sites = model.sites.iter().map(|site| (site.value.clone(), site.key)).collect();
        Ok(Self { params, model, weights, activations, sites })
    }

    /// The graph to train: BatchNormalization folded, weights and biases as quantization after
    /// training leaves them.
    pub fn graph(&self) -> &Graph {
        &self.model.graph
    }

    /// The quantized graph of what a run of [this graph](Self::graph) gave: QuantizeLinear and
    /// DequantizeLinear as [`quantize`](crate::model::quantize()) writes them, with the steps that
    /// were learned.
    ///
    /// # Errors
    /// When the graph is another one.
    pub fn export(&self, trained: &Graph) -> Result<Exported> {
        let steps = |learner: &Learner| learner.quantizer.steps().map_err(Error::from);
        let learned = Learned {
            weights: self.weights.iter().map(steps).collect::<Result<_>>()?,
            activations: self
                .activations
                .iter()
                .map(|(key, learner)| Ok((*key, steps(learner)?.first().copied().unwrap_or(1.0))))
                .collect::<Result<_>>()?,
        };
        let starts: Vec<&[f32]> = self.weights.iter().map(|w| w.start.as_slice()).collect();
        let built = self.model.export(trained, &learned)?;
        report::exported(self.params.method, &self.model, built, &starts, &learned)
    }

    fn learners(&self) -> impl Iterator<Item = &Learner> {
        self.weights.iter().chain(self.activations.values())
    }

    /// A parameter as the quantized graph has it.
    fn seen(&self, name: &str, value: &Tensor) -> Result<Option<Tensor>> {
        for (weight, learner) in self.model.weights.iter().zip(&self.weights) {
            if weight.name == name {
                return Ok(Some(learner.quantizer.view(value)?));
            }
            if let Some((bias, key)) = &weight.bias
                && bias == name
            {
                return self.rounded_bias(learner, *key, value).map(Some);
            }
        }
        Ok(None)
    }

    /// A bias as the integers at the scale of the products have it: with few bits these are far apart.
    fn rounded_bias(&self, weight: &Learner, key: ScaleKey, bias: &Tensor) -> Result<Tensor> {
        let input = self.activations.get(&key);
        let input = input.ok_or_else(|| Error::internal("the input of a layer has no scale"))?;
        let input = input.quantizer.steps()?.first().copied().unwrap_or(1.0);
        let steps = weight.quantizer.steps()?;
        let values: Vec<f32> = bias.detach().flatten_all()?.to_vec1()?;
        let stored = values.iter().zip(steps.iter().cycle());
        let stored: Vec<f32> = stored.map(|(&b, &step)| stored_bias(b, step * input)).collect();
        let stored = Tensor::from_vec(stored, bias.dims(), bias.device())?;
        // Straight through: what rounding adds is constant.
        Ok(((bias - bias.detach())? + stored)?)
    }
}

impl Plugin for FakeQuantizer {
    fn name(&self) -> &str {
        "quantization"
    }

    fn begin(&mut self, graph: &Graph, _steps: u64) -> Result<()> {
        let ops = |graph: &Graph| -> Vec<String> {
            graph.nodes.iter().map(|node| node.op.clone()).collect()
        };
        if ops(graph) == ops(&self.model.graph) {
            return Ok(());
        }
        Err(Error::invalid("the graph is not the one that quantization begins with")
            .code_is("E0506")
            .hint("train the graph of the plug-in, and restore no normalizations"))
    }

    fn parameter(&self, name: &str, value: &Tensor) -> Result<Option<Tensor>> {
        self.seen(name, value)
    }

    fn activations(&self) -> Vec<String> {
        self.sites.keys().cloned().collect()
    }

    fn activation(&mut self, name: &str, value: &Tensor, mode: Mode) -> Result<Tensor> {
        let learner = self.sites.get(name).and_then(|key| self.activations.get(key));
        let learner = learner.ok_or_else(|| Error::internal(format!("`{name}` has no scale")))?;
        let view = learner.quantizer.view(value)?;
        Ok(if mode == Mode::Evaluate { view.detach() } else { view })
    }

    fn after_step(&mut self, _at: Moment, _parameters: &Parameters) -> Result<()> {
        self.learners().try_for_each(Learner::hold)
    }

    fn variables(&self) -> Vec<Extra> {
        self.learners().filter_map(|learner| learner.extra(self.params.step_rate)).collect()
    }

    /// Weights and biases become the numbers of their grids; activations need the quantized graph, see
    /// [`export`](Self::export).
    fn finish(&self, graph: &Graph) -> Result<Vec<Edit>> {
        let index = Index::new(graph);
        let mut edits = Vec::new();
        let biases = self.model.weights.iter().filter_map(|weight| weight.bias.as_ref());
        let names = self.model.weights.iter().map(|weight| &weight.name);
        for name in names.chain(biases.map(|(name, _)| name)) {
            let found = graph.find(name);
            let found = found.and_then(|value| Some((value, graph.initializer(value)?)));
            let (value, constant) =
                found.ok_or_else(|| Error::internal(format!("the parameter `{name}` is gone")))?;
            let array = Array::from_constant(constant)?;
            let Some(view) = self.seen(name, &array.tensor)? else { continue };
            let constant = Array::new(view.detach(), array.element)?.to_constant()?;
            for &(node, input) in index.readers(value) {
                edits.push(Edit::SetInput { node, input, constant: constant.clone() });
            }
        }
        Ok(edits)
    }
}

impl std::fmt::Debug for FakeQuantizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layers = counted(self.weights.len(), "layer");
        write!(f, "FakeQuantizer({}, {layers})", self.params.method.name)
    }
}
