//! What a trial does to the model, and the steps of a recipe that do it.

use crate::recipe::Table;
use crate::units;
use serde::{Deserialize, Serialize};
use toml::Value;

/// What pruning is to keep a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kept {
    /// Multiply-accumulates
    Macs,
    /// Bytes of weights
    Size,
}

/// Number format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// As the model was.
    Float,
    /// Weights and activations of 8 bits.
    Int8,
    /// Weights of 4 bits, activations of 8.
    Int4,
}

impl Format {
    /// As tables have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

/// One way to a smaller model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Variant {
    /// Number format.
    pub(super) format: Format,
    /// What pruning is to keep: of what, and the share. Absent where nothing is pruned.
    pub(super) keep: Option<(Kept, f64)>,
    /// Passes over the samples after pruning.
    pub(super) epochs: u32,
}

impl Variant {
    /// Short and different for different variants: `int8`, `int4-size-43.2`.
    pub(super) fn name(&self) -> String {
        let mut name = self.format.name().to_owned();
        if let Some((kept, share)) = self.keep {
            name.push_str(&format!("-{}-{:.1}", kept.flag(), 100.0 * share));
        }
        if self.epochs > 0 {
            name.push_str(&format!("-epochs-{}", self.epochs));
        }
        name
    }

    /// The steps; `calibration` is the number of samples of those that do not train.
    pub(super) fn steps(&self, calibration: &Table) -> Vec<Table> {
        let text = |text: &str| Value::String(text.to_owned());
        let mut steps = Vec::new();
        if let Some((kept, share)) = self.keep {
            let mut step = calibration.clone();
            step.insert("kind".into(), text("prune"));
            step.insert(kept.flag().into(), Value::String(units::percent(share)));
            step.insert("no_bench".into(), Value::Boolean(true));
            steps.push(step);
        }
        if self.epochs > 0 {
            let mut step = Table::new();
            step.insert("kind".into(), text("finetune"));
            step.insert("teacher".into(), text("@model"));
            step.insert("epochs".into(), Value::Integer(self.epochs.into()));
            steps.push(step);
        }
        if self.format != Format::Float {
            let mut step = calibration.clone();
            step.insert("kind".into(), text("quantize"));
            if self.format == Format::Int4 {
                step.insert("weights".into(), Value::Integer(4));
            }
            step.insert("no_bench".into(), Value::Boolean(true));
            steps.push(step);
        }
        steps
    }
}

/// The name of a variant as a journal has it; `None` where it is none.
pub(in crate::commands) fn name(variant: &serde_json::Value) -> Option<String> {
    serde_json::from_value::<Variant>(variant.clone()).ok().map(|variant| variant.name())
}

impl Kept {
    /// The flag of `kerf prune`.
    fn flag(self) -> &'static str {
        match self {
            Self::Macs => "macs",
            Self::Size => "size",
        }
    }
}
