//! Execution of graphs on candle tensors.

mod array;
mod facts;
mod session;

pub use array::Array;
pub use facts::{Fact, Facts, infer};
pub use session::{Session, Tap};
