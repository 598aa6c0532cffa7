//! Squared distance of logits.

use crate::check;
use crate::log_softmax::widen;
use crate::registry::{Build, LogitLoss, Method, Parameter, Values};
use candle_core::{D, Result, Tensor};

/// Half the squared distance of the logits, divided by the number of classes:
///
/// ```text
/// L = 1/(2 N C)  sum_n sum_i (z_ni - v_ni)^2
/// ```
///
/// With `centred`, each row's mean is taken off both first; that is the limit of
/// [`soft_targets`](crate::soft_targets) for a high temperature (Hinton, Vinyals and Dean 2015,
/// equation 4), and it does not see a constant added to a row. Without, it is the objective of Ba
/// and Caruana, "Do deep nets really need to be deep?" (2014), up to `1/C`.
///
/// Both tensors have shape `(samples, classes)`; the result is a scalar. The teacher takes no
/// gradient.
///
/// # Errors
/// When the shapes differ.
pub fn logit_matching(student: &Tensor, teacher: &Tensor, centred: bool) -> Result<Tensor> {
    check::logits("logit_matching", student, teacher)?;
    let mut difference = (widen(student)? - widen(&teacher.detach())?)?;
    if centred {
        difference = difference.broadcast_sub(&difference.mean_keepdim(D::Minus1)?)?;
    }
    difference.sqr()?.mean_all()? * 0.5
}

/// [`logit_matching`] as a [`LogitLoss`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogitMatching {
    /// Take each row's mean off first.
    pub centred: bool,
}

impl Default for LogitMatching {
    fn default() -> Self {
        Self { centred: true }
    }
}

impl LogitLoss for LogitMatching {
    fn loss(&self, student: &Tensor, teacher: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
        logit_matching(student, teacher, self.centred)
    }
}

/// For the registry.
pub(crate) const METHOD: Method = Method {
    name: "logit-matching",
    summary: "Squared distance of the logits, the limit of soft targets for a high temperature",
    weight: 1.0,
    parameters: &[Parameter::switch("centred", true, "Take each row's mean off first")],
    build: Build::Logits(build),
};

fn build(values: &Values) -> Result<Box<dyn LogitLoss>> {
    Ok(Box::new(LogitMatching { centred: values.get("centred")? != 0.0 }))
}
