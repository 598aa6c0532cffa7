//! Hinton's soft targets.

use crate::check;
use crate::log_softmax::{divergence, log_softmax};
use crate::registry::{Build, LogitLoss, Method, Parameter, Values};
use candle_core::{Result, Tensor};

/// The divergence of the student from the teacher's softened probabilities:
///
/// ```text
/// L = T^2 / N  sum_n sum_i p_ni (log p_ni - log q_ni)
/// p = softmax(teacher / T),  q = softmax(student / T)
/// ```
///
/// (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2.) It
/// is summed over classes and averaged over the batch of `N`. The paper's cross-entropy `H(p, q)`
/// differs from it by the entropy of `p`, which does not depend on the student. Gradients of the
/// divergence fall as `1 / T^2`, hence the factor: `dL/dz = T (q - p) / N`, which tends to
/// [`logit_matching`](crate::logit_matching) as `T` grows.
///
/// Both tensors have shape `(samples, classes)`; the result is a scalar, at least 0. The teacher
/// takes no gradient. For several teachers see [`Ensemble`](crate::Ensemble).
///
/// # Errors
/// When the shapes differ or `temperature` is not above 0 and finite.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let student = Tensor::new(&[[0_f64, 0.]], &Device::Cpu)?;
/// let teacher = Tensor::new(&[[4_f64, 0.]], &Device::Cpu)?;
/// let loss = kd_loss::soft_targets(&student, &teacher, 2.0)?.to_scalar::<f64>()?;
/// // p = (0.8808, 0.1192), q = (0.5, 0.5)
/// assert!((loss - 4.0 * (0.8808_f64 * 1.7616_f64.ln() + 0.1192 * 0.2384_f64.ln())).abs() < 1e-3);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn soft_targets(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    check::logits("soft_targets", student, teacher)?;
    let log_targets = log_softmax(teacher, temperature)?;
    let log_student = log_softmax(student, temperature)?;
    divergence(&log_targets, &log_student)? * (temperature * temperature)
}

/// [`soft_targets`] as a [`LogitLoss`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftTargets {
    /// `T`, above 0.
    pub temperature: f64,
}

impl Default for SoftTargets {
    fn default() -> Self {
        Self { temperature: 4.0 }
    }
}

impl LogitLoss for SoftTargets {
    fn temperature(&self) -> f64 {
        self.temperature
    }

    fn loss(&self, student: &Tensor, teacher: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
        soft_targets(student, teacher, self.temperature)
    }
}

/// For the registry.
pub(crate) const METHOD: Method = Method {
    name: "soft-targets",
    summary: "Divergence from the teacher's softened probabilities (Hinton et al. 2015)",
    weight: 1.0,
    parameters: &[Parameter::above_zero("temperature", 4.0, "Softens both probabilities")],
    build: Build::Logits(build),
};

fn build(values: &Values) -> Result<Box<dyn LogitLoss>> {
    Ok(Box::new(SoftTargets { temperature: values.get("temperature")? }))
}
