//! Pruning whole models: widths from error curves, then layer by layer from shallow to deep.

mod allot;
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
mod refit;
mod report;
mod scope;
mod sets;
mod study;
mod trial;
mod widths;

pub use factor::{FactorParams, FactorReport, Factored, FactoredLayer, Form, factorize};
pub use narrow::narrowed;
pub use params::{Budget, Limit, PruneParams, Streams, ValidPruneParams, Widths};
pub use plan::{Plan, PlannedCost, PlannedSet, plan};
pub use prune::{Pruned, prune};
pub use report::{
    CurvePoint, FrozenReport, LayerReport, PathStep, Predicted, PredictedTime, PruneReport,
    RoundingReport, RoundingTrial, SetReport,
};
pub use study::Study;
