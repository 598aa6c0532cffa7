//! Flags of `kerf prune`.

use super::super::one_shot::OneShotArgs;
use super::super::statistics::StatisticsArgs;
use super::widths::WidthsArg;
use crate::args::{BudgetArgs, RoundTo, TimeArgs};
use clap::{Args, ValueEnum};
use lasso_prune::{Attention, Budget, PruneParams, RefineParams, SelectionParams, Streams, Widths};
use serde::Serialize;
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf prune`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    #[serde(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    #[serde(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    #[serde(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) known: StatisticsArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) common: OneShotArgs,
    /// Do not measure latency
    #[arg(long, help_heading = "Proof")]
    pub(super) no_bench: bool,
}

/// How channels are chosen.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Method")]
struct MethodArgs {
    /// How channels are chosen: obs, lasso, lasso-cd, lasso-linfa, first-k or max-response
    #[arg(long, value_name = "NAME", default_value = "obs")]
    method: String,
    /// Most exchanges of single channels after `obs` or a LASSO, each of which lowers the error; 0 for
    /// the selection as the paper has it
    #[arg(long, value_name = "N", default_value_t = 32)]
    exchanges: usize,
    /// Channels per group: `auto`, `layerwise` (by the errors of layers alone, not by what they do to the
    /// outputs), `uniform`, `NAME=N,...`, or a TOML file of `NAME = N`. A name is
    /// the id or root of a group (`kerf groups`), or a layer or weight: it stands for the channels
    /// that it makes or, where those are not pruned, for those that it reads
    #[arg(long, value_name = "WIDTHS", default_value = "auto")]
    widths: WidthsArg,
    /// Channel counts become multiples of N; `auto` is what the runtime's kernels like here, or half
    /// or a quarter of it where that gains more accuracy than it costs time
    #[arg(long, value_name = "N", default_value = "auto")]
    round_to: RoundTo,
    /// Residual streams: keep all channels, sample them before each reader, prune them whole, or
    /// (auto) prune them only where the budget cannot be met otherwise
    #[arg(long, value_enum, value_name = "HOW", default_value_t = StreamsArg::Auto)]
    streams: StreamsArg,
    /// What attention can lose: the same dimensions of the values of all heads, or whole heads
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = AttentionArg::Dimensions)]
    attention: AttentionArg,
    /// Then train for N steps to respond as the original does; needs no labels, but about a thousand samples,
    /// of which a tenth is kept from pruning and training to judge the steps. 0 for least squares alone
    #[arg(long, value_name = "N", default_value_t = 0)]
    refine: u64,
    /// Leave groups alone, by id, root, layer or parameter; `*` matches any text (repeatable)
    #[arg(long, value_name = "PATTERN")]
    freeze: Vec<String>,
}

/// What happens to residual streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum StreamsArg {
    /// They keep all channels, unless the budget cannot be met that way
    Auto,
    /// They keep all channels
    Keep,
    /// They keep all channels, and each reader samples its input with a Gather
    Sample,
    /// They are pruned as a whole
    Prune,
}

/// What attention can lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AttentionArg {
    /// Dimensions of the values, the same ones of every head
    Dimensions,
    /// Whole heads: queries, keys and values alike
    Heads,
}

impl From<AttentionArg> for Attention {
    fn from(given: AttentionArg) -> Self {
        match given {
            AttentionArg::Dimensions => Self::Dimensions,
            AttentionArg::Heads => Self::Heads,
        }
    }
}

impl PruneArgs {
    /// The parameters, and the budget when one applies.
    pub(super) fn params(&self) -> Result<(PruneParams, Option<Budget>)> {
        let widths = self.method.widths.widths()?;
        let given = matches!(widths, Widths::Given(_));
        let budget = self.time.budget()?.or_else(|| self.budget.budget());
        let usage = |message: &str| Error::new(ErrorKind::Invalid, "E0010", message);
        match &budget {
            None if !given => {
                return Err(usage("no budget was given").hint(
                    "say what to keep: `--macs 50%`, `--params 50%`, `--size 60%` or `--latency 60%`, or \
                     an upper bound with `--max-macs 1.2G`, `--max-params 500k`, `--max-size 4MiB` or \
                     `--max-latency 4ms`",
                ));
            }
            Some(_) if given => {
                return Err(usage("`--widths NAME=N` fixes all widths, so no budget applies")
                    .hint("leave out the budget or `--widths`"));
            }
            _ => {}
        }
        let defaults = PruneParams::default();
        let params = PruneParams {
            selection: SelectionParams::new()
                .method(&self.method.method)
                .exchanges(self.method.exchanges),
            budget: budget.clone().unwrap_or(defaults.budget),
            widths,
            round_to: self.method.round_to.channels(),
            may_round_less: self.method.round_to == RoundTo::Auto,
            streams: match self.method.streams {
                StreamsArg::Auto => Streams::Auto,
                StreamsArg::Keep => Streams::Keep,
                StreamsArg::Sample => Streams::Sample,
                StreamsArg::Prune => Streams::Prune,
            },
            attention: self.method.attention.into(),
            inputs: self.known.inputs(&self.common.data)?,
            positions: self.common.sampling.positions(),
            exclude: self.method.freeze.clone(),
            seed: self.common.shared.seed,
            memory: self.common.sampling.memory(),
        };
        Ok((params, budget))
    }

    /// Gradient steps after pruning, if any.
    pub(super) fn refinement(&self) -> Option<RefineParams> {
        let (steps, seed) = (self.method.refine, self.common.shared.seed);
        (steps > 0).then(|| RefineParams { steps, seed, ..RefineParams::default() })
    }

    /// The name of the method, for people.
    pub(super) fn method(&self) -> &str {
        &self.method.method
    }
}
