//! How far the outputs of a changed network are from those of the original.

use rayon::prelude::*;
use tensor_core::graph::Graph;
use tensor_core::run::{Array, Session};
use tensor_core::{Error, Result, ValueId};

/// Squared error of the outputs relative to their centred energy, summed over the float outputs that
/// vary. Both networks have the same inputs and outputs.
///
/// # Errors
/// When a node fails.
pub(crate) fn output_error(
    original: &Graph,
    changed: &Graph,
    batches: &[Vec<Array>],
) -> Result<f64> {
    let sessions = [(original, Session::new(original)?), (changed, Session::new(changed)?)];
    let sums: Vec<Vec<Sums>> = batches
        .par_iter()
        .map(|batch| {
            let [before, after] = sessions.each_ref().map(|(graph, session)| {
                let inputs: Vec<(ValueId, Array)> =
                    graph.inputs.iter().copied().zip(batch.iter().cloned()).collect();
                session.run(&inputs)
            });
            before?.iter().zip(&after?).map(|(a, b)| Sums::of(a, b)).collect()
        })
        .collect::<Result<_>>()?;
    let mut total = 0.0;
    for output in 0..original.outputs.len() {
        let of_output = sums.iter().filter_map(|sums| sums.get(output));
        let sums = of_output.fold(Sums::default(), |sum, next| sum.plus(next));
        total += sums.relative();
    }
    match total.is_finite() {
        true => Ok(total),
        false => Err(Error::invalid("an output of the changed model is not finite")),
    }
}

/// Sums over the elements of an output.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    count: f64,
    total: f64,
    square: f64,
    error: f64,
}

impl Sums {
    fn of(original: &Array, changed: &Array) -> Result<Self> {
        if !original.element.is_float() {
            return Ok(Self::default());
        }
        let mut sums = Self::default();
        for (a, b) in original.to_f32s()?.into_iter().zip(changed.to_f32s()?) {
            let (a, b) = (f64::from(a), f64::from(b));
            sums.count += 1.0;
            sums.total += a;
            sums.square += a * a;
            sums.error += (a - b).powi(2);
        }
        Ok(sums)
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            count: self.count + other.count,
            total: self.total + other.total,
            square: self.square + other.square,
            error: self.error + other.error,
        }
    }

    /// Zero where the output does not vary: a sum of squares is positive by rounding even then.
    fn relative(&self) -> f64 {
        let energy = self.square - self.total * self.total / self.count.max(1.0);
        if energy > 1e-9 * self.square { self.error / energy } else { 0.0 }
    }
}
