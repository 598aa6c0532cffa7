//! Execution of graphs on candle tensors.

mod array;
mod backend;
mod facts;
mod fuse;
mod recording;
mod session;
mod sparse;
mod training;

pub use array::{Array, Floats};
pub use backend::{Backend, DeviceName};
pub use facts::{Fact, Facts, infer, infer_all, infer_declared};
pub use recording::{Gradients, Recording};
pub use session::{Session, Tap};
pub use sparse::SparseLayer;
pub use training::{BatchStatistics, Training};
