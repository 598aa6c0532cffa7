//! A convolution or matrix product seen as rows: each output row is a weight matrix times an
//! input row.

use crate::{Error, Result};

/// Sizes of a linear map. Channels and outputs count all groups together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// Groups: independent maps side by side.
    pub groups: usize,
    /// Positions on the contracted axis.
    pub channels: usize,
    /// Columns that belong to one channel: kernel height times width.
    pub taps: usize,
    /// Outputs.
    pub outputs: usize,
    /// Rows per sample: output positions.
    pub positions: usize,
}

impl LinearShape {
    /// Columns of one group's input row.
    pub fn columns(&self) -> usize {
        self.channels / self.groups * self.taps
    }

    /// Outputs of one group.
    pub fn group_outputs(&self) -> usize {
        self.outputs / self.groups
    }

    /// Group of a channel, and its place within that group.
    pub fn place(&self, channel: usize) -> (usize, usize) {
        let per_group = self.channels / self.groups;
        (channel / per_group, channel % per_group)
    }
}

/// Reads the rows of a linear map from its input and output arrays.
///
/// A *sample* is one index of the first axis; its elements are contiguous.
pub trait LinearMap: Send + Sync {
    /// Sizes.
    fn shape(&self) -> LinearShape;

    /// Copies the input row of one output position: [`LinearShape::columns`] values, channel by
    /// channel, tap by tap; padding gives zeros.
    fn input_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]);

    /// Copies the output row of one position: [`LinearShape::group_outputs`] values.
    fn output_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]);

    /// The weight as `groups x outputs x columns`, row-major.
    fn rows_of_weight(&self, weight: &[f32]) -> Vec<f32>;

    /// Back from rows to the layout of the weight.
    fn weight_of_rows(&self, rows: &[f32]) -> Vec<f32>;

    /// The input that holds the bias, and what the bias is multiplied by; `None` when the operator
    /// has none.
    fn bias(&self) -> Option<(usize, f32)>;
}

/// Geometry of a two-dimensional sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Channels, height, width of the input.
    pub input: [usize; 3],
    /// Channels, height, width of the output.
    pub output: [usize; 3],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Strides.
    pub stride: [usize; 2],
    /// Padding before the first row and column.
    pub pad: [usize; 2],
    /// Dilations.
    pub dilation: [usize; 2],
    /// Groups.
    pub groups: usize,
}

impl Window {
    fn shape(&self) -> LinearShape {
        LinearShape {
            groups: self.groups,
            channels: self.input[0],
            taps: self.kernel[0] * self.kernel[1],
            outputs: self.output[0],
            positions: self.output[1] * self.output[2],
        }
    }

    fn output_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]) {
        let area = self.output[1] * self.output[2];
        let first = group * row.len();
        for (o, out) in row.iter_mut().enumerate() {
            *out = sample[(first + o) * area + position];
        }
    }

    /// Copies one row; `source` gives the input coordinate of a tap along one axis.
    fn input_row(
        &self,
        sample: &[f32],
        position: usize,
        group: usize,
        row: &mut [f32],
        source: impl Fn(usize, usize, usize) -> Option<usize>,
    ) {
        let [channels, height, width] = self.input;
        let per_group = channels / self.groups;
        let (y, x) = (position / self.output[2], position % self.output[2]);
        let [kh, kw] = self.kernel;
        for (c, taps) in row.chunks_exact_mut(kh * kw).enumerate().take(per_group) {
            let plane = &sample[(group * per_group + c) * height * width..][..height * width];
            for i in 0..kh {
                let iy = source(0, y, i);
                for j in 0..kw {
                    taps[i * kw + j] = match (iy, source(1, x, j)) {
                        (Some(iy), Some(ix)) => plane[iy * width + ix],
                        _ => 0.0,
                    };
                }
            }
        }
    }
}

/// A convolution with weight `[outputs, channels / groups, kh, kw]`.
#[derive(Debug, Clone, Copy)]
pub struct Convolution(pub Window);

impl LinearMap for Convolution {
    fn shape(&self) -> LinearShape {
        self.0.shape()
    }

    fn input_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]) {
        let w = &self.0;
        w.input_row(sample, position, group, row, |axis, out, tap| {
            let at = out * w.stride[axis] + tap * w.dilation[axis];
            at.checked_sub(w.pad[axis]).filter(|&at| at < w.input[axis + 1])
        });
    }

    fn output_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]) {
        self.0.output_row(sample, position, group, row);
    }

    fn rows_of_weight(&self, weight: &[f32]) -> Vec<f32> {
        weight.to_vec()
    }

    fn weight_of_rows(&self, rows: &[f32]) -> Vec<f32> {
        rows.to_vec()
    }

    fn bias(&self) -> Option<(usize, f32)> {
        Some((2, 1.0))
    }
}

