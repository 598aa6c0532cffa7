//! Parameters of a training run.

use super::{Augment, Optimizer, Schedule};
use crate::kernels::Precision;
use crate::run::DeviceName;
use crate::{Error, Result};
use serde::Serialize;

/// How to train. The defaults are meant for training from scratch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Params {
    /// How long.
    pub length: Length,
    /// Samples per step, at least 1.
    pub batch: usize,
    /// Peak learning rate, above 0.
    pub rate: f64,
    /// How the rate goes over the run.
    pub schedule: Schedule,
    /// Share of the run in which the rate rises, in `0..1`; as is usual for the schedule when
    /// `None`.
    pub warmup: Option<f64>,
    /// How gradients change weights.
    pub optimizer: Optimizer,
    /// Weight decay, at least 0. Biases and parameters of normalizations do not decay.
    pub weight_decay: f64,
    /// Share of each label that is spread over all classes, in `0..1`.
    pub label_smoothing: f64,
    /// Longest gradient, as the Euclidean norm over all variables.
    pub clip_norm: Option<f64>,
    /// Decay of an exponential moving average of the weights, in `0..1`, which is then evaluated
    /// and kept instead of the weights.
    pub average: Option<f64>,
    /// Random changes of the images.
    pub augment: Augment,
    /// Patterns of parameters and layers that stay as they are.
    pub freeze: Vec<String>,
    /// Factors of the learning rate by pattern.
    pub rates: Vec<(String, f64)>,
    /// Evaluate every so many steps; each epoch when `None`.
    pub evaluate_every: Option<u64>,
    /// Write a checkpoint every so many steps beside those at evaluations.
    pub checkpoint_every: Option<u64>,
    /// Which weights the run gives.
    pub keep: Keep,
    /// Number format of the products in convolutions.
    pub precision: Precision,
    /// Put a BatchNormalization behind convolutions that have none, for the run? It is an identity
    /// at first, learns with the statistics of the batch, and is folded away at the end, so that
    /// the model keeps its nodes. That is how networks are fine-tuned into which normalizations
    /// were folded. Layers are left alone that give one value per channel and sample, that make
    /// the scores, or of which a parameter is frozen; and all of them in batches of fewer than 16
    /// samples, whose statistics are too uncertain (Wu and He, "Group normalization", 2018).
    pub restore_norms: bool,
    /// Where the steps and the evaluations are computed. Elsewhere than on the CPU candle's
    /// operations are used, in 32-bit floats.
    pub device: DeviceName,
    /// Begin with random weights instead of those of the model?
    pub reinitialize: bool,
    /// Seed of all random draws.
    pub seed: u64,
}

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// Passes over the data, at least 1.
    Epochs(u32),
    /// Optimizer steps, at least 1.
    Steps(u64),
}

/// Which weights a run gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those after the last step.
    Last,
    /// Those of the evaluation with the highest accuracy, the first of several. The accuracy of
    /// what was chosen this way is too optimistic on the data that chose.
    Best,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            length: Length::Epochs(10),
            batch: 128,
            rate: 0.15,
            schedule: Schedule::OneCycle,
            warmup: None,
            optimizer: Optimizer::sgd(),
            weight_decay: 5e-4,
            label_smoothing: 0.0,
            clip_norm: None,
            average: None,
            augment: Augment::default(),
            freeze: Vec::new(),
            rates: Vec::new(),
            evaluate_every: None,
            checkpoint_every: None,
            keep: Keep::Last,
            precision: Precision::F32,
            restore_norms: false,
            device: DeviceName::Cpu,
            reinitialize: false,
            seed: 0,
        }
    }
}

impl Params {
    /// The share of the run in which the rate rises.
    pub fn warmup(&self) -> f64 {
        self.warmup.unwrap_or_else(|| self.schedule.usual_warmup())
    }

