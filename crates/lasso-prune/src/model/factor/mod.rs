//! Factorization of whole models, from shallow to deep.

mod curves;
mod fit;
mod forms;
mod params;
mod report;
mod split;
mod walk;

pub use forms::Form;
pub use params::FactorParams;
pub use report::{FactorReport, FactoredLayer};
pub(crate) use walk::Factorizer;
pub use walk::{Factored, factorize};
