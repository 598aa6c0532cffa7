//! What there is to work with: samples to calibrate, to train and to judge on, and time.

use super::super::Context;
use super::super::run::JudgedArgs;
use super::CompressArgs;
use crate::recipe::{Table, flags_of};
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Graph, Result};
use toml::Value;

/// Most samples to hold out.
const HELD_OUT: usize = 1000;

/// Fewest samples of which some are held out: below, each is needed for calibration.
const FEW: usize = 20;

/// Fewest samples to train on: a pass over fewer is a step or two.
const TRAINED: usize = 256;

/// Passes where there is no limit of time.
const EPOCHS: u32 = 2;

/// Most passes: what is pruned gains little by more.
const MOST_EPOCHS: f64 = 8.0;

/// Share of the time that the passes of one trial may take.
const SHARE: f64 = 0.3;

/// Flags that steps get, and what is said about them.
pub(super) struct Flags {
    /// Of every step.
    pub(super) data: Table,
    /// Of steps that do not train.
    pub(super) calibration: Table,
    /// Goals.
    pub(super) goal: Table,
}

impl Flags {
    /// Of what was given on the command line, with samples to judge on.
    ///
    /// # Errors
    /// When the samples cannot be read.
    pub(super) fn of(args: &CompressArgs, graph: &Graph, cx: &Context) -> Result<(Self, usize)> {
        let all = args.data.open_all(graph)?;
        if args.data.labels_are_given() && !all.has_labels() {
            let message = "the samples have no labels to train by";
            return Err(Error::new(ErrorKind::Invalid, "E0207", message).hint(
                "name them with `--labels PATH`, use one sub-folder per class, or train with the original \
                 as the only teacher, by `--train`",
            ));
        }
        let mut data = flags_of::<JudgedArgs>(&cx.given);
        let mut calibration = Table::new();
        for key in ["samples", "batch"] {
            if let Some(value) = data.remove(key) {
                calibration.insert(key.into(), value);
            }
        }
        if args.data.has_own_labels() {
            data.remove("labels");
        }
        let mut count = all.len() - args.data.held_out_count(&all)?.unwrap_or(0);
        if args.evaluation.eval_data.is_none() && !data.contains_key("hold_out") {
            if count >= FEW {
                let held_out = (count / 5).min(HELD_OUT);
                cx.console.note(&format!(
                    "{} of {count} are held out to judge trials; `--eval-data` names others",
                    counted(held_out, "sample")
                ));
                let value = i64::try_from(held_out).unwrap_or(i64::MAX);
                data.insert("hold_out".into(), Value::Integer(value));
                count -= held_out;
            } else {
                cx.console.warn(&format!(
                    "trials are judged on the {} that they are made with; `--eval-data` names others",
                    counted(count, "sample")
                ));
            }
        }
        if args.trains() && count < TRAINED {
            let message = format!("{} are too few to train on", counted(count, "sample"));
            return Err(Error::new(ErrorKind::Invalid, "E0205", message)
                .hint("leave out `--train`, `--labels` and `--epochs`: pruning and integers need no training"));
        }
        let goal = flags_of::<crate::args::GoalArgs>(&cx.given);
        Ok((Self { data, calibration, goal }, count))
    }
}

/// Passes over the samples, given how long one takes where that was measured.
pub(super) fn epochs(args: &CompressArgs, seconds_per_epoch: Option<f64>) -> u32 {
    match (args.epochs, args.time, seconds_per_epoch) {
        _ if !args.trains() => 0,
        (Some(epochs), ..) => epochs,
        (None, Some(time), Some(pass)) => {
            (time * SHARE / pass.max(f64::MIN_POSITIVE)).floor().clamp(1.0, MOST_EPOCHS) as u32
        }
        (None, ..) => EPOCHS,
    }
}

/// Must it be known how long training takes?
pub(super) fn needs_pilot(args: &CompressArgs) -> bool {
    args.trains() && args.time.is_some()
}
