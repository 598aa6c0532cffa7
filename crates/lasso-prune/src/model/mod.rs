//! Pruning whole models: widths from error curves, then layer by layer from shallow to deep.

mod allot;
#[cfg(feature = "train")]
mod blocks;
mod curves;
mod cut;
mod effect;
mod factor;
mod layers;
mod names;
mod narrow;
mod params;
mod plan;
mod prepare;
mod problems;
mod prune;
mod reference;
mod refit;
mod report;
mod scope;
mod sets;
mod study;
mod trial;
mod widths;

#[cfg(feature = "train")]
pub use blocks::{BlockParams, BlockReport, reconstruct_blocks};
pub use factor::{
    FactorParams, FactorReport, Factored, FactoredLayer, Form, ThreeC, ThreeReport, factorize,
    three_c,
};
pub use narrow::narrowed;
pub use params::{Budget, Limit, PruneParams, Streams, ValidPruneParams, Widths};
pub use plan::{Plan, PlannedCost, PlannedSet, plan};
pub use prune::{Pruned, prune};
pub use reference::{Reference, Response};
pub use report::{
    FrozenReport, LayerReport, Predicted, PredictedTime, PruneReport, RoundingReport,
    RoundingTrial, SetReport,
};
pub use study::Study;
