//! Bits per layer under a budget: what costs latency, energy or bytes on a device is spent where it
//! loses least.
//!
//! A [`Problem`] holds the layers with what each pair of bit widths costs, and the budget. Solvers find
//! [`Bits`] for it, by one of two views of quality:
//!
//! | solver | by |
//! | --- | --- |
//! | [`uniform`] | nothing: the most bits that all layers can have alike |
//! | [`greedy`] | [`Sensitivities`]: the least that is lost per saved cost, step by step |
//! | [`exact`] | the same, the best of all allocations |
//! | [`ddpg`] | the accuracy of whole policies: HAQ's agent (Wang et al., CVPR 2019) |
//!
//! All are held to the same budget, to which no result is an exception, and to the same pins.
//!
//! ```
//! use quant_mixed::search::{
//!     Budget, Limit, Problem, Resource, Rest, Sensitivities, SpaceParams, exact,
//! };
//! use std::collections::BTreeMap;
//! use tensor_core::cost::hardware;
//! use tensor_core::zoo::{self, Options};
//!
//! let options = Options { input: Some([1, 28, 28]), ..Options::default() };
//! let graph = zoo::architecture("lenet")?.build(&options)?;
//! let facts = tensor_core::run::infer(&graph, &BTreeMap::new())?;
//! let layers = hardware::layers(&graph, &facts)?;
//! let device = hardware::find("bismo-edge")?;
//! let budget = Budget { resource: Resource::Latency, limit: Limit::Keep(0.6) };
//! let problem = Problem::new(&layers, Rest::default(), &*device, budget, &SpaceParams::default())?;
//! // Here each bit halves the error; `Sensitivities::measure` finds out.
//! let halving = |bits: u32| 0.25_f64.powi(bits as i32);
//! let sensitivities = Sensitivities::of(layers.len(), |_, bits| (halving(bits), halving(bits)));
//! let found = exact::solve(&problem, &sensitivities);
//! assert!(problem.cost(&found.bits) <= problem.budget());
//! # Ok::<(), tensor_core::Error>(())
//! ```

mod budget;
pub mod ddpg;
pub mod exact;
mod file;
pub mod greedy;
pub mod hessian;
mod problem;
mod sensitivity;
#[cfg(feature = "train")]
mod short_training;
mod simulator;
pub mod trim;
pub mod uniform;

pub use budget::{Budget, Limit, Resource};
pub use file::bytes_beside;
pub use problem::{Bits, Choice, Problem, Rest, SpaceParams};
pub use sensitivity::{LayerSensitivity, Sensitivities};
#[cfg(feature = "train")]
pub use short_training::ShortTraining;
pub use simulator::{Judgement, Samples, Score, Simulator};

use tensor_core::text::near;
use tensor_core::{Error, Result};

/// What a solver goes by, and how it solves.
#[derive(Debug, Clone, Copy)]
pub enum View {
    /// The problem alone.
    Costs(fn(&Problem) -> Result<Vec<Bits>>),
    /// Sensitivities of single layers.
    Sensitivities(fn(&Problem, &Sensitivities) -> Allocation),
    /// What whole allocations do, in episodes: [`ddpg::search`].
    Episodes,
}

/// Bits by sensitivities.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// Bits per layer.
    pub bits: Vec<Bits>,
    /// What is to be said of them.
    pub warning: Option<&'static str>,
}

/// A solver in the registry.
#[derive(Debug)]
pub struct Solver {
    /// Name.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// What it goes by.
    pub view: View,
}

/// All solvers.
pub const SOLVERS: &[Solver] = &[uniform::SOLVER, greedy::SOLVER, exact::SOLVER, ddpg::SOLVER];

/// The solver of that name.
///
/// # Errors
/// `E0557` when there is none.
pub fn solver(name: &str) -> Result<&'static Solver> {
    SOLVERS.iter().find(|solver| solver.name == name).ok_or_else(|| {
        let alike = near(name, SOLVERS.iter().map(|solver| solver.name));
        Error::invalid(format!("no search method `{name}`"))
            .code_is("E0557")
            .hint(format!("there are {alike}"))
    })
}
