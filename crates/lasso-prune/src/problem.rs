//! The input of selection and reconstruction: which columns of which layers a channel owns.

use faer::{Mat, MatRef};
use std::sync::Arc;
use tensor_core::calibrate::{Centred, CentredRows, Statistics};
use tensor_core::{Error, Result};

/// One layer that reads the channels: its statistics, its weights, and the columns of each channel.
///
/// The layer maps a row `x` of `p` inputs to `n` responses `x W^T`, without bias. Channel `i` owns
/// the columns `blocks[i]`: for a convolution the `kh * kw` positions of its kernel, for a matrix
/// product behind a flatten the `H * W` positions of its map ([`contiguous_blocks`]). A channel may
/// own no column of this layer. Columns that no channel owns are always kept.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(crate) statistics: Arc<CentredStatistics>,
    /// `W^T`, `p x n`.
    pub(crate) weight: Arc<Mat<f64>>,
    pub(crate) blocks: Vec<Vec<usize>>,
    /// Columns in no block.
    pub(crate) fixed: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum CentredStatistics {
    Primal(Centred),
    Dual(CentredRows),
}

/// `channels` blocks of `width` consecutive columns each.
pub fn contiguous_blocks(channels: usize, width: usize) -> Vec<Vec<usize>> {
    (0..channels).map(|i| (i * width..(i + 1) * width).collect()).collect()
}

