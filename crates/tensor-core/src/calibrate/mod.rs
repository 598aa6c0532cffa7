//! Calibration statistics: what a layer's inputs and responses look like on data.
//!
//! For a layer that maps a row `x` of `p` inputs (for a convolution: the patch of one output
//! position, `channels * kernel height * kernel width` numbers) to `n` responses `y`, sample `S`
//! rows and keep either
//!
//! * [`Moments`]: `S, sum x, sum y, G = X^T X, R = X^T Y` and `sum y^2` per output. Memory does not
//!   grow with `S`, and statistics of several batches, threads or machines add up;
//! * [`Rows`]: `X` and `Y` themselves, for layers with more inputs than sampled rows (a fully
//!   connected layer behind a flatten), where `G` would be larger than `X`.
//!
//! Both are kept for two halves of the samples, so that what is fitted on one can be judged on the other. The halves
//! are blocks of neighbours in turn ([`Replay::is_odd`]): neighbours are often alike.
//!
//! Machines: [`Batches`] of several processes are one calibration set, and [`collect`] gives all of them
//! the statistics of all samples.
//!
//! [`Statistics::new`] chooses between them. Channel selection, least-squares reconstruction and
//! data-aware quantization are functions of these numbers alone and never see the data again.

mod batches;
mod checks;
mod collect;
mod halves;
mod linear;
mod moments;
mod panels;
mod replay;
mod rows;
mod statistics;
mod stored;
mod sum;

pub use batches::Batches;
pub use collect::{Collected, Place, Sampling, Walk, collect, shortcut};
use halves::Halves;
pub use linear::{Convolution, LinearMap, LinearShape, Product, TransposedConvolution};
pub use moments::{Centred, Moments};
pub use replay::{Held, Move, Moved, Replay};
pub use rows::{CentredRows, Rows};
pub use statistics::{Statistics, StatisticsLimits};
pub use stored::Parts;
