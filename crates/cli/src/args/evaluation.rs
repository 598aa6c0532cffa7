//! Flags that say what a result is judged on.

use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Samples to judge on, where they are not a part of the others (`--hold-out`).
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Data options")]
pub(crate) struct EvaluationArgs {
    /// Samples to evaluate on [default: those that `--hold-out` keeps apart; without, some of the others]
    #[arg(long, value_name = "PATH", group = "evaluation")]
    pub(crate) eval_data: Option<PathBuf>,
    /// Class numbers of the evaluation samples, where they are apart
    #[arg(long, value_name = "PATH", requires = "eval_data")]
    pub(crate) eval_labels: Option<PathBuf>,
}
