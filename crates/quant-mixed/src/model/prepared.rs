//! A model with what is known about its activations: all that is needed to quantize it to any bits.

use super::build::{Numbers, Seen, build};
use super::calibrate::calibrate;
use super::layers::{Layer, Left, find_layers};
use super::sites::{Sites, find_sites};
use super::weights::{QuantizedWeight, WeightQuantizer, quantizer};
use crate::Histogram;
use crate::bits::Assignment;
use crate::clip::{ClipChoice, Distribution, Target};
use crate::quantizer::Affine;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tensor_core::graph::{Graph, Index};
use tensor_core::progress::Progress;
use tensor_core::rewrite::{self, Stored, fold_batch_norm};
use tensor_core::run::{self, Array, Facts};
use tensor_core::{Error, Result};

/// How ranges are found.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeParams {
    /// Where the range of activations ends.
    pub clip: ClipChoice,
    /// Where the range of weights ends.
    pub weight_clip: ClipChoice,
    /// A scale for each output of a layer, or one for all.
    pub per_channel: bool,
    /// What weights become.
    pub weight_quantizer: WeightQuantizer,
    /// Layers that stay float; `*` matches any text.
    pub exclude: Vec<String>,
}

impl Default for RangeParams {
    fn default() -> Self {
        Self {
            clip: ClipChoice::MSE,
            weight_clip: ClipChoice::MSE,
            per_channel: true,
            weight_quantizer: WeightQuantizer::Linear,
            exclude: Vec::new(),
        }
    }
}

impl RangeParams {
    /// Checks the size of blocks.
    ///
    /// # Errors
    /// `E0500` unless it is from 2 to 65536.
    pub(super) fn check(&self) -> Result<()> {
        match self.weight_quantizer {
            WeightQuantizer::Blocks(size) if !(2..=65_536).contains(&size) => {
                let message = format!("blocks should have 2 to 65536 inputs, but have {size}");
                Err(Error::invalid(message).code_is("E0500"))
            }
            _ => Ok(()),
        }
    }
}

/// A float model, its layers, and how their activations are distributed.
pub struct Prepared {
    /// The model, BatchNormalization folded.
    pub graph: Graph,
    /// What is known about its values.
    pub facts: Facts,
    /// Its layers, in execution order.
    pub layers: Vec<Layer>,
    /// Layers that stay float.
    pub left: Vec<Left>,
    /// BatchNormalizations that were folded.
    pub folded_batch_norms: usize,
    /// Calibration samples.
    pub samples: usize,
    pub(crate) shapes: BTreeMap<String, Vec<usize>>,
    pub(super) sites: Sites,
    /// One for each class of values with one scale.
    pub(super) histograms: Vec<Histogram>,
    pub(super) params: RangeParams,
    /// Nearest weights by layer and bits, as a search asks for the same ones again.
    cache: Mutex<BTreeMap<(usize, u8), Arc<QuantizedWeight>>>,
}

impl Prepared {
    /// Folds BatchNormalization and runs the calibration data once.
    ///
    /// `batches` hold the calibration samples; each lists arrays in the order of the graph's
    /// inputs. `shapes` are the input shapes for inference, as for [`tensor_core::run::infer`].
    ///
    /// # Errors
    /// `E0144` without data, `E0501` when there is no layer, `E0502` when a name is unknown,
    /// `E0503` when a value is not finite, `E0504` when the model is quantized already.
    pub fn new(
        graph: &Graph,
        shapes: &BTreeMap<String, Vec<usize>>,
        batches: &[Vec<Array>],
        params: &RangeParams,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let folded = rewrite::apply(graph, &fold_batch_norm(graph)?)?;
        let folded_batch_norms = graph.nodes.len() - folded.nodes.len();
        Self::of(folded, folded_batch_norms, shapes, batches, params, progress)
    }

