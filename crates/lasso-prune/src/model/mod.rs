//! Pruning whole models: widths from error curves, then layer by layer from shallow to deep.

mod allot;
mod calibration;
mod curves;
mod cut;
mod effect;
mod evidence;
mod factor;
mod layers;
mod names;
mod narrow;
mod outputs;
mod params;
mod plan;
mod prepare;
mod problems;
mod prune;
#[cfg(feature = "train")]
mod refine;
mod refit;
mod report;
mod scope;
mod sets;
mod source;
mod study;
mod three_c;
mod trial;
mod widths;

pub use calibration::{Calibration, SCHEMA as STATISTICS_SCHEMA, calibrate};
pub use factor::{FactorParams, FactorReport, Factored, FactoredLayer, Form, factorize};
pub use narrow::narrowed;
pub use params::{
    Attention, Budget, Inputs, Limit, PruneParams, Streams, ValidPruneParams, Widths,
};
pub use plan::{Plan, PlannedCost, PlannedSet, plan};
pub use prune::{Compared, Pruned, prune};
#[cfg(feature = "train")]
pub use refine::{RefineParams, RefineReport, Refined, check_refine, refine};
pub use report::{
    CurvePoint, FrozenReport, LayerReport, PathStep, Predicted, PredictedTime, PruneReport,
    RoundingReport, RoundingTrial, SetReport,
};
pub use source::Source;
pub use study::Study;
pub use three_c::{Split, ThreeC, ThreeCReport, three_c};
