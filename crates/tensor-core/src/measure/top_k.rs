//! Top-1 and top-k accuracy over a stream of batches.

use super::engine::Named;
use crate::text::counted;
use crate::{Error, ErrorKind, Result};
use candle_core::DType;
use serde::Serialize;

/// Counts right answers of a classifier, whose first output is N x classes.
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    samples: u64,
    first: u64,
    among: u64,
}

/// Accuracy as shares of 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// Samples counted.
    pub samples: u64,
    /// Share of samples whose class has the highest score; the first of equal scores wins.
    pub top1: f64,
    /// How many scores `top_k` looks at.
    pub k: usize,
    /// Share of samples whose class is among the `k` highest scores.
    pub top_k: f64,
}

impl TopK {
    /// Counts the first and the first `k` answers; `k` of 0 counts as 1.
    pub fn new(k: usize) -> Self {
        Self { k: k.max(1), samples: 0, first: 0, among: 0 }
    }

    /// Adds the outputs of a batch and the class of each of its samples.
    ///
    /// # Errors
    /// `E0304` when the first output is no N x classes (further axes of length 1), or N is not the
    /// number of labels, or a label is no class.
    pub fn add(&mut self, outputs: &[Named], labels: &[u32]) -> Result<()> {
        let Some((name, output)) = outputs.first() else {
            return Err(mismatch("the model has no output".to_owned()));
        };
        let classes = match output.dims() {
            [rows, classes, rest @ ..] if rest.iter().all(|&dim| dim == 1) => {
                if *rows != labels.len() {
                    return Err(mismatch(format!(
                        "{} for {}",
                        counted(labels.len(), "label"),
                        counted(*rows, "sample")
                    )));
                }
                *classes
            }
            dims => {
                return Err(mismatch(format!(
                    "output `{name}` has shape {dims:?}, which is no list of class scores"
                )));
            }
        };
        let values = output.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        for (scores, &label) in values.chunks_exact(classes.max(1)).zip(labels) {
            self.samples += 1;
            let Some(&own) = scores.get(label as usize) else {
                return Err(mismatch(format!(
                    "label {label} of sample {} is none of the model's {classes} classes",
                    self.samples - 1
                )));
            };
            // The place of the label: scores above it, and equal ones before it. NaN is no answer.
            let above = scores
                .iter()
                .enumerate()
                .filter(|&(i, &score)| score > own || (score == own && i < label as usize))
                .count();
            if !own.is_nan() {
                self.first += u64::from(above == 0);
                self.among += u64::from(above < self.k);
            }
        }
        Ok(())
    }

    /// The shares.
    ///
    /// # Errors
    /// `E0304` when no sample was added.
    pub fn finish(&self) -> Result<Accuracy> {
        if self.samples == 0 {
            return Err(mismatch("no samples".to_owned()));
        }
        let share = |right: u64| right as f64 / self.samples as f64;
        Ok(Accuracy {
            samples: self.samples,
            top1: share(self.first),
            k: self.k,
            top_k: share(self.among),
        })
    }
}

fn mismatch(message: String) -> Error {
    Error::new(ErrorKind::Invalid, "E0304", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    fn named(rows: &[[f32; 3]]) -> Vec<Named> {
        let tensor = Tensor::from_slice(rows.as_flattened(), (rows.len(), 3), &Device::Cpu)
            .expect("a rectangular tensor");
        vec![("scores".to_owned(), tensor)]
    }

    #[test]
    fn counts_by_hand() {
        let mut top = TopK::new(2);
        top.add(&named(&[[0.1, 0.7, 0.2], [0.5, 0.3, 0.4]]), &[1, 2]).expect("two rows");
        // Of equal scores the first wins; NaN is wrong.
        top.add(&named(&[[0.5, 0.5, 0.1], [0.0, 1.0, 2.0]]), &[1, 0]).expect("two rows");
        top.add(&named(&[[0.0, f32::NAN, 1.0]]), &[1]).expect("one row");
        let accuracy = top.finish().expect("five samples");
        assert_eq!(accuracy, Accuracy { samples: 5, top1: 0.2, k: 2, top_k: 0.6 });
    }

    #[test]
    fn misfits_are_errors() {
        let code = |outputs: &[Named], labels: &[u32]| {
            TopK::new(1).add(outputs, labels).expect_err("a misfit").code()
        };
        assert_eq!(code(&named(&[[0.0; 3]]), &[1, 2]), "E0304");
        assert_eq!(code(&named(&[[0.0; 3]]), &[3]), "E0304");
        assert_eq!(code(&[], &[]), "E0304");
        assert_eq!(TopK::new(1).finish().expect_err("nothing added").code(), "E0304");
    }
}
