//! The loss that training minimizes where there are labels.

use crate::{Error, Result};
use candle_core::{D, Tensor};

/// Cross-entropy with label smoothing, averaged over the batch; a scalar.
///
/// `-sum_k q_k log softmax(z)_k` with `q_k = (1 - s) [k = y] + s / K` for scores `z` (N x K),
/// classes `y` (N) and `smoothing` `s` in `0..1`.
///
/// Szegedy et al., "Rethinking the Inception architecture", 2016, section 7.
///
/// # Errors
/// `E0207` when a label is no class of the model; when the shapes do not fit.
pub fn cross_entropy(scores: &Tensor, labels: &[u32], smoothing: f64) -> Result<Tensor> {
    let (samples, classes) = scores.dims2()?;
    check_labels("", labels, classes)?;
    if labels.len() != samples {
        return Err(Error::internal(format!("{} labels for {samples} samples", labels.len())));
    }
    let rest = (smoothing / classes as f64) as f32;
    let mut targets = vec![rest; samples * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] += (1.0 - smoothing) as f32;
    }
    let targets = Tensor::from_vec(targets, (samples, classes), scores.device())?;
    let logs = log_softmax(scores)?;
    Ok(((logs * targets)?.sum_all()? * (-1.0 / samples.max(1) as f64))?)
}

/// `z - log sum exp z` along the last axis, without overflow.
///
/// # Errors
/// When candle fails.
pub fn log_softmax(scores: &Tensor) -> Result<Tensor> {
    // The shift cancels out, so no gradient has to pass through it.
    let shifted = scores.broadcast_sub(&scores.detach().max_keepdim(D::Minus1)?)?;
    let sums = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok(shifted.broadcast_sub(&sums)?)
}

/// Refuses labels that are no class; `of` says which samples they are of.
pub(super) fn check_labels(of: &str, labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().enumerate().find(|&(_, &label)| label as usize >= classes) {
        None => Ok(()),
        Some((at, label)) => Err(Error::invalid(format!(
            "{of}sample {at} has label {label}, but the model tells {classes} classes apart"
        ))
        .code_is("E0207")
        .hint(format!("classes are numbered from 0 to {}", classes.saturating_sub(1)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn uniform_scores_give_the_logarithm_of_the_classes() {
        let scores = Tensor::zeros((2, 5), candle_core::DType::F32, &Device::Cpu).expect("zeros");
        for smoothing in [0.0, 0.3] {
            let loss = cross_entropy(&scores, &[0, 4], smoothing).expect("loss");
            let loss: f32 = loss.to_scalar().expect("scalar");
            assert!((loss - 5_f32.ln()).abs() < 1e-6);
        }
    }

    /// dL/dz = (softmax(z) - q) / N.
    #[test]
    fn gradient_is_the_difference_of_distributions() {
        let z = [[1.0_f32, -2.0, 0.5], [90.0, 91.0, -300.0]];
        let scores = Var::new(&z, &Device::Cpu).expect("scores");
        let loss = cross_entropy(scores.as_tensor(), &[2, 0], 0.3).expect("loss");
        let gradients = loss.backward().expect("backward");
        let found = gradients.get(&scores).expect("gradient").to_vec2::<f32>().expect("values");
        for (row, (label, found)) in z.iter().zip([2, 0].into_iter().zip(found)) {
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f32 = row.iter().map(|z| (z - largest).exp()).sum();
            for (k, found) in found.into_iter().enumerate() {
                let target = 0.1 + if k == label { 0.7 } else { 0.0 };
                let expected = ((row[k] - largest).exp() / sum - target) / 2.0;
                assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
            }
        }
    }

    #[test]
    fn labels_beyond_the_classes_are_refused() {
        let scores = Tensor::zeros((1, 3), candle_core::DType::F32, &Device::Cpu).expect("zeros");
        assert_eq!(cross_entropy(&scores, &[3], 0.0).expect_err("refused").code(), "E0207");
    }
}
