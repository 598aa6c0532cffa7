//! Measurements by engines that are not our own executor: outputs, accuracy, latency.
//!
//! [`engine`] gives ONNX Runtime when its library is found on this machine, else the embedded
//! `rten`. [`compare`](compare::compare) runs two models over the same batches, and
//! [`latency`](latency::measure) times models in turn, so that a change of the machine's speed
//! meets all of them alike.

pub mod compare;
pub mod cpu;
mod discover;
mod engine;
pub mod latency;
mod onnxruntime;
mod rten;
pub mod statistics;
pub mod top_k;

pub use engine::{Choice, Engine, Named, Runner, Selected, check_named, engine};
