//! Soft targets and labels together.

use crate::check;
use crate::hard_labels::hard_labels;
use crate::registry::LogitLoss;
use crate::soft_targets::SoftTargets;
use candle_core::{Result, Tensor};

/// The weights of [`distillation`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distillation {
    /// `a`, the weight of the labels, in `[0, 1]`; the paper finds a considerably smaller weight
    /// than that of the soft targets best.
    pub hard_weight: f64,
    /// Label smoothing, in `[0, 1]`.
    pub label_smoothing: f64,
    /// `T`, above 0.
    pub temperature: f64,
}

impl Default for Distillation {
    fn default() -> Self {
        Self { hard_weight: 0.1, label_smoothing: 0.0, temperature: 4.0 }
    }
}

/// The weighted average of soft targets and labels (Hinton, Vinyals and Dean 2015, section 2):
///
/// ```text
/// L = (1 - a) T^2 KL(p^T, q^T) + a H(y, q^{T=1})
/// ```
///
/// Without labels the first term alone, with weight 1. Shapes as in
/// [`soft_targets`](crate::soft_targets) and [`hard_labels`].
///
/// # Errors
/// When shapes do not fit, a label is out of range, or a parameter is outside its range.
pub fn distillation(
    student: &Tensor,
    teacher: &Tensor,
    labels: Option<&Tensor>,
    config: &Distillation,
) -> Result<Tensor> {
    let soft = SoftTargets { temperature: config.temperature };
    with_labels(&soft, student, teacher, labels, config.hard_weight, config.label_smoothing)
}

/// `(1 - a) L_soft + a H(y, q)` for any logit loss; without labels `L_soft` alone.
///
/// # Errors
/// As for the logit loss and [`hard_labels`], and when `hard_weight` is outside `[0, 1]`.
pub fn with_labels(
    soft: &dyn LogitLoss,
    student: &Tensor,
    teacher: &Tensor,
    labels: Option<&Tensor>,
    hard_weight: f64,
    label_smoothing: f64,
) -> Result<Tensor> {
    check::share("distillation", "hard_weight", hard_weight)?;
    check::share("distillation", "label_smoothing", label_smoothing)?;
    let loss = soft.loss(student, teacher, labels)?;
    let Some(labels) = labels else { return Ok(loss) };
    let hard = hard_labels(student, labels, label_smoothing)?;
    (loss * (1.0 - hard_weight))? + (hard * hard_weight)?
}
