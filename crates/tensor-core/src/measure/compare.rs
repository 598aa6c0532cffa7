//! How close the outputs of two models are, over any number of batches.

use super::engine::{Named, Runner};
use crate::text::counted;
use crate::{Error, ErrorKind, Result};
use candle_core::{DType, Tensor};
use serde::Serialize;

/// Comparison of all outputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Samples compared.
    pub samples: usize,
    /// Per output, in graph order.
    pub outputs: Vec<OutputComparison>,
}

/// Comparison of one output of a candidate with that of the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputComparison {
    /// Output name of the reference.
    pub name: String,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Range (max - min) of the reference.
    pub range: f64,
    /// Largest absolute difference over the range; `None` when the reference is constant.
    pub max_relative: Option<f64>,
    /// Root of the mean squared difference.
    pub rmse: f64,
    /// Cosine of the angle between all outputs of both; `None` when one is all zero.
    pub cosine: Option<f64>,
    /// Signal (reference) to difference, in dB: 10 lg(sum r^2 / sum (r - c)^2); `None` when the
    /// difference is zero.
    pub sqnr_db: Option<f64>,
    /// Elements that are NaN or infinite in one of the two only, or differently in both.
    pub non_finite: u64,
    /// Elements in all.
    pub elements: u64,
    /// Elements that are finite in both, which the figures above describe.
    pub compared: u64,
    /// Classification figures, when the output is N x classes (further axes of length 1).
    pub top1: Option<Top1>,
}

impl OutputComparison {
    /// Is every difference at most `absolute + relative * range of the reference`, nothing NaN or
    /// infinite in one of the two only, and something finite in both? The absolute part matters for outputs that saturate: the range of a
    /// sigmoid far below zero is nothing but rounding.
    pub fn within(&self, relative: f64, absolute: f64) -> bool {
        self.non_finite == 0 && !self.is_void() && self.max_abs <= absolute + relative * self.range
    }

    /// Are there elements, but none that could be compared? Then the figures say nothing.
    pub fn is_void(&self) -> bool {
        self.elements > 0 && self.compared == 0
    }
}

/// Top-1 figures; the first of equal scores wins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Top1 {
    /// Share of samples for which both name the same class.
    pub agreement: f64,
    /// Share of samples that the reference classifies as labelled; `None` without labels.
    pub reference_accuracy: Option<f64>,
    /// The same for the candidate.
    pub candidate_accuracy: Option<f64>,
}

/// Inputs of a batch and the class of each sample.
pub type LabelledBatch = (Vec<Named>, Option<Vec<u32>>);

/// Runs both models over the batches.
///
/// # Errors
/// Those of the batches and engines; `E0304` when the outputs do not correspond.
pub fn compare(
    reference: &mut dyn Runner,
    candidate: &mut dyn Runner,
    batches: impl IntoIterator<Item = Result<LabelledBatch>>,
) -> Result<Comparison> {
    let mut comparer = Comparer::default();
    for batch in batches {
        let (inputs, labels) = batch?;
        comparer.add(&reference.run(&inputs)?, &candidate.run(&inputs)?, labels.as_deref())?;
    }
    comparer.finish()
}

/// Top-1 accuracy of the first output over labelled batches, as a share of 1.
///
/// # Errors
/// Those of the batches and engine; `E0304` without labels or classes.
pub fn accuracy(
    model: &mut dyn Runner,
    batches: impl IntoIterator<Item = Result<LabelledBatch>>,
) -> Result<f64> {
    let (mut right, mut samples) = (0_u64, 0_u64);
    for batch in batches {
        let (inputs, labels) = batch?;
        let outputs = model.run(&inputs)?;
        let Some((name, output)) = outputs.first() else {
            return Err(mismatch("the model has no output"));
        };
        let labels = labels.ok_or_else(|| mismatch("accuracy needs labels"))?;
        let classes = classes(output.dims())
            .ok_or_else(|| mismatch(format!("output `{name}` is no list of class scores")))?;
        let values = values(output)?;
        if labels.len() * classes != values.len() {
            return Err(mismatch(format!(
                "{} for {:?}",
                counted(labels.len(), "label"),
                output.dims()
            )));
        }
        let scores = values.chunks_exact(classes).zip(&labels);
        right += scores.filter(|(scores, label)| argmax(scores) == **label as usize).count() as u64;
        samples += labels.len() as u64;
    }
    if samples == 0 {
        return Err(mismatch("no samples"));
    }
    Ok(right as f64 / samples as f64)
}

/// Accumulates a comparison batch by batch.
#[derive(Debug, Default)]
pub struct Comparer {
    samples: usize,
    outputs: Vec<Sums>,
}

