//! Losses by name. A new loss is a file with its function, its [`Method`], and a line here.

use crate::{attention, dist, dkd, hint, logit_matching, relational, soft_targets, standardize};
use candle_core::{Device, Result, Tensor, Var, bail};
use std::fmt::Debug;

/// All losses, in the order of their listing.
pub const METHODS: [&Method; 8] = [
    &soft_targets::METHOD,
    &standardize::METHOD,
    &logit_matching::METHOD,
    &dkd::METHOD,
    &dist::METHOD,
    &hint::METHOD,
    &attention::METHOD,
    &relational::METHOD,
];

/// A loss on logits `(samples, classes)`.
pub trait LogitLoss: Debug + Send + Sync {
    /// The temperature at which an ensemble's distributions are to be averaged.
    fn temperature(&self) -> f64 {
        1.0
    }

    /// Can it not do without labels?
    fn needs_labels(&self) -> bool {
        false
    }

    /// Is it other than a mean over samples of what each gives by itself?
    fn mixes_samples(&self) -> bool {
        false
    }

    /// The loss, a scalar. `labels` have shape `(samples,)`.
    ///
    /// # Errors
    /// When shapes do not fit, labels are missing that it needs, or a parameter is outside its
    /// range.
    fn loss(&self, student: &Tensor, teacher: &Tensor, labels: Option<&Tensor>) -> Result<Tensor>;
}

/// A loss on one pair of features.
pub trait FeatureLoss: Debug + Send + Sync {
    /// Trainable variables by name, beside the student's.
    fn variables(&self) -> Vec<(&'static str, Var)> {
        Vec::new()
    }

    /// Fewest samples of a batch that it takes.
    fn least_samples(&self) -> usize {
        1
    }

    /// Is it other than a mean over samples of what each gives by itself?
    fn mixes_samples(&self) -> bool {
        false
    }

    /// The loss, a scalar.
    ///
    /// # Errors
    /// When shapes do not fit or a parameter is outside its range.
    fn loss(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor>;
}

/// What a [`FeatureLoss`] is built for.
#[derive(Debug, Clone)]
pub struct FeaturePair {
    /// Shape of the student's features, samples first.
    pub student: Vec<usize>,
    /// Shape of the teacher's features, samples first.
    pub teacher: Vec<usize>,
    /// Seed of trainable variables.
    pub seed: u64,
    /// Where they live.
    pub device: Device,
}

/// A loss by name.
#[derive(Debug)]
pub struct Method {
    /// Such as `dkd`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The factor that its authors, or common practice, use beside a cross-entropy.
    pub weight: f64,
    /// What can be set.
    pub parameters: &'static [Parameter],
    pub(crate) build: Build,
}

/// How a method is built.
#[derive(Debug)]
pub(crate) enum Build {
    /// From its parameters.
    Logits(fn(&Values) -> Result<Box<dyn LogitLoss>>),
    /// From its parameters and the shapes.
    Features(fn(&Values, &FeaturePair) -> Result<Box<dyn FeatureLoss>>),
}

/// A number that a method takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its value when not set.
    pub default: f64,
    /// One line.
    pub purpose: &'static str,
    /// Its range.
    pub range: Range,
}

/// The range of a [`Parameter`]; values are finite in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// `> 0`
    AboveZero,
    /// `>= 0`
    NotNegative,
    /// 0 or 1
    Switch,
}

impl Parameter {
    pub(crate) const fn above_zero(
        name: &'static str,
        default: f64,
        purpose: &'static str,
    ) -> Self {
        Self { name, default, purpose, range: Range::AboveZero }
    }

    pub(crate) const fn not_negative(
        name: &'static str,
        default: f64,
        purpose: &'static str,
    ) -> Self {
        Self { name, default, purpose, range: Range::NotNegative }
    }

    pub(crate) const fn switch(name: &'static str, default: bool, purpose: &'static str) -> Self {
        let default = if default { 1.0 } else { 0.0 };
        Self { name, default, purpose, range: Range::Switch }
    }

    fn check(&self, value: f64) -> Result<()> {
        let (holds, range) = match self.range {
            Range::AboveZero => (value > 0.0, "above 0"),
            Range::NotNegative => (value >= 0.0, "0 or above"),
            Range::Switch => (value == 0.0 || value == 1.0, "0 or 1"),
        };
        if holds && value.is_finite() {
            return Ok(());
        }
        bail!("`{}` must be {range} and finite, but is {value}", self.name)
    }
}

/// The checked parameters of a method.
#[derive(Debug)]
pub(crate) struct Values(Vec<(&'static str, f64)>);

impl Values {
    /// The value of a parameter that the method lists.
    pub(crate) fn get(&self, name: &str) -> Result<f64> {
        match self.0.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => Ok(*value),
            None => bail!("the method lists no parameter `{name}`"),
        }
    }
}

impl Method {
    /// The method of that name.
    ///
    /// # Errors
    /// When there is none; the text lists all.
    pub fn by_name(name: &str) -> Result<&'static Self> {
        match METHODS.iter().find(|method| method.name == name) {
            Some(method) => Ok(method),
            None => {
                let names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
                bail!("unknown loss `{name}`; known are {}", names.join(", "))
            }
        }
    }

    /// Does it take features, not logits?
    pub fn takes_features(&self) -> bool {
        matches!(self.build, Build::Features(_))
    }

    /// The loss on logits, with the given parameters in place of their defaults.
    ///
    /// # Errors
    /// When a parameter is unknown or outside its range, or the method takes features.
    pub fn logit_loss(&self, parameters: &[(&str, f64)]) -> Result<Box<dyn LogitLoss>> {
        match self.build {
            Build::Logits(build) => build(&self.values(parameters)?),
            Build::Features(_) => bail!("`{}` compares features, not logits", self.name),
        }
    }

    /// The loss on features, with the given parameters in place of their defaults.
    ///
    /// # Errors
    /// When a parameter is unknown or outside its range, the shapes do not fit, or the method takes
    /// logits.
    pub fn feature_loss(
        &self,
        parameters: &[(&str, f64)],
        pair: &FeaturePair,
    ) -> Result<Box<dyn FeatureLoss>> {
        match self.build {
            Build::Features(build) => build(&self.values(parameters)?, pair),
            Build::Logits(_) => bail!("`{}` compares logits, not features", self.name),
        }
    }

    /// Checks parameters without building anything.
    ///
    /// # Errors
    /// When a parameter is unknown or outside its range.
    pub fn check(&self, parameters: &[(&str, f64)]) -> Result<()> {
        self.values(parameters).map(|_| ())
    }

    fn values(&self, given: &[(&str, f64)]) -> Result<Values> {
        let mut values: Vec<_> = self.parameters.iter().map(|p| (p.name, p.default)).collect();
        for &(name, value) in given {
            let known = self.parameters.iter().zip(&mut values).find(|(p, _)| p.name == name);
            let Some((parameter, (_, slot))) = known else {
                let names: Vec<_> = self.parameters.iter().map(|p| p.name).collect();
                let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                bail!("`{}` has no parameter `{name}`; it has {list}", self.name)
            };
            parameter.check(value)?;
            *slot = value;
        }
        Ok(Values(values))
    }
}
