//! Gates in a graph: where they belong, and how closed channels are cut.
//!
//! A gate is a scale on the slices of a weight that meet the channel, so it costs no activation
//! memory. [`Placement`] finds the weights from the channel labels of
//! [`tensor_core::channels`]; [`cut_zeros`] removes what contributes exactly nothing.

mod blocks;
mod close;
mod cut;
mod placement;
mod weights;

pub use close::close;
pub use cut::{Cut, cut_zeros};
pub use placement::{BranchSite, GateList, Placement, Selection, Site, Ungated};
