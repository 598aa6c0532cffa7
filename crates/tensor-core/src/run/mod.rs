//! Execution of graphs on candle tensors.

mod array;
mod facts;
mod fuse;
mod session;
mod training;

pub use array::Array;
pub use facts::{Fact, Facts, infer, infer_all, infer_declared};
pub use session::{Session, Tap};
pub use training::{BatchStatistics, Training};
