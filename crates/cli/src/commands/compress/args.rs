//! Flags of `kerf compress`.

use crate::args::{DataArgs, EvaluationArgs, GoalArgs, Shared};
use crate::units;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `kerf compress`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct CompressArgs {
    /// The model
    pub(super) model: PathBuf,
    /// Where the new model goes [default: the model's name with `-small`, in this folder]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    #[serde(skip)]
    pub(super) force: bool,
    /// Folder for the journal and all trials; the same command goes on where it was interrupted
    /// [default: the output's name with `.run`]
    #[arg(long, value_name = "DIR")]
    pub(super) run: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) evaluation: EvaluationArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) goal: GoalArgs,
    /// Also train what was pruned on the samples, with the original as teacher: takes thousands of
    /// samples and minutes; `--labels` implies it
    #[arg(long, help_heading = "Effort")]
    pub(super) train: bool,
    /// Passes over the samples where it trains [default: 2, or what `--time` leaves time for]
    #[arg(long, value_name = "N", help_heading = "Effort", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) epochs: Option<u32>,
    /// Begin no trial that would not end within this time, such as `10min`; the first one is always
    /// made
    #[arg(long, value_name = "TIME", help_heading = "Effort", value_parser = units::parse_duration)]
    pub(super) time: Option<f64>,
    /// Most trials
    #[arg(long, value_name = "N", default_value_t = 12, help_heading = "Effort", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) trials: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) shared: Shared,
}
