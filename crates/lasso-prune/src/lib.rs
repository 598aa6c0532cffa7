//! Channel pruning: choose which input channels of a layer stay, then refit its weights by least
//! squares so that its responses change as little as possible (He, Zhang and Sun, "Channel pruning
//! for accelerating very deep neural networks", ICCV 2017).
//!
//! # Objective
//!
//! A layer with `c` input channels maps sampled inputs `X_i` (`S` rows of the columns that channel
//! `i` owns, the `kh * kw` patch entries of a convolution) to responses `Y` (`S x n`, before the
//! bias). To keep `c'` channels,
//!
//! ```text
//! (1)  min over beta, W   1/2 |Y - sum_i beta_i X_i W_i^T|^2                     with |beta|_0 <= c'
//! (2)  min over beta      1/2 |Y - sum_i beta_i X_i W_i^T|^2 + lambda |beta|_1   (selection)
//!      min over W', b     |Y - X_K W'^T - 1 b^T|^2   for the kept channels K     (reconstruction)
//! ```
//!
//! `X` comes from the network as it is now, `Y` from the original, so that errors of earlier layers
//! are absorbed. Everything is computed from the second moments of `X` and `Y`
//! ([`tensor_core::calibrate`]), about their means, in `f64`; the data is not needed again.
//!
//! # Parts
//!
//! * [`Problem`] and [`Task`]: a layer, and the set of layers that share the channels to choose from;
//! * [`Method`] and [`Selector`]: how channels are chosen. `obs` removes one channel at a time,
//!   exactly in the error after reconstruction ([`eliminate`]); `lasso` follows the exact path of (2)
//!   ([`lasso_path`]); `lasso-cd` and `lasso-linfa` solve (2) for one `lambda` at a time. Both end
//!   with exchanges of single channels while the error of (1) falls ([`exchange`]). `first-k` and
//!   `max-response` are the baselines of the paper;
//! * [`error_curve`]: the reconstruction error for every number of channels, without a forward pass;
//! * [`reconstruct`]: the new weights and the intercept.
//!
//! Parameters are those of [`SelectionParams`]. It differs from the authors' code in these points:
//! all sampled positions take part in the selection, the count is exact (theirs may exceed it by a
//! tenth), the path replaces their search for `lambda`, and exchanges follow (`exchanges(0)` switches
//! them off).
//!
//! # Example
//!
//! ```
//! use lasso_prune::{Problem, SelectionParams, Task, contiguous_blocks, error_curve, reconstruct};
//! use tensor_core::calibrate::Moments;
//!
//! // A matrix product of four channels with one column each; the last repeats the first.
//! let x: Vec<f32> = (0..200)
//!     .flat_map(|s: i32| {
//!         let noise = |k: i32| ((s * k) % 101) as f32 / 101.0;
//!         [noise(7), noise(31), noise(53), noise(7)]
//!     })
//!     .collect();
//! let w: [f32; 8] = [1.0, 0.1, -2.0, 1.0, 0.5, 0.0, 1.0, 0.5];
//! let mut y = Vec::new();
//! for x in x.chunks(4) {
//!     for w in w.chunks(4) {
//!         y.push(w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>());
//!     }
//! }
//!
//! let mut moments = Moments::new(4, 2)?;
//! moments.push(&x, &y)?;
//! let task = Task::new(vec![Problem::new(moments, &w, contiguous_blocks(4, 1))?])?;
//!
//! let params = SelectionParams::new().method("lasso").check()?;
//! let kept = params.selector().select(&task, 2)?;
//! assert_eq!(kept, [0, 2]);
//!
//! // The first channel takes over the weight of its copy; channel 1 hardly matters.
//! let new = reconstruct(&task.problems()[0], &kept, params.ridge())?;
//! assert!((new.weight[0] - 2.0).abs() < 0.1);
//! assert!(new.relative_error < 0.01);
//!
//! let order = params.selector().order(&task)?;
//! let curve = error_curve(&task, &order, params.ridge())?;
//! assert!((curve[0] - 1.0).abs() < 1e-9 && curve[3] < 1e-5);
//! # Ok::<(), tensor_core::Error>(())
//! ```

mod baseline;
mod coordinate_descent;
#[cfg(feature = "linfa")]
mod elastic_net;
mod error_curve;
mod exchange;
pub mod factor;
mod held_out;
mod held_out_kernel;
mod held_out_path;
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
pub use exchange::exchange;
pub use factor::{ReducedRank, Spatial, reduced_rank};
pub use held_out::{best_ridge, error_on};
pub use held_out_path::held_out_errors;
pub use homotopy::{Event, Knot, Path, lasso_path};
pub use lasso_system::LassoSystem;
pub use model::{
    Attention, Budget, Calibration, Compared, CurvePoint, FrozenReport, Inputs, LayerReport, Limit,
    PathStep, Plan, PlannedCost, PlannedSet, Predicted, PredictedTime, PruneParams, PruneReport,
    Pruned, RoundingReport, RoundingTrial, STATISTICS_SCHEMA, SetReport, Source, Streams, Study,
    ValidPruneParams, Widths, calibrate, narrowed, plan, prune,
};
pub use model::{FactorParams, FactorReport, Factored, FactoredLayer, Form, factorize};
#[cfg(feature = "train")]
pub use model::{RefineParams, RefineReport, Refined, check_refine, refine};
pub use model::{Split, ThreeC, ThreeCReport, three_c};
pub use obs::{Elimination, eliminate};
pub use params::{SelectionParams, ValidSelection};
pub use problem::{Problem, Task, contiguous_blocks};
pub use reconstruct::{Reconstruction, reconstruct};
pub use selector::{METHODS, Method, Selector};
