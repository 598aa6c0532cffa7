//! Flags of `kerf train`, `kerf finetune` and `kerf distill`.

use super::distill::DistillArgs;
use super::quantization::QuantizationArgs;
use super::sparse::SparseArgs;
use crate::args::{DataArgs, ModelArgs, Shared};
use crate::units;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;
use tensor_core::run::DeviceName;
use tensor_core::train::{Augment, Keep, Length, Optimizer, Params, Precision, Schedule};
use tensor_core::{Error, Result};

/// Momentum of SGD where none is given.
const MOMENTUM: f64 = 0.9;

/// Arguments of `kerf train`, `kerf finetune` and `kerf distill`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) files: ModelArgs,
    /// Folder for journal and checkpoints; the same command goes on where it was interrupted
    #[arg(long, value_name = "DIR")]
    pub(super) run: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) data: DataArgs,
    /// Held-out samples to evaluate on
    #[arg(long, value_name = "PATH", group = "evaluation", help_heading = "Data options")]
    pub(super) eval_data: Option<PathBuf>,
    /// Class numbers of the held-out samples, where they are apart
    #[arg(long, value_name = "PATH", requires = "eval_data", help_heading = "Data options")]
    pub(super) eval_labels: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) distill: DistillArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) sparse: SparseArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) quantization: QuantizationArgs,
    /// Exit 1 when top-1 accuracy on the held-out samples is below this, such as `92.5%`
    #[arg(
        long,
        value_name = "PERCENT",
        value_parser = units::parse_share,
        requires = "evaluation",
        help_heading = "Proof"
    )]
    pub(super) assert_top1: Option<f64>,
    /// Do not check the written file in another engine
    #[arg(long, help_heading = "Proof")]
    pub(super) no_verify: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) shared: Shared,
}

/// How the weights are changed.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Training")]
struct MethodArgs {
    /// Passes over the samples
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Optimizer steps, instead of `--epochs`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "epochs")]
    steps: Option<u64>,
    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = 0.15)]
    lr: f64,
    /// How the rate goes over the run: constant, cosine, one-cycle, step (a tenth after 50% and
    /// 75%), or `step:FACTOR@PERCENT,PERCENT`
    #[arg(long, value_name = "NAME", default_value = "one-cycle")]
    schedule: ScheduleArg,
    /// Share of the run in which the rate rises [default: 30% for one-cycle, else none]
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_percentage)]
    warmup: Option<f64>,
    /// How gradients change weights
    #[arg(long, value_enum, value_name = "NAME", default_value_t = OptimizerArg::Sgd)]
    optimizer: OptimizerArg,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, value_name = "M")]
    momentum: Option<f64>,
    /// Plain momentum instead of Nesterov's
    #[arg(long)]
    no_nesterov: bool,
    /// Weight decay; biases and normalizations do not decay
    #[arg(long, value_name = "DECAY", default_value_t = 5e-4)]
    weight_decay: f64,
    /// Share of each label that is spread over all classes, 0 to below 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    label_smoothing: f64,
    /// Shorten gradients to this norm over all weights
    #[arg(long, value_name = "NORM")]
    clip_norm: Option<f64>,
    /// Evaluate and keep a moving average of the weights with this decay, such as 0.999
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Mirror half of the images left to right
    #[arg(long)]
    flip: bool,
    /// Shift images by up to N pixels in both directions
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=256))]
    shift: u16,
    /// Leave parameters and layers as they are; `*` matches any text (repeatable)
    #[arg(long, value_name = "PATTERN")]
    freeze: Vec<String>,
    /// Multiply the learning rate of parameters and layers (repeatable)
    #[arg(long, value_name = "PATTERN=FACTOR")]
    lr_scale: Vec<ScaledRate>,
    /// Number format of the products in convolutions; values, sums and weights stay 32 bits wide
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
    /// What to do about convolutions without BatchNormalization, such as after pruning
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = BatchNormArg::Keep)]
    batch_norm: BatchNormArg,
    /// What computes: cpu, cuda, metal, or cuda:1 and so on; the latter need a build with that feature
    #[arg(long, value_name = "NAME", default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Begin with random weights (He's initialization) instead of those of the model
    #[arg(long)]
    reinit: bool,
    /// Evaluate every N steps [default: every epoch]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    eval_every: Option<u64>,
    /// Write a checkpoint every N steps beside those at evaluations
    #[arg(long, value_name = "N", requires = "run", value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_every: Option<u64>,
    /// Which weights to write: those of the last step, or of the most accurate evaluation
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = KeepArg::Last, requires_if("best", "evaluation"))]
    keep: KeepArg,
}

/// `--optimizer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum OptimizerArg {
    /// Stochastic gradient descent with momentum
    Sgd,
    /// AdamW; a learning rate around 0.001 suits it
    Adamw,
}

/// `--precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum PrecisionArg {
    /// 32-bit floats
    F32,
    /// bfloat16 in ungrouped convolutions of 8 channels and 16 positions or more, about twice as
    /// fast; needs AMX
    Bf16,
}