impl Problem {
    /// A layer from its statistics and its weight `W`, `n x p` row-major (an ONNX `Conv` weight as
    /// it is stored).
    ///
    /// # Errors
    /// When no row was sampled, the weight does not have `n * p` finite entries, or a column is out
    /// of range or owned twice.
    pub fn new(
        statistics: impl Into<Statistics>,
        weight: &[f32],
        blocks: Vec<Vec<usize>>,
    ) -> Result<Self> {
        let statistics = statistics.into();
        let (p, n) = (statistics.inputs(), statistics.outputs());
        if weight.len() != p * n {
            return Err(Error::invalid(format!(
                "the weight has {} entries, the statistics are of {n} x {p}",
                weight.len()
            )));
        }
        if let Some(at) = weight.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(format!(
                "the weight of output {} is {}",
                at / p,
                weight[at]
            )));
        }
        let weight = MatRef::from_column_major_slice(weight, p, n);
        let weight = Mat::from_fn(p, n, |i, j| f64::from(weight[(i, j)]));
        let statistics = match statistics {
            Statistics::Moments(moments) => CentredStatistics::Primal(moments.centred()?),
            Statistics::Rows(rows) => CentredStatistics::Dual(rows.centred()?),
        };
        let (statistics, weight) = (Arc::new(statistics), Arc::new(weight));
        let fixed = unowned_columns(&blocks, p)?;
        Ok(Self { statistics, weight, blocks, fixed })
    }

    /// The same layer, on the same statistics (which are shared), with other channels.
    ///
    /// # Errors
    /// When a column is out of range or owned twice.
    pub fn with_blocks(&self, blocks: Vec<Vec<usize>>) -> Result<Self> {
        let fixed = unowned_columns(&blocks, self.inputs())?;
        Ok(Self { blocks, fixed, ..self.clone() })
    }

    /// The layer behind a linear map of its inputs: rows are `x T` for `T` (`p x q`), and the weight is
    /// another one, `n x q` row-major. It has no channels to choose from.
    ///
    /// # Errors
    /// When the sizes do not fit, or a number is not finite.
    pub fn transformed(&self, map: &Mat<f64>, weight: &[f32]) -> Result<Self> {
        let (q, n) = (map.ncols(), self.outputs());
        if map.nrows() != self.inputs() || weight.len() != q * n {
            return Err(Error::invalid(format!(
                "a map of {} x {q} and a weight of {} elements do not fit {} inputs and {n} outputs",
                map.nrows(),
                weight.len(),
                self.inputs()
            )));
        }
        let mean_x = |mean: &[f64]| -> Vec<f64> {
            (0..q).map(|j| (0..map.nrows()).map(|i| mean[i] * map[(i, j)]).sum()).collect()
        };
        let statistics = match &*self.statistics {
            CentredStatistics::Primal(s) => CentredStatistics::Primal(Centred {
                rows: s.rows,
                mean_x: mean_x(&s.mean_x),
                mean_y: s.mean_y.clone(),
                gram: map.transpose() * (&s.gram * map),
                cross: map.transpose() * &s.cross,
                energy: s.energy,
                rounding: s.rounding * crate::linalg::energy(map.as_ref()).max(1.0) / q as f64,
            }),
            CentredStatistics::Dual(s) => CentredStatistics::Dual(CentredRows {
                mean_x: mean_x(&s.mean_x),
                mean_y: s.mean_y.clone(),
                x: &s.x * map,
                y: s.y.clone(),
                energy: s.energy,
            }),
        };
        if let Some(at) = weight.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(format!(
                "the weight of output {} is {}",
                at / q,
                weight[at]
            )));
        }
        Ok(Self {
            statistics: Arc::new(statistics),
            weight: Arc::new(Mat::from_fn(q, n, |i, o| f64::from(weight[o * q + i]))),
            blocks: Vec::new(),
            fixed: (0..q).collect(),
        })
    }

    /// Number of channels to choose from.
    pub fn channels(&self) -> usize {
        self.blocks.len()
    }

    /// Number of input columns `p`.
    pub fn inputs(&self) -> usize {
        self.weight.nrows()
    }

    /// Number of responses `n`.
    pub fn outputs(&self) -> usize {
        self.weight.ncols()
    }

    /// Energy of the centred responses, `q = sum |y - mean y|^2`.
    pub fn energy(&self) -> f64 {
        match &*self.statistics {
            CentredStatistics::Primal(s) => s.energy,
            CentredStatistics::Dual(s) => s.energy,
        }
    }

    /// The columns of channel `i`.
    pub fn block(&self, i: usize) -> &[usize] {
        &self.blocks[i]
    }

    /// Weight `1/q` in a joint objective; none when the responses do not vary.
    pub(crate) fn scale(&self) -> Option<f64> {
        (self.energy() > 0.0).then(|| 1.0 / self.energy())
    }

    /// Number of sampled rows.
    pub fn rows(&self) -> usize {
        match &*self.statistics {
            CentredStatistics::Primal(s) => s.rows,
            CentredStatistics::Dual(s) => s.x.nrows(),
        }
    }

    pub(crate) fn mean_x(&self) -> &[f64] {
        match &*self.statistics {
            CentredStatistics::Primal(s) => &s.mean_x,
            CentredStatistics::Dual(s) => &s.mean_x,
        }
    }

    pub(crate) fn mean_y(&self) -> &[f64] {
        match &*self.statistics {
            CentredStatistics::Primal(s) => &s.mean_y,
            CentredStatistics::Dual(s) => &s.mean_y,
        }
    }

    /// The ridge in the units of `G`: `relative` times the mean diagonal entry of centred `G`, but
    /// no less than rounding leaves meaning. When no input varies any positive number gives the same
    /// solution, zero.
    pub(crate) fn absolute_ridge(&self, relative: f64) -> f64 {
        let (trace, least): (f64, f64) = match &*self.statistics {
            CentredStatistics::Primal(s) => {
                ((0..s.gram.nrows()).map(|i| s.gram[(i, i)]).sum(), s.rounding)
            }
            CentredStatistics::Dual(s) => (crate::linalg::energy(s.x.as_ref()), 0.0),
        };
        if trace > 0.0 { (relative * trace / self.inputs() as f64).max(least) } else { 1.0 }
    }

    /// The columns of the given channels and the columns nobody owns, ascending.
    pub(crate) fn kept_columns(&self, kept: &[usize]) -> Vec<usize> {
        let mut columns = self.fixed.clone();
        for &i in kept {
            columns.extend_from_slice(&self.blocks[i]);
        }
        columns.sort_unstable();
        columns
    }

    /// The columns of the blocks in the given order, and where each block starts in that list (one
    /// entry more than blocks).
    pub(crate) fn columns_in_order(&self, order: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let mut columns = Vec::new();
        let mut starts = vec![0];
        for &i in order {
            columns.extend_from_slice(&self.blocks[i]);
            starts.push(columns.len());
        }
        (columns, starts)
    }
}