    /// As [`new`](Self::new), for a graph on which everything that is to be folded is.
    pub(super) fn of(
        graph: Graph,
        folded_batch_norms: usize,
        shapes: &BTreeMap<String, Vec<usize>>,
        batches: &[Vec<Array>],
        params: &RangeParams,
        progress: &dyn Progress,
    ) -> Result<Self> {
        if let Some(id) = graph.node_ids().find(|id| graph.node(*id).op == "QuantizeLinear") {
            return Err(Error::invalid("the model is quantized already")
                .code_is("E0504")
                .in_node(graph.describe(id))
                .hint("give the float model that it was made from"));
        }
        if batches.is_empty() {
            return Err(
                Error::invalid("quantizing activations needs calibration data").code_is("E0144")
            );
        }
        let facts = run::infer(&graph, shapes)?;
        let (layers, left) = find_layers(&graph, &facts, &params.exclude)?;
        if layers.is_empty() {
            let reasons: Vec<_> =
                left.iter().map(|left| format!("`{}`: {}", left.key, left.reason)).collect();
            return Err(Error::unsupported("no layer can be quantized").code_is("E0501").hint(
                match reasons.as_slice() {
                    [] => "it takes convolutions or matrix products with constant weights".into(),
                    reasons => reasons.join("; "),
                },
            ));
        }
        let sites = match params.weight_quantizer {
            WeightQuantizer::Linear => find_sites(&graph, &facts, &layers),
            _ => Sites::none(),
        };
        let histograms = calibrate(&graph, &facts, &sites, batches, progress)?;
        let samples =
            batches.iter().filter_map(|batch| batch.first()?.dims().first().copied()).sum();
        Ok(Self {
            graph,
            facts,
            layers,
            left,
            folded_batch_norms,
            samples,
            shapes: shapes.clone(),
            sites,
            histograms,
            params: params.clone(),
            cache: Mutex::default(),
        })
    }

