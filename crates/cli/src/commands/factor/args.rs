//! Flags of `kerf factor`.

use super::super::one_shot::OneShotArgs;
use crate::args::{BudgetArgs, RoundTo, TimeArgs};
use clap::Args;
use lasso_prune::{Budget, FactorParams, PruneParams};
use serde::Serialize;
use tensor_core::cost::Price;
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf factor`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct FactorArgs {
    #[command(flatten)]
    #[serde(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    #[serde(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    #[serde(flatten)]
    kinds: KindArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) common: OneShotArgs,
    /// Do not measure latency
    #[arg(long, help_heading = "Proof")]
    pub(super) no_bench: bool,
}

/// Into what convolutions are factorized.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Method")]
struct KindArgs {
    /// Convolutions of `k x k` become `k x 1` and `1 x k` [default: with --channel]
    #[arg(long)]
    spatial: bool,
    /// Convolutions become one of fewer outputs and a `1 x 1` one [default: with --spatial]
    #[arg(long)]
    channel: bool,
    /// Then prune channels, the ranks among them, under the same budget: 3C
    #[arg(long)]
    prune: bool,
    /// With `--prune`, channel counts become multiples of N, as in `kerf prune`
    #[arg(long, value_name = "N", default_value = "auto", requires = "prune")]
    round_to: RoundTo,
}

impl FactorArgs {
    /// The budget.
    ///
    /// # Errors
    /// `E0010` without one.
    pub(super) fn budget(&self) -> Result<Budget> {
        self.time.budget()?.or_else(|| self.budget.budget()).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "E0010", "no budget was given").hint(
                "say what to keep: `--macs 50%`, `--params 50%`, `--size 60%` or `--latency 60%`, or an \
                 upper bound with `--max-macs 1.2G`",
            )
        })
    }

    /// The parameters.
    ///
    /// # Errors
    /// As [`budget`](Self::budget).
    pub(super) fn params(&self) -> Result<FactorParams> {
        let KindArgs { spatial, channel, .. } = self.kinds;
        let common = &self.common;
        let defaults = FactorParams::default();
        Ok(FactorParams {
            budget: self.budget()?,
            spatial: spatial || !channel,
            channel: channel || !spatial,
            positions: common.sampling.positions(),
            seed: common.shared.seed,
            memory: common.sampling.memory(),
            ..defaults
        })
    }

    /// The parameters of the pruning that follows, if one does.
    ///
    /// # Errors
    /// `E0010` without a budget, `E0141` with one of time.
    pub(super) fn pruning(&self) -> Result<Option<PruneParams>> {
        if !self.kinds.prune {
            return Ok(None);
        }
        let budget = self.budget()?;
        if matches!(budget.price, Price::Latency(_)) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "E0141",
                "`--prune` needs a budget that is counted, not one of time",
            )
            .hint("say `--macs`, `--params` or `--size`"));
        }
        let common = &self.common;
        Ok(Some(PruneParams {
            budget,
            round_to: self.kinds.round_to.channels(),
            may_round_less: self.kinds.round_to == RoundTo::Auto,
            positions: common.sampling.positions(),
            seed: common.shared.seed,
            memory: common.sampling.memory(),
            ..PruneParams::default()
        }))
    }
}
