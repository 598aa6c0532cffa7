//! Relational knowledge distillation.

use crate::check;
use crate::log_softmax::widen;
use crate::registry::{Build, FeatureLoss, FeaturePair, Method, Parameter, Values};
use candle_core::{D, Result, Tensor, bail};

/// Under the root of a squared distance, so that coincident samples have a finite gradient.
const EPSILON: f64 = 1e-12;

/// Differences of the distances between samples, each in units of their mean:
///
/// ```text
/// d_ij = |x_i - x_j| / mean_{i != j} |x_i - x_j|,   L = 1/N^2 sum_ij huber(d_ij^student - d_ij^teacher)
/// huber(x) = x^2 / 2 where |x| <= 1, else |x| - 1/2
/// ```
///
/// (Park et al., "Relational knowledge distillation", CVPR 2019, equations 4 to 7; their weight is
/// 25.) Features have shape `(samples, ...)` and are flattened; the two lengths may differ. The
/// result does not change when either network's features are shifted, rotated or scaled. The
/// teacher takes no gradient. Memory grows with the square of the batch.
///
/// # Errors
/// When there are fewer than two samples, a shape is empty, or the numbers of samples differ.
pub fn relational_distance(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (student, teacher) = vectors("relational_distance", student, teacher, 2)?;
    huber(&(distances(&student)? - distances(&teacher)?)?)?.mean_all()
}

/// Differences of the angles that triples of samples span:
///
/// ```text
/// a_ijk = cos of the angle at x_j between x_i and x_k,   L = 1/N^3 sum_ijk huber(a_ijk^student - a_ijk^teacher)
/// ```
///
/// (Park et al. 2019, equations 8 to 10; their weight is 50.) Shapes and invariances as in
/// [`relational_distance`]. Memory grows with the third power of the batch, and with its square
/// times the number of features.
///
/// # Errors
/// When there are fewer than three samples, a shape is empty, or the numbers of samples differ.
pub fn relational_angle(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (student, teacher) = vectors("relational_angle", student, teacher, 3)?;
    huber(&(cosines(&student)? - cosines(&teacher)?)?)?.mean_all()
}

/// Both as matrices with a row per sample.
fn vectors(
    op: &'static str,
    student: &Tensor,
    teacher: &Tensor,
    least: usize,
) -> Result<(Tensor, Tensor)> {
    for features in [student, teacher] {
        if features.rank() < 2 || features.elem_count() == 0 {
            bail!("{op}: features of shape {:?}, not (samples, ...)", features.dims())
        }
    }
    let samples = student.dim(0)?;
    if samples != teacher.dim(0)? {
        bail!("{op}: {samples} samples of the student, {} of the teacher", teacher.dim(0)?)
    }
    if samples < least {
        bail!("{op}: needs {least} samples or more, but has {samples}")
    }
    Ok((widen(student)?.flatten_from(1)?, widen(&teacher.detach())?.flatten_from(1)?))
}

/// Distances `(samples, samples)` in units of the mean between different samples.
fn distances(features: &Tensor) -> Result<Tensor> {
    let samples = features.dim(0)?;
    // Distances are about differences: without the common part the products cancel less.
    let centred = features.broadcast_sub(&features.mean_keepdim(0)?)?;
    let squares = centred.sqr()?.sum_keepdim(1)?;
    let products = centred.matmul(&centred.t()?)?;
    let squared = squares.broadcast_add(&squares.t()?)?.sub(&(products * 2.0)?)?;
    let zero = squared.zeros_like()?;
    let others = 1.0 - Tensor::eye(samples, features.dtype(), features.device())?;
    let distances = ((squared.maximum(&zero)? + EPSILON)?.sqrt()? * others?)?;
    let mean = (distances.sum_all()? / (samples * (samples - 1)) as f64)?;
    distances.broadcast_div(&mean)
}

/// Cosines `(samples, samples, samples)`: entry `jik` is that of the angle at `j`.
fn cosines(features: &Tensor) -> Result<Tensor> {
    let differences = features.unsqueeze(0)?.broadcast_sub(&features.unsqueeze(1)?)?;
    let norms = (differences.sqr()?.sum_keepdim(D::Minus1)? + EPSILON * EPSILON)?.sqrt()?;
    let directions = differences.broadcast_div(&norms)?;
    directions.matmul(&directions.transpose(1, 2)?)
}

fn huber(difference: &Tensor) -> Result<Tensor> {
    let size = difference.abs()?;
    let near = size.minimum(&size.ones_like()?)?;
    (near.sqr()? * 0.5)? + (size - near)?
}

/// Both relational losses as a [`FeatureLoss`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relational {
    /// Weight of the distances, at least 0.
    pub distance: f64,
    /// Weight of the angles, at least 0.
    pub angle: f64,
}

impl Default for Relational {
    fn default() -> Self {
        Self { distance: 25.0, angle: 50.0 }
    }
}

impl FeatureLoss for Relational {
    fn least_samples(&self) -> usize {
        if self.angle > 0.0 { 3 } else { 2 }
    }

    fn mixes_samples(&self) -> bool {
        true
    }

    fn loss(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        check::not_negative("relational", "distance", self.distance)?;
        check::not_negative("relational", "angle", self.angle)?;
        let distance = (relational_distance(student, teacher)? * self.distance)?;
        // The angles are too large to compute for nothing.
        if self.angle == 0.0 {
            return Ok(distance);
        }
        distance + (relational_angle(student, teacher)? * self.angle)?
    }
}

/// For the registry.
pub(crate) const METHOD: Method = Method {
    name: "relational",
    summary: "Distances and angles between samples, any number of features (Park et al. 2019)",
    weight: 1.0,
    parameters: &[
        Parameter::not_negative("distance", 25.0, "Weight of the distances"),
        Parameter::not_negative("angle", 50.0, "Weight of the angles"),
    ],
    build: Build::Features(build),
};

fn build(values: &Values, _: &FeaturePair) -> Result<Box<dyn FeatureLoss>> {
    Ok(Box::new(Relational { distance: values.get("distance")?, angle: values.get("angle")? }))
}