    /// Checks every range.
    ///
    /// # Errors
    /// `E0406` names the parameter, its value and its range; `E0408` when this processor lacks the
    /// precision; `E0409` when this build lacks the device.
    pub fn check(&self) -> Result<()> {
        self.precision.check()?;
        self.device.check()?;
        let share = |x: f64| (0.0..1.0).contains(&x);
        let least = |x: f64, open: bool| x.is_finite() && (x > 0.0 || (!open && x == 0.0));
        let counts = [
            ("batch", self.batch as u64),
            (
                "length",
                match self.length {
                    Length::Epochs(n) => n.into(),
                    Length::Steps(n) => n,
                },
            ),
            ("evaluate_every", self.evaluate_every.unwrap_or(1)),
            ("checkpoint_every", self.checkpoint_every.unwrap_or(1)),
        ];
        for (name, count) in counts {
            if count == 0 {
                return Err(out_of_range(name, "0", "at least 1"));
            }
        }
        let mut shares = vec![
            ("warmup", self.warmup()),
            ("label_smoothing", self.label_smoothing),
            ("average", self.average.unwrap_or(0.0)),
        ];
        let mut sizes = vec![
            ("rate", self.rate, true),
            ("weight_decay", self.weight_decay, false),
            ("clip_norm", self.clip_norm.unwrap_or(1.0), true),
        ];
        match self.optimizer {
            Optimizer::Sgd { momentum, .. } => shares.push(("momentum", momentum)),
            Optimizer::AdamW { beta1, beta2, epsilon } => {
                shares.extend([("beta1", beta1), ("beta2", beta2)]);
                sizes.push(("epsilon", epsilon, true));
            }
        }
        if let Schedule::Step { milestones, .. } = &self.schedule
            && !milestones.is_sorted()
        {
            return Err(out_of_range("milestone", &format!("{milestones:?}"), "ascending"));
        }
        if let Schedule::Step { milestones, factor } = &self.schedule {
            shares.extend(milestones.iter().map(|&milestone| ("milestone", milestone)));
            shares.push(("factor", *factor));
        }
        sizes.extend(self.rates.iter().map(|(_, factor)| ("rates", *factor, false)));
        if let Some((name, value)) = shares.into_iter().find(|(_, value)| !share(*value)) {
            return Err(out_of_range(name, &value.to_string(), "0 to below 1"));
        }
        let wrong = sizes.into_iter().find(|&(_, value, open)| !least(value, open));
        if let Some((name, value, open)) = wrong {
            let range = if open { "above 0" } else { "at least 0" };
            return Err(out_of_range(name, &value.to_string(), range));
        }
        Ok(())
    }
}

fn out_of_range(name: &str, value: &str, range: &str) -> Error {
    Error::invalid(format!("`{name}` is {value}, but must be {range}"))
        .code_is("E0406")
        .hint(format!("give another `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_checked() {
        Params::default().check().expect("the defaults are fine");
        type Change = fn(&mut Params);
        let wrong: [(&str, Change); 13] = [
            ("batch", |p| p.batch = 0),
            ("length", |p| p.length = Length::Steps(0)),
            ("rate", |p| p.rate = 0.0),
            ("rate", |p| p.rate = f64::NAN),
            ("warmup", |p| p.warmup = Some(1.0)),
            ("momentum", |p| p.optimizer = Optimizer::Sgd { momentum: 1.0, nesterov: false }),
            ("weight_decay", |p| p.weight_decay = -1.0),
            ("label_smoothing", |p| p.label_smoothing = -0.1),
            ("clip_norm", |p| p.clip_norm = Some(0.0)),
            ("average", |p| p.average = Some(1.0)),
            ("evaluate_every", |p| p.evaluate_every = Some(0)),
            ("milestone", |p| {
                p.schedule = Schedule::Step { milestones: vec![0.75, 0.5], factor: 0.1 };
            }),
            ("rates", |p| p.rates = vec![("*".to_owned(), f64::INFINITY)]),
        ];
        for (name, change) in wrong {
            let mut params = Params::default();
            change(&mut params);
            let error = params.check().expect_err(name);
            assert_eq!(error.code(), "E0406");
            assert!(error.message().contains(name), "{error}");
        }
    }
}
