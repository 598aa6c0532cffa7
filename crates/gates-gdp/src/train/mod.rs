//! Gates as a plug-in of [the training loop](tensor_core::train) (feature `train`).
//!
//! The graph computes with weights that gates scale by input channel, step 0 with exactly the trained
//! weights. When the run ends the gates are multiplied into the weights, slices of closed ones
//! exactly 0: [`cut_zeros`](crate::model::cut_zeros) makes the small graph of that.

mod history;
mod place;
mod plugin;
mod rival;

pub use history::{BINS, History};
pub use plugin::{Gater, ListReport, TrainParams};
pub use rival::{Method, Rival};
