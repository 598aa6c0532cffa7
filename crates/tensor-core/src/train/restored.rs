//! Normalizations that exist during a run only.

use super::evaluate::arrays;
use super::feed::Feed;
use super::{Parameters, Params, scores};
use crate::graph::{Graph, Index};
use crate::progress::{self, Progress};
use crate::rewrite::{self, OutputStatistics};
use crate::run::{Array, Session, Tap};
use crate::text::counted;
use crate::{NodeId, Result, ValueId};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Fewest samples in a batch whose statistics are good enough.
const LEAST_BATCH: usize = 16;

/// Operators with weights, between which the network is normalized.
const WEIGHTED: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// A prepared graph, with a BatchNormalization behind layers that had none where that was asked
/// for.
pub(super) struct Restored {
    graph: Graph,
    places: Vec<Place>,
    /// Keys of the layers.
    layers: Vec<String>,
}

/// Where a normalization was put.
struct Place {
    /// What the layer gave and the normalization gives now.
    output: ValueId,
    weight: ValueId,
    /// The bias of the layer, which has no effect during the run.
    bias: ValueId,
}

impl Restored {
    /// Restores normalizations where `params` want it, with the statistics of the first `batches`
    /// batches of the run.
    pub(super) fn new(
        graph: Graph,
        feed: &Feed,
        batches: u64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut layers = match feed.params.restore_norms {
            true => candidates(&graph, feed.params)?,
            false => Vec::new(),
        };
        if !layers.is_empty() && feed.plan.batch < LEAST_BATCH {
            progress.warn(&format!(
                "batches of {} are too small for their statistics: convolutions are trained \
                 without normalization; give {LEAST_BATCH} samples or more",
                counted(feed.plan.batch as u64, "sample")
            ));
            layers.clear();
        }
        if layers.is_empty() {
            return Ok(Self { graph, places: Vec::new(), layers: Vec::new() });
        }
        let found = measure(&graph, &layers, feed, batches, progress)?;
        let mut measured = Vec::new();
        let (mut places, mut keys) = (Vec::new(), Vec::new());
        for id in layers {
            let node = graph.node(id);
            let (Some(output), Some(weight), Some(bias)) =
                (node.output(0), node.input(1), node.input(2))
            else {
                continue;
            };
            let Some(sums) = found.get(&output).filter(|sums| sums.positions > 1) else { continue };
            measured.push((id, sums.statistics()));
            places.push(Place { output, weight, bias });
            keys.push(graph.key(id).to_owned());
        }
        let momentum = momentum(feed.plan.steps);
        let edits = rewrite::insert_batch_norm(&graph, &measured, momentum)?;
        let graph = rewrite::apply(&graph, &edits)?;
        Ok(Self { graph, places, layers: keys })
    }

    /// The graph that is trained.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Keys of the layers that were given a normalization.
    pub(super) fn layers(&self) -> &[String] {
        &self.layers
    }

    /// Does the bias of a normalization stand in for this one during the run?
    pub(super) fn replaces(&self, bias: ValueId) -> bool {
        self.places.iter().any(|place| place.bias == bias)
    }

    /// The parameters with the rates of the run; those of restored normalizations go at the rates
    /// of their layers.
    pub(super) fn parameters(&self, params: &Params) -> Result<Parameters> {
        let mut parameters = Parameters::of(&self.graph)?;
        parameters.scale_rates(params)?;
        let index = Index::new(&self.graph);
        for place in &self.places {
            let norm = index.producer(place.output).map(|id| self.graph.node(id));
            for (input, like) in [(1, place.weight), (2, place.bias)] {
                let own = norm.and_then(|norm| norm.input(input));
                if let (Some(own), Some(rate)) = (own, parameters.rate(like)) {
                    parameters.set_rate(own, rate);
                }
            }
            parameters.set_rate(place.bias, 0.0);
        }
        Ok(parameters)
    }

    /// Folds the restored normalizations of the trained graph away.
    pub(super) fn fold(&self, graph: Graph) -> Result<Graph> {
        if self.places.is_empty() {
            return Ok(graph);
        }
        let index = Index::new(&graph);
        let outputs = self.places.iter().map(|place| place.output);
        let norms: Vec<NodeId> = outputs.filter_map(|output| index.producer(output)).collect();
        rewrite::apply(&graph, &rewrite::fold_batch_norms(&graph, &norms)?)
    }
}

/// The share of the running statistics that each step keeps: they average over about a twentieth of
/// the run, in which weights hardly change at its end, and over 10 batches at least, as is usual.
/// Those of 10 batches alone would be uncertain by more than fine-tuning changes.
fn momentum(steps: u64) -> f32 {
    1.0 - 1.0 / (steps / 20).max(10) as f32
}

