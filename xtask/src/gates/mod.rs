//! What `kerf gate` reaches: tables in `benches/gates.md`.

mod ablation;
mod budget;
mod experiment;
mod plot;
mod polarize;

pub(crate) use ablation::run as ablation;
pub(crate) use budget::run as budget;
pub(crate) use experiment::Options;
pub(crate) use polarize::run as polarize;

/// Where the tables are.
const TABLES: &str = "benches/gates.md";
