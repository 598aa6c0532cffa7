//! A set of samples, delivered in batches.

use super::errors::{labels as label_error, mixed, not_finite, shape_text};
use super::prepare::Prepare;
use super::sample::{Sample, Source, Values};
use super::{InputSpec, Preprocess};
use crate::text::counted;
use crate::{ElementType, Error, Result, random};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Samples for every input of a model, with or without labels. Cloning shares the sources.
///
/// Nothing is decoded before a batch asks for it; a batch decodes in parallel and its content does
/// not depend on the number of threads.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub(super) inputs: Vec<Input>,
    labels: Option<Arc<[u32]>>,
    classes: Arc<[String]>,
    /// Positions in the sources, in the order of delivery.
    order: Arc<[usize]>,
    notes: Vec<String>,
}

/// One model input.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) prepare: Prepare,
    /// Integers are delivered as `I64`.
    pub(super) dtype: DType,
    source: Arc<dyn Source>,
}

/// Consecutive samples.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Input names and tensors, N x (sample shape): `F32` (`F64`) for float inputs, `I64` for
    /// integer inputs.
    pub inputs: Vec<(String, Tensor)>,
    /// The class of each of the N samples.
    pub labels: Option<Vec<u32>>,
}

impl Batch {
    /// The only input.
    ///
    /// # Errors
    /// When there are several.
    pub fn single(&self) -> Result<&Tensor> {
        match self.inputs.as_slice() {
            [(_, tensor)] => Ok(tensor),
            inputs => Err(Error::unsupported(format!(
                "the data set feeds {}, one was expected",
                counted(inputs.len(), "input")
            ))),
        }
    }
}

/// What an opened path gives, before it is joined with the model's inputs.
#[derive(Debug)]
pub(super) struct Parts {
    /// Name and samples of every input.
    pub(super) sources: Vec<(String, Arc<dyn Source>)>,
    pub(super) labels: Option<Vec<u32>>,
    pub(super) classes: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Dataset {
    /// Joins sources with model inputs, which are empty (unknown) or as many.
    pub(super) fn new(
        path: &Path,
        parts: Parts,
        specs: &[InputSpec],
        settings: &Preprocess,
    ) -> Result<Self> {
        let several = parts.sources.len() > 1;
        let only_layout = Preprocess { layout: settings.layout, ..Preprocess::default() };
        if several && *settings != only_layout {
            return Err(super::errors::preprocessing(
                "preprocessing applies to data sets with one input",
            )
            .hint("store the inputs as the model takes them"));
        }
        let count = parts.sources.first().map_or(0, |(_, source)| source.len());
        let mut notes = parts.notes;
        let mut inputs = Vec::new();
        for (index, (name, source)) in parts.sources.into_iter().enumerate() {
            if source.len() != count {
                return Err(mixed(format!(
                    "{}: input `{name}` has {}, the first input has {count}",
                    path.display(),
                    counted(source.len(), "sample")
                )));
            }
            let spec = specs.get(index);
            let prepare = Prepare::new(settings, spec)?;
            let raw = source.sample(0)?;
            let (stored, decoded) = (raw.dims.clone(), raw.decoded);
            let first = prepare.apply(raw, &source.place(0))?;
            if !decoded {
                notes.extend(prepare.note(&stored, &first.dims));
            }
            let element = spec.map(|spec| spec.element);
            let dtype = match (&first.values, element) {
                (Values::Floats(_), Some(ElementType::F64)) => DType::F64,
                (Values::Floats(_), _) => DType::F32,
                _ => DType::I64,
            };
            inputs.push(Input { name, dims: first.dims, prepare, dtype, source });
        }
        if let Some(labels) = &parts.labels
            && labels.len() != count
        {
            return Err(super::labels::count_mismatch(path, labels.len(), count));
        }
        Ok(Self {
            inputs,
            labels: parts.labels.map(Into::into),
            classes: parts.classes.into(),
            order: (0..count).collect(),
            notes,
        })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Is it empty? Opening never gives an empty set; [`Dataset::subset`] of 0 does.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Name and sample shape (without batch axis) of every input.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.inputs.iter().map(|input| (input.name.as_str(), input.dims.as_slice()))
    }

    /// How the only input is laid out as an image, and the value of a black pixel in each channel;
    /// `None` when there are several inputs or it is no float image.
    pub fn images(&self) -> Option<(super::Layout, Vec<f32>)> {
        let [input] = self.inputs.as_slice() else { return None };
        let axis = input.prepare.channel_axis(&input.dims)?;
        if input.dtype != DType::F32 {
            return None;
        }
        Some((input.prepare.layout(), input.prepare.black(input.dims[axis])))
    }

    /// Are there labels?
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Names of the classes, when the source names them (class sub-folders).
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What was done on opening that the user should know: labels found beside the data, axes
    /// moved, entries skipped.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The samples at these positions.
    ///
    /// # Errors
    /// When the range is outside the set; `E0202`, `E0205`, `E0206` or `E0208` name the sample that
    /// cannot be used.
    pub fn batch(&self, range: Range<usize>) -> Result<Batch> {
        let positions = self.order.get(range.clone()).ok_or_else(|| {
            Error::invalid(format!("samples {range:?} of a set of {}", self.len()))
        })?;
        let mut inputs = Vec::new();
        for input in &self.inputs {
            inputs.push((input.name.clone(), input.batch(positions)?));
        }
        let labels = self
            .labels
            .as_ref()
            .map(|labels| positions.iter().map(|&position| labels[position]).collect());
        Ok(Batch { inputs, labels })
    }

    /// All samples in batches of `size` (the last may be smaller; 0 counts as 1).
    pub fn batches(&self, size: usize) -> impl Iterator<Item = Result<Batch>> + '_ {
        let size = size.max(1);
        (0..self.len())
            .step_by(size)
            .map(move |start| self.batch(start..start.saturating_add(size).min(self.len())))
    }

