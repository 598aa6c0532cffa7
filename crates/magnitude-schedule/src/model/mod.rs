//! Sparsifying whole models after training, layer by layer from shallow to deep.
//!
//! # Objective
//!
//! ```text
//! min over masks M and W'   |Y - X (M W')^T - 1 b^T|^2 + ridge |M W' - W|^2
//! ```
//!
//! for each layer, with inputs `X` of the network as it is by then and responses `Y` of the original.
//! Weights go one unit (a weight, or a block of them) at a time, each time the one with the least
//! `w_q ([H^-1]_qq)^-1 w_q^T` where all others may move ([`Method::Obs`]); rows of an unstructured
//! layer compete for zeros. What stays is the exact minimum. Layers too large for that lose many
//! weights per round by `w^2 / [H^-1]_jj`, and conjugate gradients solve for the others.

mod allot;
mod eliminate;
mod exact;
mod fit;
mod layers;
mod linear;
mod params;
mod quadratic;
mod report;
mod sparsify;
mod wide;

pub use params::{Method, SparsifyParams, Spread, ValidSparsifyParams};
pub use report::{SparseLayer, SparsifyReport};
pub use sparsify::{Sparsified, sparsify};
