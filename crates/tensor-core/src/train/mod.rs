//! Training: one loop for every technique.
//!
//! [`train`] runs a [`Job`]: a graph, data, [`Params`] and a list of [`Plugin`]s, through which a
//! technique takes part. Distillation with quantization in training is a list of two plug-ins, not
//! another loop. [`Parameters`] tells from the operators which constants of a graph are trained.

#[cfg(feature = "train")]
mod augment;
#[cfg(feature = "train")]
mod average;
#[cfg(feature = "train")]
mod checkpoint;
#[cfg(feature = "train")]
mod evaluate;
#[cfg(feature = "train")]
mod feed;
mod initialize;
mod loss;
#[cfg(feature = "train")]
mod optimizer;
mod parameters;
#[cfg(feature = "train")]
mod params;
mod plugin;
#[cfg(feature = "train")]
mod reduced;
#[cfg(feature = "train")]
mod report;
#[cfg(feature = "train")]
mod restored;
#[cfg(feature = "train")]
mod run;
mod schedule;
mod scores;
#[cfg(feature = "train")]
mod trainer;
#[cfg(feature = "train")]
mod views;

#[cfg(feature = "train")]
pub use crate::kernels::Precision;
#[cfg(feature = "train")]
pub use augment::Augment;
#[cfg(feature = "train")]
pub use evaluate::Score;
pub use loss::{cross_entropy, log_softmax};
#[cfg(feature = "train")]
pub use optimizer::Optimizer;
pub use parameters::{Parameter, Parameters, Role, prepare};
#[cfg(feature = "train")]
pub use params::{Keep, Length, Params};
pub use plugin::{Extra, Mode, Moment, Outline, Plugin, Step};
#[cfg(feature = "train")]
pub use reduced::reduced_layers;
#[cfg(feature = "train")]
pub use report::{Planned, Point, Processes, Rate, Report};
#[cfg(feature = "train")]
pub use run::{Job, Trained, plan, train};
pub use schedule::Schedule;
pub use scores::scores;

#[cfg(all(test, feature = "train"))]
mod reference_tests;
