//! A precision that a network does not use.

use crate::console::Console;
use tensor_core::data::Dataset;
use tensor_core::run::DeviceName;
use tensor_core::train::{Params, Precision, reduced_layers};
use tensor_core::{Graph, Result};

/// Says when `--precision` changes nothing, and why.
pub(super) fn warn(graph: &Graph, set: &Dataset, params: &Params, console: &Console) -> Result<()> {
    if params.precision == Precision::F32 || reduced_layers(graph, set, params)? > 0 {
        return Ok(());
    }
    let why = match params.device {
        DeviceName::Cpu => {
            "no convolution is ungrouped with at least 8 input and 8 output channels".to_owned()
        }
        device => format!("on `{device}` all is computed in 32-bit floats"),
    };
    console.warn(&format!("--precision bf16 changes nothing: {why}"));
    Ok(())
}