/// `--batch-norm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum BatchNormArg {
    /// Train them as they are
    Keep,
    /// Put one behind each that has a bias, as an identity at first, and fold it away at the end:
    /// the written model has the same nodes. Takes batches of 16 samples or more
    Restore,
}

/// `--keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum KeepArg {
    /// Of the last step
    Last,
    /// Of the evaluation with the highest accuracy, which is then optimistic
    Best,
}

/// `--schedule`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
struct ScheduleArg(Schedule);

impl FromStr for ScheduleArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usual = "step:0.1@50%,75%";
        let schedule = match text {
            "constant" => Schedule::Constant,
            "cosine" => Schedule::Cosine,
            "one-cycle" => Schedule::OneCycle,
            "step" => return usual.parse(),
            _ => step(text).ok_or_else(|| {
                format!("expected constant, cosine, one-cycle, step or a list such as `{usual}`")
            })?,
        };
        Ok(Self(schedule))
    }
}

fn step(text: &str) -> Option<Schedule> {
    let (factor, milestones) = text.strip_prefix("step:")?.split_once('@')?;
    let milestones = milestones.split(',').map(|share| units::parse_share(share).ok());
    Some(Schedule::Step {
        factor: factor.parse().ok()?,
        milestones: milestones.collect::<Option<_>>()?,
    })
}

/// `--lr-scale`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct ScaledRate {
    pattern: String,
    factor: f64,
}

impl FromStr for ScaledRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.rsplit_once('=').and_then(|(pattern, factor)| {
            Some(Self { pattern: pattern.to_owned(), factor: factor.parse().ok()? })
        });
        parsed.ok_or_else(|| "expected a name and a factor, such as `head*=0.1`".to_owned())
    }
}

impl TrainArgs {
    /// Where the run and its teachers are computed.
    pub(super) fn device(&self) -> DeviceName {
        self.method.device
    }

    /// Does the run begin with random weights?
    pub(super) fn is_from_scratch(&self) -> bool {
        self.method.reinit
    }

    /// The parameters of the run, for batches of that size, after a check.
    ///
    /// # Errors
    /// `E0406` when one is out of range, or is for another optimizer.
    pub(super) fn params(&self, batch: usize) -> Result<Params> {
        let is_sgd = self.method.optimizer == OptimizerArg::Sgd;
        if !is_sgd && (self.method.momentum.is_some() || self.method.no_nesterov) {
            return Err(Error::invalid("AdamW has no momentum to set")
                .code_is("E0406")
                .hint("leave out `momentum`, or choose `--optimizer sgd`"));
        }
        let params = self.unchecked(batch);
        params.check()?;
        Ok(params)
    }

    fn unchecked(&self, batch: usize) -> Params {
        let method = &self.method;
        let length = method.steps.map_or(Length::Epochs(method.epochs), Length::Steps);
        let optimizer = match method.optimizer {
            OptimizerArg::Sgd => Optimizer::Sgd {
                momentum: method.momentum.unwrap_or(MOMENTUM),
                nesterov: !method.no_nesterov,
            },
            OptimizerArg::Adamw => Optimizer::adam_w(),
        };
        let rate = |scaled: &ScaledRate| (scaled.pattern.clone(), scaled.factor);
        Params {
            length,
            batch,
            rate: method.lr,
            schedule: method.schedule.0.clone(),
            warmup: method.warmup,
            optimizer,
            weight_decay: method.weight_decay,
            label_smoothing: method.label_smoothing,
            clip_norm: method.clip_norm,
            average: method.ema,
            augment: Augment { flip: method.flip, shift: method.shift.into() },
            freeze: method.freeze.clone(),
            rates: method.lr_scale.iter().map(rate).collect(),
            evaluate_every: method.eval_every,
            checkpoint_every: method.checkpoint_every,
            keep: match method.keep {
                KeepArg::Last => Keep::Last,
                KeepArg::Best => Keep::Best,
            },
            precision: match method.precision {
                PrecisionArg::F32 => Precision::F32,
                PrecisionArg::Bf16 => Precision::Bf16,
            },
            // Integers are those of folded weights.
            restore_norms: method.batch_norm == BatchNormArg::Restore
                && !self.quantization.is_used(),
            device: method.device,
            reinitialize: method.reinit,
            seed: self.shared.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read() {
        let read = |text: &str| text.parse::<ScheduleArg>().map(|schedule| schedule.0);
        assert_eq!(read("cosine"), Ok(Schedule::Cosine));
        let step = Schedule::Step { milestones: vec![0.5, 0.75], factor: 0.1 };
        assert_eq!(read("step"), Ok(step));
        let step = Schedule::Step { milestones: vec![0.6], factor: 0.2 };
        assert_eq!(read("step:0.2@60%"), Ok(step));
        for wrong in ["cosin", "step:", "step:x@50%", "step:0.1@0.5", "step:0.1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn scaled_rates_are_read() {
        let read = |text: &str| text.parse::<ScaledRate>().map(|r| (r.pattern, r.factor));
        assert_eq!(read("head*=0.1"), Ok(("head*".to_owned(), 0.1)));
        assert_eq!(read("a=b=2"), Ok(("a=b".to_owned(), 2.0)));
        assert!(read("head").is_err() && read("head=x").is_err());
    }
}