/// Running sums of one output.
#[derive(Debug)]
struct Sums {
    name: String,
    elements: u64,
    count: u64,
    low: f64,
    high: f64,
    max_abs: f64,
    reference_squares: f64,
    candidate_squares: f64,
    products: f64,
    difference_squares: f64,
    non_finite: u64,
    classes: Option<usize>,
    scored: u64,
    agreed: u64,
    labelled: u64,
    reference_right: u64,
    candidate_right: u64,
}

impl Comparer {
    /// Adds the outputs of one batch, which must be as many and of the same shapes. Names may
    /// differ: outputs correspond by position.
    ///
    /// # Errors
    /// `E0304` when they do not correspond, or labels are not as many as samples.
    pub fn add(
        &mut self,
        reference: &[Named],
        candidate: &[Named],
        labels: Option<&[u32]>,
    ) -> Result<()> {
        if reference.len() != candidate.len() {
            return Err(mismatch(format!(
                "the models have {} and {}",
                counted(reference.len(), "output"),
                candidate.len()
            )));
        }
        if self.outputs.is_empty() {
            self.outputs = reference.iter().map(|(name, _)| Sums::new(name)).collect();
        }
        if self.outputs.len() != reference.len() {
            return Err(mismatch("the number of outputs changed between batches"));
        }
        for (sums, ((_, r), (_, c))) in self.outputs.iter_mut().zip(reference.iter().zip(candidate))
        {
            sums.add(r, c, labels)?;
        }
        self.samples += reference.first().and_then(|(_, r)| r.dims().first()).copied().unwrap_or(1);
        Ok(())
    }

    /// The figures.
    ///
    /// # Errors
    /// `E0304` when nothing was added.
    pub fn finish(&self) -> Result<Comparison> {
        if self.samples == 0 {
            return Err(mismatch("no samples"));
        }
        let outputs = self.outputs.iter().map(Sums::finish).collect();
        Ok(Comparison { samples: self.samples, outputs })
    }
}

impl Sums {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            elements: 0,
            count: 0,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            max_abs: 0.0,
            reference_squares: 0.0,
            candidate_squares: 0.0,
            products: 0.0,
            difference_squares: 0.0,
            non_finite: 0,
            classes: None,
            scored: 0,
            agreed: 0,
            labelled: 0,
            reference_right: 0,
            candidate_right: 0,
        }
    }

    fn add(
        &mut self,
        reference: &Tensor,
        candidate: &Tensor,
        labels: Option<&[u32]>,
    ) -> Result<()> {
        if reference.dims() != candidate.dims() {
            return Err(mismatch(format!(
                "output `{}` has shapes {:?} and {:?}",
                self.name,
                reference.dims(),
                candidate.dims()
            )));
        }
        let (r, c) = (values(reference)?, values(candidate)?);
        self.elements += r.len() as u64;
        for (&r, &c) in r.iter().zip(&c) {
            if !r.is_finite() || !c.is_finite() {
                let is_same = r == c || (r.is_nan() && c.is_nan());
                self.non_finite += u64::from(!is_same);
                continue;
            }
            self.count += 1;
            self.low = self.low.min(r);
            self.high = self.high.max(r);
            self.max_abs = self.max_abs.max((r - c).abs());
            self.reference_squares += r * r;
            self.candidate_squares += c * c;
            self.products += r * c;
            self.difference_squares += (r - c) * (r - c);
        }
        self.classes = classes(reference.dims());
        if let Some(classes) = self.classes {
            self.score(&r, &c, classes, labels)?;
        }
        Ok(())
    }

    fn score(
        &mut self,
        r: &[f64],
        c: &[f64],
        classes: usize,
        labels: Option<&[u32]>,
    ) -> Result<()> {
        let rows = r.len() / classes;
        if let Some(labels) = labels
            && labels.len() != rows
        {
            return Err(mismatch(format!(
                "{} for {}",
                counted(labels.len(), "label"),
                counted(rows, "sample")
            )));
        }
        for (row, (r, c)) in r.chunks_exact(classes).zip(c.chunks_exact(classes)).enumerate() {
            let (r, c) = (argmax(r), argmax(c));
            self.scored += 1;
            self.agreed += u64::from(r == c);
            if let Some(labels) = labels {
                let label = labels[row] as usize;
                self.labelled += 1;
                self.reference_right += u64::from(r == label);
                self.candidate_right += u64::from(c == label);
            }
        }
        Ok(())
    }

    fn finish(&self) -> OutputComparison {
        // Without finite values `high - low` is minus infinity.
        let range = (self.high - self.low).max(0.0);
        let lengths = (self.reference_squares * self.candidate_squares).sqrt();
        let share = |part: u64, whole: u64| part as f64 / whole as f64;
        let accuracy = |right| (self.labelled > 0).then(|| share(right, self.labelled));
        OutputComparison {
            name: self.name.clone(),
            max_abs: self.max_abs,
            range,
            max_relative: (range > 0.0).then(|| self.max_abs / range),
            rmse: (self.difference_squares / self.count.max(1) as f64).sqrt(),
            cosine: (lengths > 0.0).then(|| (self.products / lengths).clamp(-1.0, 1.0)),
            sqnr_db: (self.difference_squares > 0.0)
                .then(|| 10.0 * (self.reference_squares / self.difference_squares).log10())
                .filter(|ratio| ratio.is_finite()),
            non_finite: self.non_finite,
            elements: self.elements,
            compared: self.count,
            top1: (self.classes.is_some() && self.scored > 0).then(|| Top1 {
                agreement: share(self.agreed, self.scored),
                reference_accuracy: accuracy(self.reference_right),
                candidate_accuracy: accuracy(self.candidate_right),
            }),
        }
    }
}