/// A transposed convolution with weight `[channels, outputs / groups, kh, kw]`; the taps that do
/// not meet the input at an output position count as padding.
#[derive(Debug, Clone, Copy)]
pub struct TransposedConvolution(pub Window);

impl TransposedConvolution {
    /// Index into the weight of each element of `groups x outputs x columns`.
    fn permutation(&self) -> Vec<usize> {
        let shape = self.shape();
        let (outputs, channels) = (shape.group_outputs(), shape.channels / shape.groups);
        let mut from = Vec::with_capacity(shape.outputs * shape.columns());
        for g in 0..shape.groups {
            for o in 0..outputs {
                for c in 0..channels {
                    let start = ((g * channels + c) * outputs + o) * shape.taps;
                    from.extend(start..start + shape.taps);
                }
            }
        }
        from
    }
}

impl LinearMap for TransposedConvolution {
    fn shape(&self) -> LinearShape {
        self.0.shape()
    }

    fn input_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]) {
        let w = &self.0;
        // Output y receives input iy through tap i when y + pad = iy * stride + i * dilation.
        w.input_row(sample, position, group, row, |axis, out, tap| {
            let offset = (out + w.pad[axis]).checked_sub(tap * w.dilation[axis])?;
            let at = offset / w.stride[axis];
            (offset % w.stride[axis] == 0 && at < w.input[axis + 1]).then_some(at)
        });
    }

    fn output_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]) {
        self.0.output_row(sample, position, group, row);
    }

    fn rows_of_weight(&self, weight: &[f32]) -> Vec<f32> {
        self.permutation().into_iter().map(|i| weight[i]).collect()
    }

    fn weight_of_rows(&self, rows: &[f32]) -> Vec<f32> {
        let mut weight = vec![0.0; rows.len()];
        for (&value, i) in rows.iter().zip(self.permutation()) {
            weight[i] = value;
        }
        weight
    }

    fn bias(&self) -> Option<(usize, f32)> {
        Some((2, 1.0))
    }
}

/// A matrix product of rows with a constant matrix.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Length of an input row.
    pub channels: usize,
    /// Length of an output row.
    pub outputs: usize,
    /// Rows per sample.
    pub rows: usize,
    /// Is the matrix stored as `outputs x channels`?
    pub transposed: bool,
    /// Factor on the product.
    pub alpha: f32,
    /// Bias input and its factor.
    pub bias: Option<(usize, f32)>,
}

impl Product {
    /// Checks the factors.
    ///
    /// # Errors
    /// When a factor is zero or not finite.
    pub fn checked(self) -> Result<Self> {
        let factors = [self.alpha, self.bias.map_or(1.0, |(_, beta)| beta)];
        if factors.iter().any(|factor| !factor.is_finite() || *factor == 0.0) {
            return Err(Error::unsupported("alpha or beta is zero or not finite"));
        }
        Ok(self)
    }
}

impl LinearMap for Product {
    fn shape(&self) -> LinearShape {
        LinearShape {
            groups: 1,
            channels: self.channels,
            taps: 1,
            outputs: self.outputs,
            positions: self.rows,
        }
    }

    fn input_row(&self, sample: &[f32], position: usize, _group: usize, row: &mut [f32]) {
        row.copy_from_slice(&sample[position * self.channels..][..self.channels]);
    }

    fn output_row(&self, sample: &[f32], position: usize, _group: usize, row: &mut [f32]) {
        row.copy_from_slice(&sample[position * self.outputs..][..self.outputs]);
    }

    fn rows_of_weight(&self, weight: &[f32]) -> Vec<f32> {
        let (n, p) = (self.outputs, self.channels);
        let at = |o: usize, c: usize| if self.transposed { o * p + c } else { c * n + o };
        (0..n * p).map(|i| weight[at(i / p, i % p)] * self.alpha).collect()
    }

    fn weight_of_rows(&self, rows: &[f32]) -> Vec<f32> {
        let (n, p) = (self.outputs, self.channels);
        let mut weight = vec![0.0; n * p];
        for (i, &value) in rows.iter().enumerate() {
            let (o, c) = (i / p, i % p);
            let at = if self.transposed { i } else { c * n + o };
            weight[at] = value / self.alpha;
        }
        weight
    }

    fn bias(&self) -> Option<(usize, f32)> {
        self.bias
    }
}
