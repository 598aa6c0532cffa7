//! Decoupled knowledge distillation.

use crate::check;
use crate::log_softmax::{divergence, log_sum_exp, normalize, widen};
use crate::registry::{Build, LogitLoss, Method, Parameter, Values};
use candle_core::{Result, Tensor, bail};

/// The parameters of [`dkd`]; the defaults are the authors' for CIFAR-100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dkd {
    /// Weight of the target class, at least 0.
    pub alpha: f64,
    /// Weight of the other classes, at least 0. The authors use up to 8 on CIFAR-100 and 0.5 on
    /// ImageNet, and raise it from 0 during the first epochs.
    pub beta: f64,
    /// `T`, above 0.
    pub temperature: f64,
}

impl Default for Dkd {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 8.0, temperature: 4.0 }
    }
}

/// Soft targets, split at the target class `t`:
///
/// ```text
/// L    = T^2 (alpha TCKD + beta NCKD)
/// TCKD = KL( (p_t, 1 - p_t), (q_t, 1 - q_t) )         how sure about the target class
/// NCKD = KL( p without t, q without t )               each renormalized over the C - 1 other classes
/// ```
///
/// (Zhao et al., "Decoupled knowledge distillation", CVPR 2022, equations 6 and 7.) With `alpha = 1`
/// and `beta = 1 - p_t` per sample it would be [`soft_targets`](crate::soft_targets). Both logits
/// have shape `(samples, classes)`, `labels` `(samples,)`. Both terms are means over the batch; the
/// teacher takes no gradient. It differs from the authors' code in `log(1 - q_t)` from a sum of
/// exponentials and in leaving `t` out where they subtract 1,000 from its logit, which is exact at
/// every magnitude.
///
/// # Errors
/// When shapes do not fit, there is one class only, a label is out of range, or a parameter is
/// outside its range.
pub fn dkd(student: &Tensor, teacher: &Tensor, labels: &Tensor, config: &Dkd) -> Result<Tensor> {
    const OP: &str = "dkd";
    check::not_negative(OP, "alpha", config.alpha)?;
    check::not_negative(OP, "beta", config.beta)?;
    check::positive(OP, "temperature", config.temperature)?;
    let (samples, classes) = check::logits(OP, student, teacher)?;
    if classes < 2 {
        bail!("{OP}: needs two classes or more")
    }
    let targets = check::labels(OP, labels, samples, classes)?;
    let others: Vec<u32> = targets
        .iter()
        .flat_map(|&target| (0..classes).filter(move |&class| class != target))
        .map(|class| class as u32)
        .collect();
    let others = Tensor::from_vec(others, (samples, classes - 1), student.device())?;
    let split = |logits: &Tensor| -> Result<(Tensor, Tensor)> {
        let logits = (widen(logits)? / config.temperature)?;
        let target = logits.gather(&labels.unsqueeze(1)?, 1)?;
        let others = logits.gather(&others, 1)?;
        let pair = Tensor::cat(&[&target, &log_sum_exp(&others)?], 1)?;
        Ok((normalize(&pair)?, normalize(&others)?))
    };
    let (student_pair, student_others) = split(student)?;
    let (teacher_pair, teacher_others) = split(&teacher.detach())?;
    let square = config.temperature * config.temperature;
    let target = (divergence(&teacher_pair, &student_pair)? * (config.alpha * square))?;
    let others = (divergence(&teacher_others, &student_others)? * (config.beta * square))?;
    target + others
}

impl LogitLoss for Dkd {
    fn temperature(&self) -> f64 {
        self.temperature
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn loss(&self, student: &Tensor, teacher: &Tensor, labels: Option<&Tensor>) -> Result<Tensor> {
        let Some(labels) = labels else { bail!("dkd: needs labels") };
        dkd(student, teacher, labels, self)
    }
}

/// For the registry.
pub(crate) const METHOD: Method = Method {
    name: "dkd",
    summary: "Soft targets split into target class and the others (Zhao et al. 2022)",
    weight: 1.0,
    parameters: &[
        Parameter::not_negative("alpha", 1.0, "Weight of the target class"),
        Parameter::not_negative("beta", 8.0, "Weight of the other classes"),
        Parameter::above_zero("temperature", 4.0, "Softens both probabilities"),
    ],
    build: Build::Logits(build),
};

fn build(values: &Values) -> Result<Box<dyn LogitLoss>> {
    Ok(Box::new(Dkd {
        alpha: values.get("alpha")?,
        beta: values.get("beta")?,
        temperature: values.get("temperature")?,
    }))
}
