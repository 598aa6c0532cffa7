//! Attributes that convolutions and pooling share: kernel, strides, dilations and padding.

use super::NodeCx;
use crate::kernels::WindowAxis;
use crate::{Error, Result};

/// Largest kernel, stride, dilation or padding: far beyond any model, far below overflow.
const MAX_SIZE: i64 = 1 << 24;

/// How the borders are padded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Padding {
    /// Given: begin and end of each axis.
    Explicit(Vec<(usize, usize)>),
    /// As much as makes the output `ceil(input / stride)` long; an odd rest goes to the end.
    SameUpper,
    /// As much as makes the output `ceil(input / stride)` long; an odd rest goes to the begin.
    SameLower,
}

/// The sliding-window attributes of a node.
#[derive(Debug, Clone)]
pub(super) struct WindowAttributes {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    pub(super) padding: Padding,
}

impl WindowAttributes {
    /// Reads the attributes; `kernel` is the kernel that the weight implies, if there is a weight.
    pub(super) fn read(cx: &NodeCx, rank: usize, kernel: Option<&[usize]>) -> Result<Self> {
        if rank == 0 || rank > 2 {
            return Err(Error::unsupported(format!(
                "{} over {rank} spatial axes; 1 and 2 are supported",
                cx.node.op
            )));
        }
        let stated = match cx.ints("kernel_shape")? {
            Some(values) => Some(sizes(values, "kernel_shape", rank, 1)?),
            None => None,
        };
        let kernel = match (stated, kernel) {
            (Some(stated), Some(kernel)) if stated != kernel => {
                return Err(Error::invalid(format!(
                    "kernel_shape {stated:?} does not match the weight's kernel {kernel:?}"
                )));
            }
            (_, Some(kernel)) => kernel.to_vec(),
            (Some(stated), None) => stated,
            (None, None) => return Err(Error::invalid("attribute `kernel_shape` is missing")),
        };
        if kernel.contains(&0) {
            return Err(Error::invalid(format!("the kernel {kernel:?} has no taps")));
        }
        let list = |name| match cx.ints(name)? {
            Some(values) => sizes(values, name, rank, 1),
            None => Ok(vec![1; rank]),
        };
        let padding = match cx.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => Padding::Explicit(explicit_pads(cx, rank)?),
            "VALID" => Padding::Explicit(vec![(0, 0); rank]),
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            other => return Err(Error::invalid(format!("auto_pad `{other}` does not exist"))),
        };
        let dilations = list("dilations")?;
        if !matches!(padding, Padding::Explicit(_)) && dilations.iter().any(|&d| d != 1) {
            return Err(Error::unsupported(
                "auto_pad SAME with dilations: runtimes disagree on it",
            )
            .hint("export the model with explicit pads"));
        }
        Ok(Self { kernel, strides: list("strides")?, dilations, padding })
    }

    /// The windows over `spatial` input lengths; `ceil` rounds the number of windows up.
    pub(super) fn slide(&self, spatial: &[usize], ceil: bool) -> Result<Vec<WindowAxis>> {
        spatial
            .iter()
            .enumerate()
            .map(|(axis, &input)| self.slide_axis(axis, input, ceil))
            .collect()
    }

    fn slide_axis(&self, axis: usize, input: usize, ceil: bool) -> Result<WindowAxis> {
        let (kernel, stride, dilation) =
            (self.kernel[axis], self.strides[axis], self.dilations[axis]);
        let extent = extent(kernel, dilation)?;
        let window = |output, pad_begin, pad_end| WindowAxis {
            input,
            output,
            kernel,
            stride,
            dilation,
            pad_begin,
            pad_end,
        };
        let Padding::Explicit(pads) = &self.padding else {
            let output = input.div_ceil(stride);
            let reach = output.saturating_sub(1).checked_mul(stride).ok_or_else(too_large)?;
            let total = (reach + extent).saturating_sub(input);
            let (begin, end) = split(total, self.padding == Padding::SameLower);
            return Ok(window(output, begin, end));
        };
        let (begin, end) = pads[axis];
        let padded = input.checked_add(begin + end).ok_or_else(too_large)?;
        let Some(room) = padded.checked_sub(extent) else {
            return Err(Error::invalid(format!(
                "a kernel that spans {extent} does not fit the padded length {padded} of spatial axis {axis}"
            )));
        };
        let mut output = room / stride + 1;
        // A last window counts only if it starts inside the input or the padding before it.
        if ceil && !room.is_multiple_of(stride) && output * stride < input + begin {
            output += 1;
        }
        Ok(window(output, begin, end))
    }
}

/// Span of a dilated kernel.
pub(super) fn extent(kernel: usize, dilation: usize) -> Result<usize> {
    (kernel - 1).checked_mul(dilation).and_then(|span| span.checked_add(1)).ok_or_else(too_large)
}

/// Splits padding over begin and end; an odd rest goes to the end, or to the begin if `lower`.
pub(super) fn split(total: usize, lower: bool) -> (usize, usize) {
    let half = total / 2;
    if lower { (total - half, half) } else { (half, total - half) }
}

/// Checks a list of sizes: `rank` values of at least `least`.
pub(super) fn sizes(values: &[i64], name: &str, rank: usize, least: i64) -> Result<Vec<usize>> {
    if values.len() != rank {
        return Err(Error::invalid(format!(
            "attribute `{name}` has {} values for {rank} axes",
            values.len()
        )));
    }
    let size = |&value: &i64| {
        if !(least..=MAX_SIZE).contains(&value) {
            return Err(Error::invalid(format!(
                "attribute `{name}` is {values:?}; values from {least} to {MAX_SIZE} are valid"
            )));
        }
        Ok(value as usize)
    };
    values.iter().map(size).collect()
}

/// The `pads` attribute as begin and end of each axis.
pub(super) fn explicit_pads(cx: &NodeCx, rank: usize) -> Result<Vec<(usize, usize)>> {
    match cx.ints("pads")? {
        Some(values) => {
            let pads = sizes(values, "pads", 2 * rank, 0)?;
            Ok((0..rank).map(|axis| (pads[axis], pads[axis + rank])).collect())
        }
        None => Ok(vec![(0, 0); rank]),
    }
}

/// Height and width windows: one spatial axis becomes the width of a single row.
pub(super) fn rows_and_columns(axes: &[WindowAxis]) -> (WindowAxis, WindowAxis) {
    match axes {
        [rows, columns] => (*rows, *columns),
        [columns] => (WindowAxis::UNIT, *columns),
        _ => (WindowAxis::UNIT, WindowAxis::UNIT),
    }
}

fn too_large() -> Error {
    Error::invalid("the sizes of the sliding window are too large")
}