/// The layers that may be normalized: not what makes the scores, and nothing frozen.
fn candidates(graph: &Graph, params: &Params) -> Result<Vec<NodeId>> {
    let mut parameters = Parameters::of(graph)?;
    parameters.scale_rates(params)?;
    let last = last_layers(graph, scores(graph)?);
    let is_free = |id: &NodeId| {
        let values = [1, 2].into_iter().filter_map(|input| graph.node(*id).input(input));
        let mut rates = values.map(|value| parameters.rate(value));
        rates.all(|rate| rate.is_some_and(|rate| rate != 0.0))
    };
    let mut layers = rewrite::lacks_batch_norm(graph)?;
    layers.retain(|id| !last.contains(id) && is_free(id));
    Ok(layers)
}

/// The layers with weights that no other such layer separates from the scores.
fn last_layers(graph: &Graph, scores: ValueId) -> BTreeSet<NodeId> {
    let index = Index::new(graph);
    let mut last = BTreeSet::new();
    let mut seen = vec![false; graph.nodes.len()];
    let mut next = vec![scores];
    while let Some(value) = next.pop() {
        let Some(id) = index.producer(value) else { continue };
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        if WEIGHTED.contains(&graph.node(id).op.as_str()) {
            last.insert(id);
        } else {
            next.extend(graph.node(id).inputs.iter().flatten());
        }
    }
    last
}

/// Statistics of what the layers give for the first batches of the run.
fn measure(
    graph: &Graph,
    layers: &[NodeId],
    feed: &Feed,
    batches: u64,
    progress: &dyn Progress,
) -> Result<BTreeMap<ValueId, Sums>> {
    let outputs: BTreeSet<ValueId> =
        layers.iter().filter_map(|&id| graph.node(id).output(0)).collect();
    let targets: Vec<ValueId> = outputs.iter().copied().collect();
    let session = Session::until(graph, &targets)?;
    let mut tap = Outputs { outputs, found: BTreeMap::new() };
    let batches = batches.min(feed.plan.per_epoch).min(feed.plan.steps);
    progress.stage("statistics", usize::try_from(batches).unwrap_or(usize::MAX));
    let set = feed.shuffled(0);
    for step in 0..batches {
        progress::check(progress)?;
        // Each process measures all of it: that is little beside the run, and gives the same bytes.
        let batch = feed.whole_batch(&set, feed.plan.moment(step))?;
        let inputs: Vec<_> = graph.inputs.iter().copied().zip(arrays(graph, &batch)?).collect();
        session.run_for(&inputs, &[], &mut tap)?;
        progress.advance(1, "");
    }
    Ok(tap.found)
}

/// Sums over what some layers give.
struct Outputs {
    outputs: BTreeSet<ValueId>,
    found: BTreeMap<ValueId, Sums>,
}

impl Tap for Outputs {
    fn after(&mut self, value: ValueId, array: &Array) -> Result<()> {
        if let (true, [samples, channels, rest @ ..]) =
            (self.outputs.contains(&value), array.dims())
        {
            let positions = rest.iter().product();
            let sums = self.found.entry(value).or_insert_with(|| Sums::new(*channels, positions));
            sums.add(&array.to_f32s()?, *samples);
        }
        Ok(())
    }

    fn touches(&self, value: ValueId) -> bool {
        self.outputs.contains(&value)
    }
}

/// Sums by channel.
struct Sums {
    /// Values per channel of one sample.
    positions: usize,
    /// Values per channel so far.
    count: usize,
    /// What is taken off values before they are summed: the first one of each channel.
    shift: Vec<f64>,
    /// Sum and sum of squares of each channel.
    sums: Vec<(f64, f64)>,
}

impl Sums {
    fn new(channels: usize, positions: usize) -> Self {
        Self { positions, count: 0, shift: vec![0.0; channels], sums: vec![(0.0, 0.0); channels] }
    }

    /// Adds values in the order samples, channels, positions. A channel is summed by one thread, so
    /// the order of the sum does not depend on their number.
    fn add(&mut self, values: &[f32], samples: usize) {
        let (channels, positions) = (self.sums.len(), self.positions);
        let is_first = self.count == 0;
        let all = self.sums.par_iter_mut().zip(&mut self.shift).enumerate();
        all.for_each(|(channel, (sums, shift))| {
            for sample in 0..samples {
                let start = (sample * channels + channel) * positions;
                let Some(own) = values.get(start..start + positions) else { continue };
                if let (true, 0, Some(&first)) = (is_first, sample, own.first()) {
                    *shift = f64::from(first);
                }
                for &value in own {
                    let value = f64::from(value) - *shift;
                    sums.0 += value;
                    sums.1 += value * value;
                }
            }
        });
        self.count += samples * positions;
    }

    fn statistics(&self) -> OutputStatistics {
        let count = self.count.max(1) as f64;
        let mut statistics = OutputStatistics::default();
        for (&(sum, squares), shift) in self.sums.iter().zip(&self.shift) {
            let mean = sum / count;
            statistics.mean.push(mean + shift);
            statistics.variance.push((squares / count - mean * mean).max(0.0));
        }
        statistics
    }
}
