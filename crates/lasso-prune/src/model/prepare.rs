//! A model made ready for pruning: folded, analysed, sorted into sets, with its goal.

use super::layers::{Layer, find_layers};
use super::names::Names;
use super::params::{Streams, ValidPruneParams, Widths};
use super::scope::Scope;
use super::sets::{Frozen, Set, find_sets};
use super::widths::{Goal, rounding};
use std::collections::BTreeMap;
use tensor_core::calibrate::Sampling;
use tensor_core::channels::{self, Channels};
use tensor_core::graph::{Graph, Node};
use tensor_core::ops;
use tensor_core::progress::Progress;
use tensor_core::rewrite::{self, fold_batch_norm};
use tensor_core::run::{self, Facts};
use tensor_core::{Error, NodeId, Result};

/// Everything that is known before the data.
pub(crate) struct Prepared {
    /// The model, BatchNormalization folded.
    pub(crate) graph: Graph,
    pub(crate) facts: Facts,
    /// With what the file declares behind unknown operators: for counting only.
    pub(crate) counted: Facts,
    pub(crate) channels: Channels,
    pub(crate) layers: Vec<Layer>,
    pub(crate) names: Names,
    pub(crate) parts: Parts,
    pub(crate) folded_batch_norms: usize,
}

/// What depends on how streams are treated.
pub(crate) struct Parts {
    pub(crate) sets: Vec<Set>,
    pub(crate) frozen: Vec<Frozen>,
    pub(crate) goal: Goal,
    /// Channel counts become multiples of this.
    pub(crate) round_to: usize,
}

impl Prepared {
    /// Folds and analyses a model.
    ///
    /// # Errors
    /// `E0143` without prunable channels, `E0142` when an excluded name is unknown.
    pub(crate) fn new(
        original: &Graph,
        shapes: &BTreeMap<String, Vec<usize>>,
        params: &ValidPruneParams,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let graph = rewrite::apply(original, &fold_batch_norm(original)?)?;
        let facts = run::infer(&graph, shapes)?;
        let counted = run::infer_declared(&graph, shapes)?;
        let split = params.params.attention.split();
        let channels = channels::analyze_split(&graph, &facts, split)?;
        let layers = find_layers(&graph, &facts, &channels)?;
        let original_facts = run::infer(original, shapes)?;
        let original_channels = channels::analyze_split(original, &original_facts, split)?;
        let names = Names::new((original, &original_channels), (&graph, &channels));
        params.check_excluded(&names.known())?;
        let model = Model {
            graph: &graph,
            facts: &facts,
            counted: &counted,
            channels: &channels,
            layers: &layers,
        };
        let parts = model.parts(&names, params, progress)?;
        warn_of_layers_behind(&graph, &facts, progress);
        let folded_batch_norms = original.nodes.len() - graph.nodes.len();
        Ok(Self { graph, facts, counted, channels, layers, names, parts, folded_batch_norms })
    }

    /// What all stages look at.
    pub(crate) fn scope<'a>(&'a self, params: &'a ValidPruneParams) -> Scope<'a> {
        Scope {
            graph: &self.graph,
            facts: &self.facts,
            layers: &self.layers,
            sets: &self.parts.sets,
            params,
            sampling: Sampling {
                positions: params.params.positions,
                seed: params.params.seed,
                keep_rows: false,
            },
        }
    }
}

/// Names the layers that cannot be calibrated because an unknown operator comes before them.
fn warn_of_layers_behind(graph: &Graph, facts: &Facts, progress: &dyn Progress) {
    let has_weight = |node: &Node| {
        let constants = node.inputs.iter().flatten().filter_map(|&value| graph.initializer(value));
        constants.into_iter().any(|c| c.element().is_float() && c.dims().len() > 1)
    };
    let is_behind = |id: &NodeId| {
        let node = graph.node(*id);
        let is_known = ops::lookup(&node.domain, &node.op).is_some();
        let lacks = node.outputs.iter().flatten().any(|&value| facts.get(value).is_none());
        is_known && lacks && has_weight(node)
    };
    let behind: Vec<_> = graph.node_ids().filter(is_behind).map(|id| graph.key(id)).collect();
    if !behind.is_empty() {
        progress.warn(&format!(
            "left as they are, because an operator before them is not implemented: {}",
            behind.join(", ")
        ));
    }
}

/// A folded model, analysed.
struct Model<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    counted: &'a Facts,
    channels: &'a Channels,
    layers: &'a [Layer],
}

impl Model<'_> {
    /// The sets, with streams as asked for; [`Streams::Auto`] takes them in where the goal cannot
    /// be met without.
    fn parts(
        &self,
        names: &Names,
        params: &ValidPruneParams,
        progress: &dyn Progress,
    ) -> Result<Parts> {
        let parts = match params.params.streams {
            Streams::Auto if matches!(params.params.widths, Widths::Given(_)) => {
                // What is not named stays whole anyway.
                self.with_streams(Streams::Prune, names, params)?
            }
            Streams::Auto => {
                let kept = self.with_streams(Streams::Keep, names, params)?;
                if !kept.sets.is_empty() && kept.goal.is_feasible(&kept.sets, kept.round_to) {
                    kept
                } else {
                    let pruned = self.with_streams(Streams::Prune, names, params)?;
                    if pruned.sets.len() > kept.sets.len() {
                        progress.warn(
                            "the budget cannot be met while residual streams keep all their \
                             channels, so they are pruned too; `streams = keep` forbids that",
                        );
                    }
                    pruned
                }
            }
            given => self.with_streams(given, names, params)?,
        };
        if parts.sets.is_empty() {
            let reasons: Vec<_> =
                parts.frozen.iter().map(|f| format!("{}: {}", f.name, f.reason)).collect();
            return Err(Error::unsupported(format!(
                "no channels can be pruned; frozen are {}",
                reasons.join("; ")
            ))
            .code_is("E0143")
            .hint("`kerf groups MODEL` explains each group"));
        }
        if parts.round_to < params.params.round_to {
            progress.warn(&format!(
                "with channel counts in multiples of {} the budget cannot be met; multiples of {} \
                 are used, which the runtime may run slower",
                params.params.round_to, parts.round_to
            ));
        }
        Ok(parts)
    }

    fn with_streams(
        &self,
        streams: Streams,
        names: &Names,
        params: &ValidPruneParams,
    ) -> Result<Parts> {
        let Self { graph, facts, counted, channels, layers } = *self;
        let excluded = |name: &str| params.is_excluded(name);
        let (sets, frozen) = find_sets(graph, facts, channels, layers, names, streams, excluded);
        let goal = Goal::new(graph, counted, channels, layers, &sets, &params.params.budget)?;
        let round_to = rounding(&sets, &goal, params);
        Ok(Parts { sets, frozen, goal, round_to })
    }
}
