//! Cross-entropy with labels.

use crate::check;
use crate::log_softmax::log_softmax;
use candle_core::{Result, Tensor};

/// Cross-entropy of the student with labels, at temperature 1:
///
/// ```text
/// L = -1/N  sum_n sum_i y_ni log q_ni,   y = (1 - s) onehot(label) + s / C
/// ```
///
/// `s` is the label smoothing (Szegedy et al., "Rethinking the Inception architecture", 2016,
/// section 7), 0 for none. `student` has shape `(samples, classes)`, `labels` `(samples,)` with
/// integers below the number of classes. The result is a scalar.
///
/// # Errors
/// When shapes do not fit, a label is out of range, or `smoothing` is outside `[0, 1]`.
pub fn hard_labels(student: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    check::share("hard_labels", "smoothing", smoothing)?;
    let (samples, classes) = check::matrix("hard_labels", student)?;
    check::labels("hard_labels", labels, samples, classes)?;
    let log_student = log_softmax(student, 1.0)?;
    let own = log_student.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?;
    if smoothing == 0.0 {
        return own.neg();
    }
    (own * -(1.0 - smoothing))? + (log_student.mean_all()? * -smoothing)?
}
