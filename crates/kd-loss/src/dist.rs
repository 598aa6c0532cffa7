//! DIST: correlations in place of divergences.

use crate::check;
use crate::log_softmax::log_softmax;
use crate::registry::{Build, LogitLoss, Method, Parameter, Values};
use candle_core::{D, Result, Tensor};

/// Keeps the correlation of a constant row at 0 with a finite gradient; the authors add it to the
/// product of norms.
const EPSILON: f64 = 1e-8;

/// The parameters of [`dist`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dist {
    /// Weight of the relations between classes within a sample, at least 0.
    pub beta: f64,
    /// Weight of the relations between samples within a class, at least 0.
    pub gamma: f64,
    /// `T`, above 0.
    pub temperature: f64,
}

impl Default for Dist {
    fn default() -> Self {
        Self { beta: 1.0, gamma: 1.0, temperature: 1.0 }
    }
}

/// One minus Pearson's correlation of the probabilities, over rows and over columns:
///
/// ```text
/// L = T^2 ( beta  (1 - 1/N sum_n r(p_n,: , q_n,:))  +  gamma (1 - 1/C sum_i r(p_:,i , q_:,i)) )
/// ```
///
/// (Huang et al., "Knowledge distillation from a stronger teacher", NeurIPS 2022, equations 7 to
/// 10.) It asks for the teacher's ranking rather than its exact probabilities. Both tensors have
/// shape `(samples, classes)`; the result is a scalar from 0 to `2 T^2 (beta + gamma)`. The teacher
/// takes no gradient. A row or column that is constant in either matrix has correlation 0; with a
/// single sample this holds for every column.
///
/// # Errors
/// When the shapes differ or a parameter is outside its range.
pub fn dist(student: &Tensor, teacher: &Tensor, config: &Dist) -> Result<Tensor> {
    const OP: &str = "dist";
    check::not_negative(OP, "beta", config.beta)?;
    check::not_negative(OP, "gamma", config.gamma)?;
    check::logits(OP, student, teacher)?;
    let student = log_softmax(student, config.temperature)?.exp()?;
    let teacher = log_softmax(&teacher.detach(), config.temperature)?.exp()?;
    let rows = correlation(&student, &teacher)?;
    let columns = correlation(&student.t()?, &teacher.t()?)?;
    let square = config.temperature * config.temperature;
    let rows = rows.affine(-config.beta * square, config.beta * square)?;
    rows + columns.affine(-config.gamma * square, config.gamma * square)?
}

/// The mean over rows of the rows' correlations.
fn correlation(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let centred = |x: &Tensor| x.broadcast_sub(&x.mean_keepdim(D::Minus1)?);
    let (a, b) = (centred(a)?, centred(b)?);
    let product = (&a * &b)?.sum(D::Minus1)?;
    let norms = (a.sqr()?.sum(D::Minus1)? * b.sqr()?.sum(D::Minus1)?)?;
    (product / (norms + EPSILON * EPSILON)?.sqrt()?)?.mean_all()
}

impl LogitLoss for Dist {
    fn temperature(&self) -> f64 {
        self.temperature
    }

    fn mixes_samples(&self) -> bool {
        self.gamma > 0.0
    }

    fn loss(&self, student: &Tensor, teacher: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
        dist(student, teacher, self)
    }
}

/// For the registry.
pub(crate) const METHOD: Method = Method {
    name: "dist",
    summary: "Correlation of probabilities within samples and within classes (Huang et al. 2022)",
    weight: 2.0,
    parameters: &[
        Parameter::not_negative("beta", 1.0, "Weight of the relations within a sample"),
        Parameter::not_negative("gamma", 1.0, "Weight of the relations within a class"),
        Parameter::above_zero("temperature", 1.0, "Softens both probabilities"),
    ],
    build: Build::Logits(build),
};

fn build(values: &Values) -> Result<Box<dyn LogitLoss>> {
    Ok(Box::new(Dist {
        beta: values.get("beta")?,
        gamma: values.get("gamma")?,
        temperature: values.get("temperature")?,
    }))
}
