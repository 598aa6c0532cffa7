//! What a data set holds, with the mistakes that ruin a calibration in silence.

use super::Dataset;
use crate::Result;
use candle_core::DType;
use serde::Serialize;

/// Samples held in memory at a time.
const BATCH: usize = 64;

/// Statistics of a whole data set, after preprocessing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Number of samples.
    pub samples: usize,
    /// Number of samples of each class, when there are labels.
    pub class_counts: Option<Vec<usize>>,
    /// Per model input.
    pub inputs: Vec<InputSummary>,
    /// What was done on opening.
    pub notes: Vec<String>,
    /// What looks wrong.
    pub warnings: Vec<String>,
}

/// Statistics of one input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InputSummary {
    /// Input name.
    pub name: String,
    /// Sample shape without the batch axis.
    pub shape: Vec<usize>,
    /// Per channel for images, one entry otherwise; empty for integer inputs.
    pub channels: Vec<ChannelStats>,
    /// Samples in which all values are equal.
    pub constant_samples: usize,
}

/// Range and moments of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChannelStats {
    /// Smallest value.
    pub min: f32,
    /// Mean.
    pub mean: f64,
    /// Standard deviation over all values.
    pub std: f64,
    /// Largest value.
    pub max: f32,
}

/// Running sums of one channel.
#[derive(Clone)]
struct Sums {
    min: f32,
    max: f32,
    count: u64,
    sum: f64,
    squares: f64,
}

impl Sums {
    const EMPTY: Self =
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY, count: 0, sum: 0.0, squares: 0.0 };

    fn add(&mut self, value: f32) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.count += 1;
        self.sum += f64::from(value);
        self.squares += f64::from(value) * f64::from(value);
    }

    fn stats(&self) -> ChannelStats {
        let count = self.count.max(1) as f64;
        let mean = self.sum / count;
        let variance = (self.squares / count - mean * mean).max(0.0);
        ChannelStats { min: self.min, mean, std: variance.sqrt(), max: self.max }
    }
}

impl Dataset {
    /// Reads every sample once and sums up what was seen.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    pub fn summary(&self) -> Result<Summary> {
        let mut sums: Vec<Vec<Sums>> = vec![Vec::new(); self.inputs.len()];
        let mut constant = vec![0; self.inputs.len()];
        for batch in self.batches(BATCH) {
            let batch = batch?;
            for (index, (_, tensor)) in batch.inputs.iter().enumerate() {
                let input = &self.inputs[index];
                if input.dtype == DType::I64 {
                    continue;
                }
                let axis = input.prepare.channel_axis(&input.dims);
                let channels = axis.map_or(1, |axis| input.dims[axis]);
                let inner = axis.map_or(1, |axis| input.dims[axis + 1..].iter().product());
                sums[index].resize(channels, Sums::EMPTY);
                let count = input.dims.iter().product::<usize>().max(1);
                let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
                for sample in values.chunks_exact(count) {
                    constant[index] += usize::from(sample.iter().all(|&v| v == sample[0]));
                    for (at, &value) in sample.iter().enumerate() {
                        sums[index][at / inner % channels].add(value);
                    }
                }
            }
        }
        let inputs: Vec<InputSummary> = self
            .inputs
            .iter()
            .zip(&sums)
            .zip(constant)
            .map(|((input, sums), constant_samples)| InputSummary {
                name: input.name.clone(),
                shape: input.dims.clone(),
                channels: sums.iter().map(Sums::stats).collect(),
                constant_samples,
            })
            .collect();
        let class_counts = if self.has_labels() { Some(self.class_counts()?) } else { None };
        Ok(Summary {
            samples: self.len(),
            class_counts,
            warnings: inputs.iter().flat_map(|input| warnings(input, self.len())).collect(),
            inputs,
            notes: self.notes().to_vec(),
        })
    }

    fn class_counts(&self) -> Result<Vec<usize>> {
        let mut counts = std::collections::BTreeMap::new();
        for label in self.labels()? {
            *counts.entry(label as usize).or_insert(0) += 1;
        }
        // Not one slot per number up to the largest: a single wild label must not exhaust memory.
        let classes = counts.keys().next_back().map_or(0, |&last| last + 1).min(1 << 20);
        Ok((0..classes).map(|class| counts.get(&class).copied().unwrap_or(0)).collect())
    }
}

fn warnings(input: &InputSummary, samples: usize) -> Vec<String> {
    let name = &input.name;
    let mut warnings = Vec::new();
    let min = input.channels.iter().map(|channel| channel.min).fold(f32::INFINITY, f32::min);
    let max = input.channels.iter().map(|channel| channel.max).fold(f32::NEG_INFINITY, f32::max);
    if input.channels.is_empty() {
        return warnings;
    }
    if min == max {
        warnings.push(format!("input `{name}` is constant: every value is {min}"));
        return warnings;
    }
    for (index, channel) in input.channels.iter().enumerate() {
        if channel.min == channel.max {
            warnings.push(format!("channel {index} of input `{name}` is constant"));
        }
    }
    if input.constant_samples > 0 {
        warnings.push(format!(
            "{} of {samples} samples of input `{name}` are constant",
            input.constant_samples
        ));
    }
    if min >= 0.0 && max <= 1.0 / 255.0 {
        warnings.push(format!("input `{name}` ranges from {min} to {max}: divided by 255 twice?"));
    }
    if min >= 0.0 && max > 128.0 && max <= 255.0 {
        warnings.push(format!(
            "input `{name}` ranges from {min} to {max}: pixels that were not scaled to 0..1?"
        ));
    }
    warnings
}
