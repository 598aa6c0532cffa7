//! Sizes of convolutions and pooling windows.

use crate::{Error, Result};

/// Largest number of elements that a kernel allocates: sizes beyond it come from shapes that lie.
const MAX_ELEMENTS: usize = 1 << 31;

/// A window that slides along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowAxis {
    /// Length of the input.
    pub input: usize,
    /// Length of the output.
    pub output: usize,
    /// Taps.
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Distance between taps.
    pub dilation: usize,
    /// Padding before the first element.
    pub pad_begin: usize,
    /// Padding after the last element; windows may still reach beyond it when the output is
    /// rounded up.
    pub pad_end: usize,
}

impl WindowAxis {
    /// An axis that nothing slides along.
    pub const UNIT: Self =
        Self { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };

    /// Input position of a tap for an output position; `None` in the padding.
    #[inline]
    pub fn source(&self, output: usize, tap: usize) -> Option<usize> {
        let at = output * self.stride + tap * self.dilation;
        at.checked_sub(self.pad_begin).filter(|&at| at < self.input)
    }

    /// Output position whose tap reads an input position; `None` when there is none.
    #[inline]
    pub fn reader(&self, input: usize, tap: usize) -> Option<usize> {
        let offset = (input + self.pad_begin).checked_sub(tap * self.dilation)?;
        let at = offset / self.stride;
        (offset % self.stride == 0 && at < self.output).then_some(at)
    }

    /// Output positions `begin..end` whose tap falls inside the input.
    #[inline]
    pub fn inside(&self, tap: usize) -> (usize, usize) {
        let shift = tap * self.dilation;
        let begin = self.pad_begin.saturating_sub(shift).div_ceil(self.stride).min(self.output);
        let end = (self.input + self.pad_begin).saturating_sub(shift).div_ceil(self.stride);
        (begin, end.clamp(begin, self.output))
    }

    /// Elements that count in an average, for each output position.
    pub(crate) fn counts(&self, include_padding: bool) -> Vec<f32> {
        let padded = self.input + self.pad_begin + self.pad_end;
        let counted = |output: usize, tap: usize| {
            if include_padding {
                output * self.stride + tap * self.dilation < padded
            } else {
                self.source(output, tap).is_some()
            }
        };
        (0..self.output)
            .map(|output| {
                (0..self.kernel).filter(|&tap| counted(output, tap)).count().max(1) as f32
            })
            .collect()
    }

    /// Does every output read its own two input positions, and is none left?
    pub(super) fn halves(&self) -> bool {
        (self.kernel, self.stride, self.dilation, self.pad_begin) == (2, 2, 1, 0)
            && self.input == 2 * self.output
    }

    /// Does every output read exactly the input position of the same index?
    pub fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.pad_begin == 0 && self.output == self.input
    }
}

/// Sizes of a two-dimensional convolution on `[batch, channels, height, width]`.
///
/// A transposed convolution is described by the convolution that it transposes: its input is our
/// output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Samples.
    pub batch: usize,
    /// Groups; they divide both channel counts.
    pub groups: usize,
    /// Input channels of all groups.
    pub in_channels: usize,
    /// Output channels of all groups.
    pub out_channels: usize,
    /// The window along the height.
    pub rows: WindowAxis,
    /// The window along the width.
    pub columns: WindowAxis,
}

impl ConvGeometry {
    /// Input channels of one group.
    pub fn group_inputs(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Output channels of one group.
    pub fn group_outputs(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Kernel positions.
    pub fn taps(&self) -> usize {
        self.rows.kernel * self.columns.kernel
    }

    /// Length of the sum behind one output element.
    pub fn depth(&self) -> usize {
        self.group_inputs() * self.taps()
    }

    /// Elements of one input channel.
    pub fn input_area(&self) -> usize {
        self.rows.input * self.columns.input
    }

    /// Elements of one output channel.
    pub fn output_area(&self) -> usize {
        self.rows.output * self.columns.output
    }

    /// Elements of the input.
    pub fn input_count(&self) -> usize {
        self.batch * self.in_channels * self.input_area()
    }

    /// Elements of the output.
    pub fn output_count(&self) -> usize {
        self.batch * self.out_channels * self.output_area()
    }

    /// Elements of the weight.
    pub fn weight_count(&self) -> usize {
        self.out_channels * self.depth()
    }

    /// One input channel per group: no sum over channels.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.group_inputs() == 1
    }

    /// Refuses sizes whose products overflow or exceed what a kernel allocates.
    ///
    /// # Errors
    /// When there are no channels, groups do not divide them, or a tensor is too large.
    pub fn check(&self) -> Result<()> {
        if self.in_channels == 0 || self.out_channels == 0 {
            return Err(Error::invalid("a convolution without channels"));
        }
        if [&self.rows, &self.columns].iter().any(|w| w.kernel * w.stride * w.dilation == 0) {
            return Err(Error::invalid("a window without taps, stride or dilation"));
        }
        if self.groups == 0
            || !self.in_channels.is_multiple_of(self.groups)
            || !self.out_channels.is_multiple_of(self.groups)
        {
            return Err(Error::invalid(format!(
                "{} groups do not divide {} input and {} output channels",
                self.groups, self.in_channels, self.out_channels
            )));
        }
        let (rows, columns) = (&self.rows, &self.columns);
        check_count(&[self.batch, self.in_channels, rows.input, columns.input])?;
        check_count(&[self.batch, self.out_channels, rows.output, columns.output])?;
        check_count(&[self.out_channels, self.group_inputs(), rows.kernel, columns.kernel])
    }
}

/// Refuses shapes with more elements than a kernel allocates.
///
/// # Errors
/// When the product of the dimensions overflows or is too large.
pub fn check_count(dims: &[usize]) -> Result<()> {
    let count = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    match count {
        Some(count) if count <= MAX_ELEMENTS => Ok(()),
        _ => Err(Error::invalid(format!("a tensor of shape {dims:?} is too large"))),
    }
}
