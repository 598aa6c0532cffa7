//! Checks that every loss shares. Errors are candle's, as callers are candle code.

use candle_core::{DType, Error, Result, Tensor, bail};

/// Samples and classes of two logit matrices of one shape.
pub(crate) fn logits(
    op: &'static str,
    student: &Tensor,
    teacher: &Tensor,
) -> Result<(usize, usize)> {
    same_shape(op, student, teacher)?;
    matrix(op, student)
}

/// Rows and columns of a matrix that has at least one of each.
pub(crate) fn matrix(op: &'static str, logits: &Tensor) -> Result<(usize, usize)> {
    match *logits.dims() {
        [0, _] | [_, 0] => bail!("{op}: logits of shape {:?} are empty", logits.dims()),
        [samples, classes] => Ok((samples, classes)),
        _ => bail!(
            "{op}: logits must have shape (samples, classes), but have {:?}; fold further axes \
             into the samples",
            logits.dims()
        ),
    }
}

/// Two tensors of one shape.
pub(crate) fn same_shape(op: &'static str, student: &Tensor, teacher: &Tensor) -> Result<()> {
    if student.dims() == teacher.dims() {
        return Ok(());
    }
    let (lhs, rhs) = (student.shape().clone(), teacher.shape().clone());
    Err(Error::ShapeMismatchBinaryOp { lhs, rhs, op }.bt())
}

/// Labels as `(samples,)` integers below `classes`.
pub(crate) fn labels(
    op: &'static str,
    labels: &Tensor,
    samples: usize,
    classes: usize,
) -> Result<Vec<usize>> {
    if labels.dims() != [samples] {
        bail!("{op}: labels must have shape ({samples},), but have {:?}", labels.dims());
    }
    if !matches!(labels.dtype(), DType::U8 | DType::U32 | DType::I64) {
        bail!("{op}: labels must be U8, U32 or I64, but are {:?}", labels.dtype());
    }
    let found: Vec<i64> = labels.to_dtype(DType::I64)?.to_vec1()?;
    let mut checked = Vec::with_capacity(samples);
    for (row, &label) in found.iter().enumerate() {
        match usize::try_from(label) {
            Ok(label) if label < classes => checked.push(label),
            _ => bail!("{op}: label {label} in row {row} is not one of {classes} classes"),
        }
    }
    Ok(checked)
}

/// A parameter above zero and finite.
pub(crate) fn positive(op: &'static str, name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    bail!("{op}: {name} must be above 0 and finite, but is {value}")
}

/// A parameter that is finite and not negative.
pub(crate) fn not_negative(op: &'static str, name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    bail!("{op}: {name} must be finite and not negative, but is {value}")
}

/// A parameter in `[0, 1]`.
pub(crate) fn share(op: &'static str, name: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    bail!("{op}: {name} must be in [0, 1], but is {value}")
}
