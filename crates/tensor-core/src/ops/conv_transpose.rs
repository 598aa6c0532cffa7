//! Transposed convolution.

use super::conv::{
    check_bias, float, follow_depthwise, freeze_window, groups, image_dims, set_outputs, tie_across,
};
use super::window::{Padding, WindowAttributes, extent, rows_and_columns, sizes, split};
use super::{Entry, Inputs, NodeCx, Operator};
use crate::calibrate::{LinearMap, TransposedConvolution};
use crate::channels::{CutCx, Flow, Label};
use crate::cost::NodeCost;
use crate::kernels::{ConvGeometry, WindowAxis, transposed_convolution};
use crate::rewrite::Edit;
use crate::run::{Array, Fact};
use crate::{Error, Result};
use std::sync::Arc;

pub(super) const OPERATORS: &[Entry] = &[("ConvTranspose", &ConvTranspose)];

struct ConvTranspose;

impl Operator for ConvTranspose {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let (x, w) = (inputs.required(0)?, inputs.required(1)?);
        let bias = inputs.get(2).map(|bias| bias.dims.as_slice());
        let geometry = geometry(cx, &x.dims, &w.dims, bias)?;
        Ok(vec![Fact::new(x.element, output_dims(&geometry, x.dims.len()))])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let (x, w) = (float(inputs.required(0)?)?, float(inputs.required(1)?)?);
        let bias = inputs.get(2).map(float).transpose()?;
        let geometry = geometry(cx, x.dims(), w.dims(), bias.map(Array::dims))?;
        let bias = bias.map(|bias| &bias.tensor);
        let output = transposed_convolution(&x.tensor, &w.tensor, bias, &geometry)?;
        let tensor = output.reshape(output_dims(&geometry, x.dims().len()))?;
        Ok(vec![Array { tensor, element: x.element }])
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        if !freeze_window(flow) {
            return Ok(());
        }
        let groups = groups(cx)?;
        let input = flow.axis(0, 1);
        let rows = flow.axis(1, 0);
        flow.tie(&input, &rows);
        let per_group = flow.dims(1)[1];
        let outputs: Arc<[Label]> = if groups > 1 && rows.len() == groups {
            flow.freeze_axis(1, 1, "a depthwise weight has one input channel");
            rows.iter().flat_map(|&row| std::iter::repeat_n(row, per_group)).collect()
        } else {
            tie_across(flow, &rows, groups);
            let made = flow.axis(1, 1);
            flow.contract((0, 1), Some((1, 0)), Some(1));
            made.iter().copied().cycle().take(groups * per_group).collect()
        };
        set_outputs(flow, outputs);
        Ok(())
    }

    fn follow_cut(&self, cx: &NodeCx, cut: &CutCx) -> Result<Vec<Edit>> {
        follow_depthwise(cx, cut)
    }

    fn linear(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Option<Box<dyn LinearMap>>> {
        let (x, w) = (inputs.required(0)?, inputs.required(1)?);
        if !w.fixed {
            return Ok(None);
        }
        let g = geometry(cx, &x.dims, &w.dims, None)?;
        Ok(Some(Box::new(TransposedConvolution(g))))
    }

    fn cost(&self, _cx: &NodeCx, inputs: &Inputs<Fact>, _outputs: &[Fact]) -> NodeCost {
        let per_input = inputs.get(1).map_or(0, |w| w.dims.iter().skip(1).product::<usize>());
        let count = inputs.get(0).map_or(0, Fact::count);
        NodeCost { macs: (count as u64).saturating_mul(per_input as u64) }
    }
}

/// The convolution that this node transposes: its input is our output.
fn geometry(cx: &NodeCx, x: &[usize], w: &[usize], bias: Option<&[usize]>) -> Result<ConvGeometry> {
    let (&[batch, channels, ref spatial @ ..], &[rows, per_group, ref kernel @ ..]) = (x, w) else {
        return Err(Error::invalid(format!("input {x:?} and weight {w:?} lack axes")));
    };
    if spatial.len() != kernel.len() || channels != rows {
        return Err(Error::invalid(format!("weight {w:?} does not fit input {x:?}")));
    }
    let groups = groups(cx)?;
    let outputs = per_group
        .checked_mul(groups)
        .ok_or_else(|| Error::invalid("the number of output channels is too large"))?;
    let attributes = WindowAttributes::read(cx, spatial.len(), Some(kernel))?;
    let axes = transposed_axes(cx, spatial, &attributes)?;
    let (rows, columns) = rows_and_columns(&axes);
    let geometry =
        ConvGeometry { batch, groups, in_channels: outputs, out_channels: channels, rows, columns };
    geometry.check()?;
    check_bias(bias, outputs)?;
    Ok(geometry)
}

/// The windows of the transposed convolution, for given input lengths of this node.
fn transposed_axes(
    cx: &NodeCx,
    spatial: &[usize],
    attributes: &WindowAttributes,
) -> Result<Vec<WindowAxis>> {
    let rank = spatial.len();
    let extra = match cx.ints("output_padding")? {
        Some(values) => sizes(values, "output_padding", rank, 0)?,
        None => vec![0; rank],
    };
    let stated = match cx.ints("output_shape")? {
        // Some exporters list batch and channels as well.
        Some(values) if values.len() == rank + 2 => {
            Some(sizes(&values[2..], "output_shape", rank, 1)?)
        }
        Some(values) => Some(sizes(values, "output_shape", rank, 1)?),
        None => None,
    };
    let too_large = || Error::invalid("the sizes of the transposed convolution are too large");
    let mut axes = Vec::with_capacity(rank);
    for (axis, &length) in spatial.iter().enumerate() {
        let (kernel, stride) = (attributes.kernel[axis], attributes.strides[axis]);
        let dilation = attributes.dilations[axis];
        let reach = length
            .checked_sub(1)
            .ok_or_else(|| Error::invalid(format!("spatial axis {axis} of the input is empty")))?;
        let full = reach
            .checked_mul(stride)
            .and_then(|reach| reach.checked_add(extra[axis] + extent(kernel, dilation).ok()?))
            .ok_or_else(too_large)?;
        let wanted = match (&stated, &attributes.padding) {
            (Some(stated), _) => Some(stated[axis]),
            (None, Padding::Explicit(_)) => None,
            (None, _) => Some(length.checked_mul(stride).ok_or_else(too_large)?),
        };
        let (input, pad_begin, pad_end) = match (wanted, &attributes.padding) {
            (None, Padding::Explicit(pads)) => {
                let (begin, end) = pads[axis];
                let output = full.checked_sub(begin + end).filter(|&output| output > 0);
                let output = output.ok_or_else(|| {
                    Error::invalid(format!("padding {pads:?} leaves no output on axis {axis}"))
                })?;
                (output, begin, end)
            }
            (wanted, padding) => {
                let wanted = wanted.unwrap_or(full);
                let (begin, end) =
                    split(full.saturating_sub(wanted), *padding != Padding::SameUpper);
                (wanted, begin, end)
            }
        };
        axes.push(WindowAxis {
            input,
            output: length,
            kernel,
            stride,
            dilation,
            pad_begin,
            pad_end,
        });
    }
    Ok(axes)
}

fn output_dims(g: &ConvGeometry, rank: usize) -> Vec<usize> {
    image_dims(rank, [g.batch, g.in_channels, g.rows.input, g.columns.input])
}
