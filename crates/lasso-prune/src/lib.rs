//! Channel selection and least-squares reconstruction.

mod baseline;
mod coordinate_descent;
#[cfg(feature = "linfa")]
mod elastic_net;
mod error_curve;
mod homotopy;
mod lasso;
mod lasso_system;
mod linalg;
mod model;
mod obs;
mod params;
mod penalty_search;
mod problem;
mod reconstruct;
mod selector;

pub use error_curve::error_curve;
pub use homotopy::{Event, Knot, Path, lasso_path};
pub use lasso_system::LassoSystem;
pub use model::{
    Budget, FrozenReport, LayerReport, Limit, PruneParams, PruneReport, Pruned, SetReport, Streams,
    ValidPruneParams, Widths, prune,
};
pub use obs::{Elimination, eliminate};
pub use params::{SelectionParams, ValidSelection};
pub use problem::{Problem, Task, contiguous_blocks};
pub use reconstruct::{Reconstruction, reconstruct};
pub use selector::{METHODS, Method, Selector};