    /// `n` samples drawn without replacement by the seed's "subset" stream, in the order of the
    /// source; all of them when there are no more.
    #[must_use]
    pub fn subset(&self, n: usize, seed: u64) -> Self {
        let drawn = random::permutation(&mut random::stream(seed, "subset"), self.len());
        let mut chosen = drawn;
        chosen.truncate(n);
        chosen.sort_unstable();
        self.reordered(&chosen)
    }

    /// The first `n` samples.
    #[must_use]
    pub fn first(&self, n: usize) -> Self {
        self.reordered(&(0..n.min(self.len())).collect::<Vec<_>>())
    }

    /// All but the first `n` samples.
    #[must_use]
    pub fn without_first(&self, n: usize) -> Self {
        self.reordered(&(n.min(self.len())..self.len()).collect::<Vec<_>>())
    }

    /// All but `n` samples, and those: runs of neighbours, spread over the set. Neighbours are often alike, crops of one
    /// photograph or frames of one video, so that one drawn alone would be judged by what is known of the next.
    #[must_use]
    pub fn split_runs(&self, n: usize) -> (Self, Self) {
        /// Few, so that few neighbours are parted.
        const RUNS: usize = 8;
        let (all, n) = (self.len(), n.min(self.len()));
        let taken: Vec<usize> = (1..=RUNS)
            .flat_map(|run| {
                let [start, end] = [run - 1, run].map(|run| all * run / RUNS);
                let count = end * n / all.max(1) - start * n / all.max(1);
                end - count..end
            })
            .collect();
        let others: Vec<usize> = (0..all).filter(|at| taken.binary_search(at).is_err()).collect();
        (self.reordered(&others), self.reordered(&taken))
    }

    /// All samples in an order drawn by the seed's "shuffle" stream.
    #[must_use]
    pub fn shuffled(&self, seed: u64) -> Self {
        self.reordered(&random::permutation(&mut random::stream(seed, "shuffle"), self.len()))
    }

    /// The same samples in the order of the source, in which neighbours are often alike.
    #[must_use]
    pub fn in_source_order(&self) -> Self {
        let mut order = self.order.to_vec();
        order.sort_unstable();
        Self { order: order.into(), ..self.clone() }
    }

    /// With the labels of another file.
    ///
    /// # Errors
    /// `E0207` when they are not class numbers or not as many as the samples.
    pub(super) fn labelled(mut self, path: &Path) -> Result<Self> {
        let labels = super::labels::read(path)?;
        if labels.len() != self.len() {
            return Err(super::labels::count_mismatch(path, labels.len(), self.len()));
        }
        self.labels = Some(labels.into());
        Ok(self)
    }

    /// Every label.
    ///
    /// # Errors
    /// `E0207` when there are none.
    pub fn labels(&self) -> Result<Vec<u32>> {
        let labels = self.labels.as_ref().ok_or_else(|| {
            label_error(Path::new("data set"), "has no labels")
                .hint("give `labels`, or use one sub-folder per class")
        })?;
        Ok(self.order.iter().map(|&position| labels[position]).collect())
    }

    fn reordered(&self, positions: &[usize]) -> Self {
        Self { order: positions.iter().map(|&at| self.order[at]).collect(), ..self.clone() }
    }
}

impl Input {
    fn batch(&self, positions: &[usize]) -> Result<Tensor> {
        let samples: Vec<Result<Sample>> =
            positions.par_iter().map(|&position| self.prepared(position)).collect();
        let mut dims = vec![positions.len()];
        dims.extend(&self.dims);
        if self.dtype == DType::I64 {
            let mut all = Vec::new();
            for sample in samples {
                if let Values::Integers(values) = sample?.values {
                    all.extend(values);
                }
            }
            return Ok(Tensor::from_vec(all, dims, &Device::Cpu)?);
        }
        let mut all = Vec::with_capacity(dims.iter().product());
        for sample in samples {
            if let Values::Floats(values) = sample?.values {
                all.extend(values);
            }
        }
        Ok(Tensor::from_vec(all, dims, &Device::Cpu)?.to_dtype(self.dtype)?)
    }

    fn prepared(&self, position: usize) -> Result<Sample> {
        let place = self.source.place(position);
        let sample = self.prepare.apply(self.source.sample(position)?, &place)?;
        if sample.dims != self.dims {
            return Err(mixed(format!(
                "{place}: has shape {}, the first sample has {}",
                shape_text(&sample.dims),
                shape_text(&self.dims)
            ))
            .hint("bring all samples to one size with `resize = N` and `crop = N`"));
        }
        if let Values::Floats(values) = &sample.values
            && let Some(&value) = values.iter().find(|value| !value.is_finite())
        {
            return Err(not_finite(&place, value));
        }
        Ok(sample)
    }
}
