//! Flags that say where samples come from and how they are prepared.

use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Data flags.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Data options")]
pub(crate) struct DataArgs {
    /// Samples: an IDX file, a folder of images, .npz, .npy, .safetensors, or ONNX test data
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Labels, where they are apart from the samples
    #[arg(long, value_name = "PATH")]
    pub(crate) labels: Option<PathBuf>,
    /// File with the preprocessing flags below; a flag given here replaces its value
    #[arg(long, value_name = "FILE")]
    pub(crate) preprocess: Option<PathBuf>,
    /// Resize to a shorter side `N` or to `HxW`
    #[arg(long, value_name = "SIZE")]
    pub(crate) resize: Option<String>,
    /// Centre crop to `N` x `N` or `HxW`
    #[arg(long, value_name = "SIZE")]
    pub(crate) crop: Option<String>,
    /// Subtract, on pixels scaled to 0..1: one value or one per channel, `0.485,0.456,0.406`
    #[arg(long, value_name = "VALUES", allow_hyphen_values = true)]
    pub(crate) mean: Option<String>,
    /// Divide by, after the mean: one value or one per channel
    #[arg(long, value_name = "VALUES")]
    pub(crate) std: Option<String>,
    /// Axis order of the model's image input, `nchw` or `nhwc` [default: from the model]
    #[arg(long, value_name = "ORDER")]
    pub(crate) layout: Option<String>,
    /// Use at most N samples [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) samples: Option<u64>,
    /// Samples per forward pass
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(crate) batch: u64,
}