fn unowned_columns(blocks: &[Vec<usize>], p: usize) -> Result<Vec<usize>> {
    let mut owner = vec![None; p];
    for (channel, block) in blocks.iter().enumerate() {
        for &column in block {
            match owner.get_mut(column) {
                Some(slot @ None) => *slot = Some(channel),
                Some(Some(other)) => {
                    return Err(Error::invalid(format!(
                        "column {column} belongs to channel {other} and to channel {channel}"
                    )));
                }
                None => {
                    return Err(Error::invalid(format!(
                        "channel {channel} owns column {column}, but there are {p} columns"
                    )));
                }
            }
        }
    }
    Ok((0..p).filter(|&column| owner[column].is_none()).collect())
}

/// A set of channels to choose from, with every layer that reads them.
///
/// Channels that several layers read (a residual stream, both readers of a concatenation) are
/// chosen jointly: the objective is the sum over layers, each divided by its response energy `q`,
/// so that a layer with large activations does not outvote the others.
#[derive(Debug, Clone)]
pub struct Task {
    problems: Vec<Problem>,
    producer_norms: Option<Vec<f64>>,
}

impl Task {
    /// A task over the given layers.
    ///
    /// # Errors
    /// When there is no layer, no channel, or the layers disagree about the number of channels.
    pub fn new(problems: Vec<Problem>) -> Result<Self> {
        let Some(channels) = problems.first().map(Problem::channels) else {
            return Err(Error::invalid("a selection needs at least one layer"));
        };
        if channels == 0 {
            return Err(Error::invalid("a selection needs at least one channel"));
        }
        if let Some(other) = problems.iter().find(|p| p.channels() != channels) {
            return Err(Error::invalid(format!(
                "layers of one selection have {channels} and {} channels",
                other.channels()
            )));
        }
        Ok(Self { problems, producer_norms: None })
    }

    /// States the sum of absolute weights of the filter that produces each channel, which the
    /// baseline `max-response` ranks by.
    ///
    /// # Errors
    /// When there is not one finite number per channel.
    pub fn with_producer_norms(mut self, norms: Vec<f64>) -> Result<Self> {
        if norms.len() != self.channels() || norms.iter().any(|v| !v.is_finite()) {
            return Err(Error::invalid(format!(
                "{} producer norms for {} channels, or one is not finite",
                norms.len(),
                self.channels()
            )));
        }
        self.producer_norms = Some(norms);
        Ok(self)
    }

    /// Number of channels to choose from.
    pub fn channels(&self) -> usize {
        self.problems[0].channels()
    }

    /// The layers that read the channels.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The sums of absolute producing weights, where the caller gave them.
    pub fn producer_norms(&self) -> Option<&[f64]> {
        self.producer_norms.as_deref()
    }

    /// The layers whose responses vary, each with its weight `1/q` in the joint objective.
    pub(crate) fn weighted(&self) -> impl Iterator<Item = (&Problem, f64)> {
        self.problems.iter().filter_map(|p| p.scale().map(|scale| (p, scale)))
    }

    /// Which channels are in a list.
    pub(crate) fn membership(&self, channels: &[usize]) -> Result<Vec<bool>> {
        membership(channels, self.channels())
    }

    /// Checks a wanted channel count.
    pub(crate) fn check_keep(&self, keep: usize) -> Result<()> {
        if keep == 0 || keep > self.channels() {
            return Err(Error::invalid(format!(
                "cannot keep {keep} of {} channels",
                self.channels()
            ))
            .hint(format!("keep between 1 and {}", self.channels())));
        }
        Ok(())
    }
}

/// Which of `count` channels are in a list that must name each at most once.
pub(crate) fn membership(channels: &[usize], count: usize) -> Result<Vec<bool>> {
    let mut seen = vec![false; count];
    for &i in channels {
        match seen.get_mut(i) {
            Some(slot @ false) => *slot = true,
            _ => return Err(Error::invalid(format!("channel {i} is unknown or named twice"))),
        }
    }
    Ok(seen)
}

/// Checks that `order` names every one of `channels` channels once.
pub(crate) fn check_order(order: &[usize], channels: usize) -> Result<()> {
    membership(order, channels)?;
    if order.len() != channels {
        return Err(Error::invalid(format!("{} of {channels} channels are ordered", order.len())));
    }
    Ok(())
}
