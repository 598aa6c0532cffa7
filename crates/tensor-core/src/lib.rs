//! The shared core of Kerf: a model graph that is lossless towards ONNX, its execution on
//! [candle](candle_core) tensors, channel groups, patches, calibration statistics, costs and data.
//!
//! Technique crates depend on this crate and on nothing else of ours.

pub mod archive;
pub mod budget;
pub mod calibrate;
pub mod channels;
pub mod cost;
#[cfg(feature = "data")]
pub mod data;
pub mod element;
pub mod error;
pub mod files;
pub mod graph;
pub mod group;
pub mod journal;
pub mod kernels;
#[cfg(feature = "measure")]
pub mod measure;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod ops;
#[cfg(feature = "onnx")]
pub mod pack;
mod portable;
pub mod progress;
pub mod random;
pub mod rewrite;
pub mod run;
pub mod text;
pub mod train;
pub mod zoo;

pub use element::ElementType;
pub use error::{Error, ErrorKind, Result};
pub use graph::{Constant, Graph, Node, NodeId, ValueId};
