//! Quantization in training as a plug-in of [the training loop](tensor_core::train) (feature `train`).
//!
//! ```text
//! y = f(Q(x); Q(w)),   w <- w - step(dL/dw),   s <- s - step(dL/ds)
//! ```
//!
//! Every weight and activation that [`quantize`](crate::model::quantize()) makes integers of is
//! quantized in the same place, with the same integers and the same sharing of scales, while the graph
//! trains; gradients pass [straight through](crate::straight_through). What is trained is therefore what
//! is exported, by [`FakeQuantizer::export`].
//!
//! Training begins with the result of post-training quantization: ranges are calibrated, weights rounded
//! and biases corrected, and the float weights lie in the cells of these integers.
//!
//! BatchNormalization is folded before. Normalizing by the statistics of a batch would put another factor
//! on the weights in every step, while the integers of the exported network are those of the folded
//! weights; and folded networks with learned steps need no normalization to train some epochs further.
//!
//! | method | steps of weights | ranges of activations |
//! | --- | --- | --- |
//! | `lsq` | learned | learned steps |
//! | `pact` | learned | learned clips |
//! | `fixed` | calibrated | calibrated |
//!
//! A new method is a [`Method`] and a line in [`METHODS`].

mod methods;
mod params;
mod plugin;
mod report;

pub use methods::{METHODS, Method, method};
pub use params::QatParams;
pub use plugin::FakeQuantizer;
pub use report::{Exported, QatReport, TrainedLayer};
