//! Attention transfer.

use crate::log_softmax::widen;
use crate::pool::to_common_size;
use crate::registry::{Build, FeatureLoss, FeaturePair, Method, Values};
use candle_core::{D, Result, Tensor};

/// Least norm of a map, as in PyTorch's `normalize`.
const EPSILON: f64 = 1e-12;

/// Mean squared difference of the normalized attention maps of one pair of stages:
///
/// ```text
/// A(f) = 1/C sum_c f_c^2,   a = vec(A) / |vec(A)|_2,   L = 1/(N H W) sum |a_student - a_teacher|^2
/// ```
///
/// (Zagoruyko and Komodakis, "Paying more attention to attention", ICLR 2017, equation 2, with the
/// mean of squares that their code uses. Their weight is 1000, summed over stages.) Features have
/// shape `(samples, channels, height, width)`; numbers of channels may differ. Where sizes differ
/// both are averaged down to the smaller one. The teacher takes no gradient.
///
/// # Errors
/// When a shape is not four-dimensional and non-empty or the numbers of samples differ.
pub fn attention_transfer(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (student, teacher) = to_common_size("attention_transfer", student, teacher)?;
    (map(&student)? - map(&teacher)?)?.sqr()?.mean_all()
}

fn map(features: &Tensor) -> Result<Tensor> {
    let attention = widen(features)?.sqr()?.mean(1)?.flatten_from(1)?;
    let norm = (attention.sqr()?.sum_keepdim(D::Minus1)? + EPSILON * EPSILON)?.sqrt()?;
    attention.broadcast_div(&norm)
}

/// [`attention_transfer`] as a [`FeatureLoss`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttentionTransfer;

impl FeatureLoss for AttentionTransfer {
    fn loss(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        attention_transfer(student, teacher)
    }
}

/// For the registry.
pub(crate) const METHOD: Method = Method {
    name: "attention",
    summary: "Where feature maps are large, any number of channels (Zagoruyko and Komodakis 2017)",
    weight: 1000.0,
    parameters: &[],
    build: Build::Features(build),
};

fn build(_: &Values, _: &FeaturePair) -> Result<Box<dyn FeatureLoss>> {
    Ok(Box::new(AttentionTransfer))
}
