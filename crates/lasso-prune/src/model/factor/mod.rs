//! Factorization of whole models, from shallow to deep.

mod curves;
mod fit;
mod forms;
mod params;
mod report;
mod split;
mod three;
mod walk;

pub use forms::Form;
pub use params::FactorParams;
pub use report::{FactorReport, FactoredLayer};
pub use three::{ThreeC, ThreeReport, three_c};
pub use walk::{Factored, factorize};