    /// The layer of a key.
    pub fn layer(&self, key: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.key == key)
    }

    /// The float weight of a layer, in its own layout.
    ///
    /// # Errors
    /// When the layer is not of this model.
    pub fn weight(&self, layer: &Layer) -> Result<Vec<f32>> {
        let index = Index::new(&self.graph);
        Stored::required(&self.graph, &index, layer.node, 1)?.constant.to_f32s()
    }

    /// The float bias of a layer, empty where it has none.
    pub(super) fn bias(&self, layer: &Layer) -> Result<Vec<f32>> {
        if !layer.has_bias {
            return Ok(Vec::new());
        }
        let index = Index::new(&self.graph);
        Stored::required(&self.graph, &index, layer.node, 2)?.constant.to_f32s()
    }

    /// The grids of a layer's weight.
    pub(super) fn weight_grids(
        &self,
        layer: &Layer,
        weight: &[f32],
        bits: u8,
    ) -> Result<crate::quantizer::Quantizer> {
        quantizer(layer, weight, bits, &self.params)
    }

    /// The nearest weights of a layer at these bits.
    ///
    /// # Errors
    /// `E0500` for bits outside of 1 to 8, `E0503` when a weight is not finite.
    pub fn nearest_weight(&self, layer: usize, bits: u8) -> Result<Arc<QuantizedWeight>> {
        let key = (layer, bits);
        let held = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(weight) = held {
            return Ok(weight);
        }
        let found = self.layers.get(layer);
        let found = found.ok_or_else(|| Error::internal(format!("there is no layer {layer}")))?;
        let weight = self.weight(found)?;
        let quantizer = self.weight_grids(found, &weight, bits)?;
        let integers = quantizer.quantize(&found.dims, &weight)?;
        let made = Arc::new(QuantizedWeight { bits, quantizer, integers });
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&made));
        Ok(made)
    }

    /// The grid of a class of activations.
    pub(super) fn activation_grid(&self, class: usize, bits: u8) -> Result<Affine> {
        let values = Distribution::from(&self.histograms[class]);
        let (low, high) = self.params.clip.range(&values, Target { bits, symmetric: false });
        Affine::asymmetric(bits, low, high)
    }

    /// How the values of an activation are distributed, by its name, beside a range that is
    /// represented.
    pub(super) fn seen(&self, value: &str, (low, high): (f32, f32)) -> Option<Seen> {
        /// Intervals that a report shows.
        const BINS: usize = 24;
        let histogram = &self.histograms[self.sites.class(self.graph.find(value)?)?];
        let range = histogram.range();
        let width = f64::from(range.1) - f64::from(range.0);
        let total = histogram.total().max(1) as f64;
        let (mut bins, mut outside) = (vec![0; BINS], 0);
        for (at, count) in histogram.points() {
            let share = (f64::from(at) - f64::from(range.0)) / width.max(f64::MIN_POSITIVE);
            bins[((share * BINS as f64) as usize).min(BINS - 1)] += count;
            outside += if (low..=high).contains(&at) { 0 } else { count };
        }
        let zeros = histogram.zeros() as f64 / total;
        Some(Seen { range, outside: outside as f64 / total, zeros, bins })
    }

    /// Bits of a class of activations: enough for every layer that reads it, and those of the others
    /// where something else reads it too.
    pub(super) fn class_bits(&self, class: usize, bits: &Assignment) -> u8 {
        let readers =
            self.layers.iter().filter(|layer| self.sites.class(layer.input) == Some(class));
        let most = readers.map(|layer| bits.of(&layer.key).activations).max();
        let others = bits.others.activations;
        match (most, self.sites.classes[class].is_shared) {
            (Some(most), false) => most,
            (Some(most), true) => most.max(others),
            (None, _) => others,
        }
    }

    /// The same layers and ranges for a graph that differs in constants alone.
    #[cfg(feature = "train")]
    pub(super) fn with_constants(&self, graph: Graph) -> Self {
        Self {
            graph,
            facts: self.facts.clone(),
            layers: self.layers.clone(),
            left: self.left.clone(),
            folded_batch_norms: self.folded_batch_norms,
            samples: self.samples,
            shapes: self.shapes.clone(),
            sites: self.sites.clone(),
            histograms: self.histograms.clone(),
            params: self.params.clone(),
            cache: Mutex::default(),
        }
    }

    /// The quantized model with nearest weights: running it in a
    /// [`Session`](tensor_core::run::Session) computes what a runtime computes with integers.
    ///
    /// # Errors
    /// `E0500` and `E0502` when bits or names are wrong.
    pub fn simulate(&self, bits: &Assignment) -> Result<Graph> {
        self.nearest(bits, |layer| self.bias(layer))
    }

    /// The quantized model as [`quantize`](super::quantize()) lays it out: layers that can have a bias
    /// have one.
    ///
    /// # Errors
    /// As [`simulate`](Self::simulate).
    pub(crate) fn laid_out(&self, bits: &Assignment) -> Result<Graph> {
        self.nearest(bits, |layer| match self.bias(layer)? {
            none if none.is_empty() && layer.takes_bias => Ok(vec![0.0; layer.outputs()]),
            bias => Ok(bias),
        })
    }

    fn nearest(
        &self,
        bits: &Assignment,
        bias: impl Fn(&Layer) -> Result<Vec<f32>>,
    ) -> Result<Graph> {
        bits.check(self.layers.iter().map(|layer| layer.key.as_str()))?;
        let weights = self.layers.iter().enumerate();
        let weights = weights
            .map(|(i, layer)| self.nearest_weight(i, bits.of(&layer.key).weights))
            .collect::<Result<Vec<_>>>()?;
        let weights: Vec<&QuantizedWeight> = weights.iter().map(AsRef::as_ref).collect();
        let biases = self.layers.iter().map(bias).collect::<Result<Vec<_>>>()?;
        let numbers = Numbers { weights: &weights, biases: &biases, scales: &BTreeMap::new() };
        Ok(build(self, bits, numbers)?.graph)
    }
}
