//! Flags of `kerf search`.

use crate::args::{DataArgs, HardwareArgs, Shared, parse_pin};
use crate::{flags, units};
use clap::Args;
use quant_mixed::search::ddpg::{Constraint, DdpgParams, Reward};
use quant_mixed::search::{Budget, Limit, Resource, SpaceParams};
use serde::Serialize;
use std::path::PathBuf;
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf search`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct SearchArgs {
    /// The float model
    pub(super) model: PathBuf,
    /// Where the plan goes, as TOML or as `.json`
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
    /// Replace an existing plan
    #[arg(long)]
    #[serde(skip)]
    pub(super) force: bool,
    /// Folder for measured sensitivities and the journal of episodes; the same command goes on where
    /// it was interrupted
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(super) run: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) data: DataArgs,
    /// Samples of `--data` for the ranges of activations; the others judge allocations, unless there is
    /// `--eval-data`
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Data options")]
    pub(super) calibration: u32,
    /// Held-out samples that judge allocations
    #[arg(long, value_name = "PATH", help_heading = "Data options")]
    pub(super) eval_data: Option<PathBuf>,
    /// Class numbers of the held-out samples, where they are apart
    #[arg(long, value_name = "PATH", requires = "eval_data", help_heading = "Data options")]
    pub(super) eval_labels: Option<PathBuf>,
    /// Held-out samples at most; of those, ddpg selects by one half and is judged on the other
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Data options")]
    pub(super) eval_samples: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) device: HardwareArgs,
    #[command(flatten)]
    #[serde(flatten)]
    budget: BudgetArgs,
    /// exact, greedy, uniform, or ddpg
    #[arg(long, value_name = "NAME", default_value = "exact", help_heading = "Method")]
    pub(super) method: String,
    /// What layers lose by fewer bits: measured outputs, or curvature for the weights (HAWQ-V2)
    #[arg(long, value_enum, value_name = "MEASURE", default_value_t = MeasureArg::Outputs, help_heading = "Method")]
    pub(super) sensitivity: MeasureArg,
    /// Samples that sensitivities are measured on
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Method")]
    pub(super) sensitivity_samples: u32,
    /// Allocations that ddpg tries
    #[arg(long, value_name = "N", default_value_t = 600, help_heading = "Method")]
    episodes: usize,
    /// How ddpg keeps to the budget: trim (afterwards, as HAQ) or bound (at each choice, as AMC)
    #[arg(long, value_name = "NAME", default_value = "trim", value_parser = flags::read::<Constraint>, help_heading = "Method")]
    constraint: Constraint,
    /// What ddpg is rewarded for: accuracy (HAQ), or divergence of the outputs from the float model's
    /// [default: accuracy where there are labels]
    #[arg(long, value_name = "NAME", value_parser = flags::read::<Reward>, help_heading = "Method")]
    reward: Option<Reward>,
    /// Train each allocation that ddpg tries for N steps before it is judged, on the samples of `--data` that
    /// neither calibrate nor judge (HAQ: an epoch)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Method")]
    pub(super) episode_steps: Option<u64>,
    /// Fewest bits
    #[arg(long, value_name = "BITS", default_value_t = 2, help_heading = "Method")]
    min_bits: u32,
    /// Most bits
    #[arg(long, value_name = "BITS", default_value_t = 8, help_heading = "Method")]
    max_bits: u32,
    /// Bits of all activations, instead of searching them [default: --max-bits for a budget of size]
    #[arg(long, value_name = "BITS", help_heading = "Method")]
    activations: Option<u32>,
    /// Give layers bits of their own, such as `/conv1/Conv=8`; `*` matches any text (repeatable)
    #[arg(long, value_name = "LAYER=BITS", value_parser = parse_pin, help_heading = "Method")]
    pin: Vec<(String, u8)>,
    /// Search the first and the last layer too, which have 8 bits otherwise
    #[arg(long, help_heading = "Method")]
    no_pin_ends: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) shared: Shared,
}

/// What layers lose by fewer bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MeasureArg {
    /// Divergence of the outputs when one layer has fewer bits
    Outputs,
    /// Trace of the Hessian times squared rounding error, for the weights
    Hessian,
}

/// The budget flags; exactly one is given.
#[derive(Debug, Args, Serialize)]
#[group(id = "cost_budget", required = true, multiple = false)]
#[command(next_help_heading = "Budget (exactly one)")]
struct BudgetArgs {
    /// Share of the latency at 8 bits to keep, such as `60%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    latency: Option<f64>,
    /// Latency of a run at most, such as `12ms` or `900us`
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    max_latency: Option<f64>,
    /// Share of the energy at 8 bits to keep
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    energy: Option<f64>,
    /// Energy of a run at most, such as `3mJ` or `900uJ`
    #[arg(long, value_name = "ENERGY", value_parser = units::parse_energy)]
    max_energy: Option<f64>,
    /// Share of the bytes at 8 bits to keep, of the ONNX file, unless a device says otherwise
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    size: Option<f64>,
    /// Bytes of the ONNX file at most, such as `1MiB`, unless a device says otherwise
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    max_size: Option<u64>,
}

impl SearchArgs {
    /// What is limited.
    pub(super) fn budget(&self) -> Result<Budget> {
        let args = &self.budget;
        let flags = [
            (Resource::Latency, args.latency, args.max_latency),
            (Resource::Energy, args.energy, args.max_energy),
            (Resource::Size, args.size, args.max_size.map(|bytes| bytes as f64)),
        ];
        let found = flags.into_iter().find_map(|(resource, share, most)| {
            let limit = share.map(Limit::Keep).or(most.map(Limit::AtMost))?;
            Some(Budget { resource, limit })
        });
        found.ok_or_else(|| Error::new(ErrorKind::Invalid, "E0010", "no budget was given"))
    }

    /// Which bits may be chosen.
    pub(super) fn space(&self, budget: Budget) -> SpaceParams {
        // Activations have no size, so a budget of size says nothing about them.
        let free = (budget.resource == Resource::Size).then_some(self.max_bits);
        SpaceParams {
            min_bits: self.min_bits,
            max_bits: self.max_bits,
            activations: self.activations.or(free),
            pin_ends: !self.no_pin_ends,
            pins: self.pin.iter().map(|(name, bits)| (name.clone(), u32::from(*bits))).collect(),
        }
    }

    /// Parameters of the agent, which is rewarded for what can be known unless told otherwise.
    pub(super) fn ddpg(&self, is_labelled: bool) -> DdpgParams {
        let known = if is_labelled { Reward::Accuracy } else { Reward::Divergence };
        DdpgParams {
            reward: self.reward.unwrap_or(known),
            episodes: self.episodes,
            constraint: self.constraint,
            seed: self.shared.seed,
            ..DdpgParams::default()
        }
    }
}
