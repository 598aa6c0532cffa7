//! Flags of `kerf sparsify`.

use super::super::one_shot::OneShotArgs;
use crate::flags;
use crate::units;
use clap::Args;
use magnitude_schedule::Pattern;
use magnitude_schedule::model::{Method, SparsifyParams, Spread};
use serde::Serialize;
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf sparsify`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct SparsifyArgs {
    #[command(flatten)]
    #[serde(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) common: OneShotArgs,
}

/// Which weights become zero.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Method")]
struct MethodArgs {
    /// Share of zeros in the pruned layers together, such as `50%` [default: what the pattern has]
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_sparsity)]
    sparsity: Option<f64>,
    /// Which weights are zero together: unstructured, N:M such as 2:4 (N of M inputs stay),
    /// block:HxW (outputs x inputs) or rows
    #[arg(long, value_name = "PATTERN", default_value = "unstructured", value_parser = flags::read::<Pattern>)]
    pattern: Pattern,
    /// How weights are chosen: obs (by what the response loses; the others make up for it) or
    /// magnitude (the smallest; the others stay)
    #[arg(long, value_name = "NAME", default_value = "obs", value_parser = flags::read::<Method>)]
    method: Method,
    /// How zeros are spread over the layers: uniform, global (smallest magnitudes), erk (narrow
    /// layers stay denser) or error (where the responses lose least)
    #[arg(long, value_name = "NAME", default_value = "uniform", value_parser = flags::read::<Spread>)]
    distribution: Spread,
    /// Layers or weights that stay dense; `*` matches any text (repeatable)
    #[arg(long, value_name = "PATTERN")]
    dense: Vec<String>,
    /// Prune what stays dense otherwise too: the first convolution, depthwise ones, and with
    /// `--pattern rows` what makes the outputs
    #[arg(long)]
    all_layers: bool,
}

impl SparsifyArgs {
    /// The parameters.
    pub(super) fn params(&self) -> Result<SparsifyParams> {
        let method = &self.method;
        let sparsity = sparsity(method.sparsity, method.pattern)?;
        Ok(SparsifyParams {
            sparsity,
            pattern: method.pattern,
            method: method.method,
            spread: method.distribution,
            dense: method.dense.clone(),
            all: method.all_layers,
            positions: self.common.sampling.positions(),
            seed: self.common.shared.seed,
            memory: self.common.sampling.memory(),
            ..SparsifyParams::default()
        })
    }
}

/// The sparsity that was asked for, or that of the pattern.
///
/// # Errors
/// `E0010` when neither says it; `E0431` when they differ.
fn sparsity(given: Option<f64>, pattern: Pattern) -> Result<f64> {
    match (given, pattern.own_sparsity()) {
        (Some(given), Some(own)) if (given - own).abs() > 1e-9 => {
            let message = format!(
                "`{pattern}` has a sparsity of {}, not of {}",
                units::percent(own),
                units::percent(given)
            );
            Err(Error::new(ErrorKind::Invalid, "E0431", message)
                .hint("leave `--sparsity` out, or choose another pattern"))
        }
        (_, Some(own)) => Ok(own),
        (Some(given), None) => Ok(given),
        (None, None) => Err(Error::new(ErrorKind::Invalid, "E0010", "no sparsity was given")
            .hint("say how many weights become zero, such as `--sparsity 50%`")),
    }
}
