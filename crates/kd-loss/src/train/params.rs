//! What is compared, and how much it counts.

use crate::registry::Method;
use crate::{METHODS, Mean};
use serde::Serialize;
use std::collections::BTreeMap;
use std::str::FromStr;
use tensor_core::run::DeviceName;
use tensor_core::{Error, Result};

/// Parameters of distillation.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `logits` | `soft-targets` | the loss on logits | a name in [`METHODS`] |
/// | `hard_weight` | 0.1 | `a`, weight of the labels | `[0, 1]`; 0 without labels |
/// | `mean` | arithmetic | how several teachers are averaged | |
/// | `teacher_weights` | equal | weight of each teacher | `>= 0`, one `> 0` |
/// | `features` | none | pairs of values to compare | |
/// | `shapes` | none | shapes of inputs with open dimensions, for `features` | |
/// | `seed` | 0 | of adapters | any |
/// | `device` | `cpu` | where teachers run | as the build has |
#[derive(Debug, Clone, PartialEq)]
pub struct DistillParams {
    /// The loss on logits.
    pub logits: Choice,
    /// `a`, the weight of the labels.
    pub hard_weight: f64,
    /// How several teachers are averaged.
    pub mean: Mean,
    /// Weight of each teacher; empty for equal weights.
    pub teacher_weights: Vec<f64>,
    /// Pairs of values to compare.
    pub features: Vec<FeatureTerm>,
    /// Shapes of inputs whose dimensions are open beyond the batch.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Seed of adapters.
    pub seed: u64,
    /// Where teachers run.
    pub device: DeviceName,
}

impl Default for DistillParams {
    fn default() -> Self {
        Self {
            logits: Choice::new("soft-targets"),
            hard_weight: 0.1,
            mean: Mean::Arithmetic,
            teacher_weights: Vec::new(),
            features: Vec::new(),
            shapes: BTreeMap::new(),
            seed: 0,
            device: DeviceName::Cpu,
        }
    }
}

/// A value of the student that is to be like one of a teacher.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureTerm {
    /// Name of the student's value.
    pub student: String,
    /// Name of the teacher's value; the first teacher that has it counts.
    pub teacher: String,
    /// How they are compared.
    pub loss: Choice,
}

/// A loss by name, with parameters in place of their defaults.
///
/// As text `name`, or `name:parameter=value,...`; the parameter `weight` is the factor of the loss.
///
/// ```
/// use kd_loss::train::Choice;
///
/// let choice: Choice = "dkd:beta=2,weight=0.5".parse()?;
/// assert_eq!((choice.name.as_str(), choice.weight), ("dkd", Some(0.5)));
/// assert!("dkd:gamma=2".parse::<Choice>().is_err());
/// # Ok::<(), tensor_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// A name in [`METHODS`].
    pub name: String,
    /// Parameters and their values.
    pub parameters: Vec<(String, f64)>,
    /// The factor of the loss; that of the method when `None`.
    pub weight: Option<f64>,
}

impl Choice {
    /// A loss with its defaults.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), parameters: Vec::new(), weight: None }
    }

    /// The loss's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets a parameter, also one that was set before.
    pub fn set(&mut self, name: &str, value: f64) {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.to_owned(), value));
    }

    /// The method, after a check of name, parameters and weight.
    ///
    /// # Errors
    /// `E0421` when the name or a parameter is unknown, or a value is outside its range.
    pub fn method(&self) -> Result<&'static Method> {
        let method = Method::by_name(&self.name).map_err(|_| unknown(&self.name))?;
        method.check(&self.given()).map_err(refused)?;
        match self.weight {
            Some(weight) if !weight.is_finite() || weight < 0.0 => Err(Error::invalid(format!(
                "the weight of `{}` is {weight}, but must be finite and not negative",
                self.name
            ))
            .code_is("E0421")),
            _ => Ok(method),
        }
    }

    pub(super) fn given(&self) -> Vec<(&str, f64)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }
}

/// What a loss refuses, in its words.
pub(super) fn refused(error: candle_core::Error) -> Error {
    // Without the backtrace that candle may add.
    let message = error.to_string().lines().next().unwrap_or_default().to_owned();
    Error::invalid(message)
        .code_is("E0421")
        .hint("`kerf explain E0421` tells the parameters of losses and what they compare")
}

/// A loss that does not exist.
fn unknown(name: &str) -> Error {
    let names = |features: bool| {
        let of = METHODS.iter().filter(|method| method.takes_features() == features);
        of.map(|method| method.name).collect::<Vec<_>>().join(", ")
    };
    Error::invalid(format!("there is no loss `{name}`")).code_is("E0421").hint(format!(
        "losses on scores are {}; on features {}",
        names(false),
        names(true)
    ))
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut choice = Self::new(name);
        for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
            let parsed = pair
                .split_once('=')
                .and_then(|(name, value)| Some((name.trim(), value.trim().parse::<f64>().ok()?)));
            match parsed {
                Some(("weight", weight)) => choice.weight = Some(weight),
                Some((name, value)) => choice.set(name, value),
                None => {
                    return Err(Error::invalid(format!("`{pair}` is no parameter and value"))
                        .code_is("E0421")
                        .hint("write a loss as in `dkd:alpha=1,beta=8`"));
                }
            }
        }
        choice.method()?;
        Ok(choice)
    }
}
