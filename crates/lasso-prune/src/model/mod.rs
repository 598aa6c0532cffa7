//! Pruning whole models: widths from error curves, then layer by layer from shallow to deep.

mod allot;
mod curves;
mod cut;
mod effect;
mod layers;
mod names;
mod params;
mod plan;
mod prepare;
mod problems;
mod prune;
mod refit;
mod report;
mod scope;
mod sets;
mod trial;
mod widths;

pub use params::{Budget, Limit, PruneParams, Streams, ValidPruneParams, Widths};
pub use plan::{Plan, PlannedCost, PlannedSet, plan};
pub use prune::{Pruned, prune};
pub use report::{
    FrozenReport, LayerReport, Predicted, PruneReport, RoundingReport, RoundingTrial, SetReport,
};