/// The number of classes when a shape is N x classes, with further axes of length 1.
fn classes(dims: &[usize]) -> Option<usize> {
    match dims {
        [_, classes, rest @ ..] if *classes > 1 && rest.iter().all(|&dim| dim == 1) => {
            Some(*classes)
        }
        _ => None,
    }
}

fn argmax(scores: &[f64]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn mismatch(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "E0304", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn named(rows: &[[f32; 3]]) -> Vec<Named> {
        let tensor = Tensor::from_slice(rows.as_flattened(), (rows.len(), 3), &Device::Cpu)
            .expect("a rectangular tensor");
        vec![("scores".to_owned(), tensor)]
    }

    #[test]
    fn figures_are_those_of_the_whole_stream() {
        let r = [[1.0, 2.0, 4.0], [3.0, 0.0, 1.0], [0.0, 5.0, 0.0]];
        let c = [[1.0, 2.5, 4.0], [0.0, 3.0, 1.0], [0.0, 5.0, 0.0]];
        let mut comparer = Comparer::default();
        comparer.add(&named(&r[..1]), &named(&c[..1]), Some(&[2])).expect("same shapes");
        comparer.add(&named(&r[1..]), &named(&c[1..]), Some(&[1, 1])).expect("same shapes");
        let comparison = comparer.finish().expect("three samples");
        let output = &comparison.outputs[0];
        assert_eq!((comparison.samples, output.max_abs), (3, 3.0));
        assert_eq!(output.max_relative, Some(3.0 / 5.0));
        // By hand: squares 56 and 58.25, products 48, differences 0.25 + 9 + 9.
        let close = |value: Option<f64>, expected: f64| {
            assert!((value.expect("defined") - expected).abs() < 1e-12, "{value:?} {expected}");
        };
        close(Some(output.rmse), (18.25_f64 / 9.0).sqrt());
        close(output.cosine, 48.0 / (56.0_f64 * 58.25).sqrt());
        close(output.sqnr_db, 10.0 * (56.0_f64 / 18.25).log10());
        assert!(output.within(0.6, 0.001) && output.within(0.0, 3.0) && !output.within(0.59, 0.0));
        let top1 = output.top1.expect("classes");
        close(Some(top1.agreement), 2.0 / 3.0);
        close(top1.reference_accuracy, 2.0 / 3.0);
        close(top1.candidate_accuracy, 1.0);
    }

    #[test]
    fn equal_outputs_have_no_noise() {
        let mut comparer = Comparer::default();
        comparer.add(&named(&[[1.0; 3]]), &named(&[[1.0; 3]]), None).expect("same shapes");
        let output = comparer.finish().expect("one sample").outputs.remove(0);
        assert_eq!((output.max_abs, output.sqnr_db, output.max_relative), (0.0, None, None));
        assert_eq!(output.top1.expect("classes").reference_accuracy, None);
    }

    #[test]
    fn nan_is_counted_and_does_not_hide_the_rest() {
        let mut comparer = Comparer::default();
        let r = named(&[[1.0, 2.0, f32::NAN]]);
        comparer.add(&r, &named(&[[f32::NAN, 2.5, f32::NAN]]), None).expect("same shapes");
        let output = comparer.finish().expect("one sample").outputs.remove(0);
        assert_eq!((output.non_finite, output.max_abs), (1, 0.5));
        assert_eq!((output.elements, output.compared, output.is_void()), (3, 1, false));
        assert!(!output.within(1.0, 1.0));
    }

    #[test]
    fn outputs_that_do_not_correspond_are_errors() {
        let one = named(&[[1.0; 3]]);
        let two = named(&[[1.0; 3], [2.0; 3]]);
        let code = |r: &[Named], c: &[Named], labels: Option<&[u32]>| {
            Comparer::default().add(r, c, labels).expect_err("a mismatch").code()
        };
        assert_eq!(code(&one, &two, None), "E0304");
        assert_eq!(code(&one, &[], None), "E0304");
        assert_eq!(code(&one, &one, Some(&[1, 2])), "E0304");
        assert_eq!(Comparer::default().finish().expect_err("nothing added").code(), "E0304");
    }
}
