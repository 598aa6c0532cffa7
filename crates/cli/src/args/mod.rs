//! The command line: shared flags, data flags, budgets. Each command's own flags are beside the
//! command.

mod budget;
mod data;
mod evaluation;
mod goal;
mod hardware;
mod model;
mod pin;
mod rise;
mod round_to;
mod sampling;
mod shape;
mod shared;
mod time;

pub(crate) use budget::{BudgetArgs, describe as describe_budget};
pub(crate) use data::{DataArgs, fixed_batch};
pub(crate) use evaluation::EvaluationArgs;
pub(crate) use goal::{GoalArgs, Limit, Spent, Weighed};
pub(crate) use hardware::HardwareArgs;
pub(crate) use model::ModelArgs;
pub(crate) use pin::{parse_pin, warn_of_unnamed};
pub(crate) use rise::RiseArgs;
pub(crate) use round_to::RoundTo;
pub(crate) use sampling::SamplingArgs;
pub(crate) use shared::{ColorChoice, OnUnsupported, Shared};
pub(crate) use time::TimeArgs;

use crate::commands::{Command, Task};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;

/// ONNX in, a smaller and faster ONNX out, with proof of what was done
///
/// Results go to stdout, everything else to stderr. Exit codes: 0 done and every goal met, 1 a goal
/// or check was not met, 2 could not run, 3 a bug, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "kerf", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the defaults of a command differ from those of the flags that it shares.
const DEFAULTS: [(&str, &[(&str, &str)]); 4] = [
    ("train", &[("batch", "128")]),
    ("distill", &[("batch", "128")]),
    (
        "finetune",
        &[
            ("batch", "128"),
            ("lr", "0.02"),
            ("epochs", "2"),
            ("clip_norm", "1"),
            ("batch_norm", "restore"),
        ],
    ),
    (
        "gate",
        &[
            ("batch", "128"),
            ("lr", "0.05"),
            ("epochs", "5"),
            ("clip_norm", "1"),
            ("batch_norm", "restore"),
        ],
    ),
];

impl Cli {
    /// The parser.
    pub(crate) fn parser() -> clap::Command {
        let mut parser = Self::command();
        for (name, defaults) in DEFAULTS {
            parser = parser.mut_subcommand(name, |mut command| {
                for &(flag, value) in defaults {
                    command = command.mut_arg(flag, |flag| flag.default_value(value));
                }
                command
            });
        }
        parser.mut_subcommand("compress", |command| {
            command.mut_arg("labels", |labels| {
                let help = "Train on the samples by their class numbers: in this file, or without a path \
                            those that belong to the samples";
                labels.num_args(0..=1).default_missing_value(data::OWN_LABELS).help(help)
            })
        })
    }

    /// Reads a command line, from `kerf` on.
    ///
    /// # Errors
    /// What the parser says of it; help and version, too.
    pub(crate) fn read(arguments: &[OsString]) -> Result<(ArgMatches, Self), clap::Error> {
        let matches = Self::parser().try_get_matches_from(arguments)?;
        let cli = Self::from_arg_matches(&matches)?;
        Ok((matches, cli))
    }

    /// What was asked for.
    pub(crate) fn task(&self) -> &dyn Task {
        self.command.task()
    }
}
