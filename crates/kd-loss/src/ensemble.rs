//! Several teachers as one.

use crate::check;
use crate::log_softmax::{log_softmax, log_sum_exp, widen};
use candle_core::{D, Result, Tensor, bail};

/// How the distributions of several teachers are averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mean {
    /// `p_i = sum_k w_k p_ki`: a class counts that any teacher believes in.
    #[default]
    Arithmetic,
    /// `p_i ~ prod_k p_ki^{w_k}`, renormalized, the softmax of the averaged logits: a class counts
    /// that all teachers believe in.
    Geometric,
}

/// An ensemble of teachers (Hinton, Vinyals and Dean 2015, section 2: "arithmetic or geometric mean
/// of their individual predictive distributions").
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `mean` | arithmetic | how distributions are averaged | |
/// | `weights` | empty, for equal ones | weight of each teacher, scaled to sum 1 | `>= 0`, one `> 0` |
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ensemble {
    /// How distributions are averaged.
    pub mean: Mean,
    /// Weight of each teacher; empty for equal weights.
    pub weights: Vec<f64>,
}

impl Ensemble {
    /// Logits of one teacher whose `softmax(logits / T)` is the mean of the teachers'
    /// `softmax(v_k / T)`, so that every logit loss takes an ensemble.
    ///
    /// ```text
    /// arithmetic:  T log sum_k w_k softmax(v_k / T)
    /// geometric:   sum_k w_k v_k
    /// ```
    ///
    /// The temperature is applied before averaging, as the mean of softened distributions is not
    /// the softened mean. All teachers have shape `(samples, classes)`, as has the result, which
    /// takes no gradient. One teacher is returned as it is.
    ///
    /// # Errors
    /// When there is no teacher, shapes differ, the number of weights is not that of teachers, a
    /// weight is negative or not finite, all are 0, or `temperature` is not above 0 and finite.
    pub fn logits(&self, teachers: &[Tensor], temperature: f64) -> Result<Tensor> {
        const OP: &str = "ensemble";
        check::positive(OP, "temperature", temperature)?;
        let weights = self.shares(teachers.len())?;
        let Some((first, others)) = teachers.split_first() else { bail!("{OP}: no teacher") };
        check::matrix(OP, first)?;
        for other in others {
            check::same_shape(OP, first, other)?;
        }
        if others.is_empty() {
            return Ok(first.detach());
        }
        let chosen = teachers.iter().zip(weights).filter(|(_, weight)| *weight > 0.0);
        let terms: Vec<Tensor> = match self.mean {
            Mean::Arithmetic => chosen
                .map(|(teacher, weight)| log_softmax(&teacher.detach(), temperature)? + weight.ln())
                .collect::<Result<_>>()?,
            Mean::Geometric => chosen
                .map(|(teacher, weight)| widen(&teacher.detach())? * weight)
                .collect::<Result<_>>()?,
        };
        let terms = Tensor::stack(&terms, D::Minus1)?;
        match self.mean {
            Mean::Arithmetic => log_sum_exp(&terms)?.squeeze(D::Minus1)? * temperature,
            Mean::Geometric => terms.sum(D::Minus1),
        }
    }

    /// The weights, scaled to sum 1.
    fn shares(&self, teachers: usize) -> Result<Vec<f64>> {
        if self.weights.is_empty() {
            return Ok(vec![1.0 / teachers as f64; teachers]);
        }
        if self.weights.len() != teachers {
            bail!("ensemble: {} weights for {teachers} teachers", self.weights.len())
        }
        for &weight in &self.weights {
            check::not_negative("ensemble", "a weight", weight)?;
        }
        let sum: f64 = self.weights.iter().sum();
        check::positive("ensemble", "the sum of weights", sum)?;
        Ok(self.weights.iter().map(|weight| weight / sum).collect())
    }
}
