//! A convolution or matrix product seen as rows: each output row is a weight matrix times an
//! input row.

use crate::kernels::ConvGeometry;

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

/// A convolution with weight `[outputs, channels / groups, kh, kw]`.
#[derive(Debug, Clone, Copy)]
pub struct Convolution(pub ConvGeometry);

impl LinearMap for Convolution {
    fn shape(&self) -> LinearShape {
        let g = &self.0;
        LinearShape {
            groups: g.groups,
            channels: g.in_channels,
            taps: g.taps(),
            outputs: g.out_channels,
            positions: g.output_area(),
        }
    }

    fn input_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]) {
        let g = &self.0;
        let (y, x) = (position / g.columns.output, position % g.columns.output);
        let planes = &sample[group * g.group_inputs() * g.input_area()..];
        copy_patch(planes, [&g.rows, &g.columns].map(|axis| axis.input), row, g, |i, j| {
            g.rows.source(y, i).zip(g.columns.source(x, j))
        });
    }

    fn output_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]) {
        copy_outputs(sample, self.0.output_area(), position, group, row);
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

/// A transposed convolution with weight `[channels, outputs / groups, kh, kw]`, given by the
/// convolution that it transposes; the taps that do not meet the input at an output position count
/// as padding.
#[derive(Debug, Clone, Copy)]
pub struct TransposedConvolution(pub ConvGeometry);

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
        let g = &self.0;
        LinearShape {
            groups: g.groups,
            channels: g.out_channels,
            taps: g.taps(),
            outputs: g.in_channels,
            positions: g.input_area(),
        }
    }

    fn input_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]) {
        let g = &self.0;
        let (y, x) = (position / g.columns.input, position % g.columns.input);
        let planes = &sample[group * g.group_outputs() * g.output_area()..];
        copy_patch(planes, [&g.rows, &g.columns].map(|axis| axis.output), row, g, |i, j| {
            g.rows.reader(y, i).zip(g.columns.reader(x, j))
        });
    }

    fn output_row(&self, sample: &[f32], position: usize, group: usize, row: &mut [f32]) {
        copy_outputs(sample, self.0.input_area(), position, group, row);
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

/// Copies the elements that the taps read from each of the planes of `height x width` elements.
fn copy_patch(
    planes: &[f32],
    [height, width]: [usize; 2],
    row: &mut [f32],
    g: &ConvGeometry,
    source: impl Fn(usize, usize) -> Option<(usize, usize)>,
) {
    let area = height * width;
    let place = |tap| source(tap / g.columns.kernel, tap % g.columns.kernel);
    // What the planes share is found once; a place behind the plane stands for padding.
    let places: Vec<usize> =
        (0..g.taps()).map(|tap| place(tap).map_or(area, |(y, x)| y * width + x)).collect();
    for (plane, taps) in planes.chunks_exact(area).zip(row.chunks_exact_mut(g.taps())) {
        for (to, &at) in taps.iter_mut().zip(&places) {
            *to = plane.get(at).copied().unwrap_or(0.0);
        }
    }
}

/// Copies one position of each of a group's output channels.
fn copy_outputs(sample: &[f32], area: usize, position: usize, group: usize, row: &mut [f32]) {
    let first = group * row.len();
    for (o, out) in row.iter_mut().enumerate() {
        *out = sample[(first + o) * area + position];
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
