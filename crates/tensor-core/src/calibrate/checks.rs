//! What statistics accept.

use crate::kernels::widest;
use crate::{Error, Result};

pub(super) fn check_dimensions(inputs: usize, outputs: usize) -> Result<()> {
    if inputs == 0 || outputs == 0 {
        return Err(Error::invalid(format!(
            "statistics need at least one input and one output column, got {inputs} and {outputs}"
        )));
    }
    Ok(())
}

pub(super) fn check_same(mine: (usize, usize), theirs: (usize, usize)) -> Result<()> {
    if mine != theirs {
        return Err(Error::invalid(format!(
            "statistics of {} x {} columns cannot be merged with {} x {}",
            mine.0, mine.1, theirs.0, theirs.1
        )));
    }
    Ok(())
}

pub(super) fn no_rows() -> Error {
    Error::invalid("no calibration rows were collected").hint("give calibration data")
}

/// Largest number that can be part of a fit: beside it, those of usual size vanish in 32-bit floats,
/// and its products come near the end of their range.
const LARGEST: f32 = 1e15;

/// Checks that `x` and `y` hold the same whole number of rows and only numbers that can be fitted.
pub(super) fn check_block(x: &[f32], y: &[f32], inputs: usize, outputs: usize) -> Result<()> {
    let rows = x.len() / inputs;
    if rows * inputs != x.len() || rows.checked_mul(outputs) != Some(y.len()) {
        return Err(Error::invalid(format!(
            "{} input and {} response numbers are not rows of {inputs} and {outputs} columns",
            x.len(),
            y.len()
        )));
    }
    for (what, values, columns) in [("input", x, inputs), ("response", y, outputs)] {
        // NaN fits in no range.
        let fits = |v: &f32| v.abs() <= LARGEST;
        let mut all_fit = true;
        // Without early end, so that it runs on vectors.
        widest(|| all_fit = values.iter().fold(true, |all, v| all & fits(v)));
        if all_fit {
            continue;
        }
        if let Some(at) = values.iter().position(|v| !fits(v)) {
            let message =
                format!("{what} column {} of a calibration row is {:e}", at % columns, values[at]);
            let hint = match values[at].is_finite() {
                true => {
                    "numbers above 1e15 cannot be refitted: look at the weights of this layer and before it"
                }
                false => "the model produces NaN or infinity on this data",
            };
            return Err(Error::invalid(message).hint(hint));
        }
    }
    Ok(())
}
