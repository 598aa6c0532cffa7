//! Training: one loop for every technique.
//!
//! A technique takes part through [`Plugin`]; distillation with quantization in training is a list
//! of two plug-ins, not another loop. [`Parameters`] tells from the operators which constants of a
//! graph are trained.

mod initialize;
mod parameters;
mod plugin;

pub use parameters::{Parameter, Parameters, Role, prepare};
pub use plugin::{Extra, Mode, Moment, Plugin, Step};
