//! Convolution.

use super::conv_weight::ConvWeight;
use super::window::{WindowAttributes, rows_and_columns};
use super::{
    Differentiated, Entry, Following, Fusing, Inputs, NodeCx, Operator, Prepared, PreparedSparse,
};
use crate::calibrate::{Convolution, LinearMap};
use crate::channels::{CutCx, Flow, Label};
use crate::cost::NodeCost;
use crate::graph::Attribute;
use crate::kernels::{
    ConvGeometry, Epilogue, Precision, SparseWeight, convolution, convolution_backward,
    convolution_in,
};
use crate::portable;
use crate::rewrite::Edit;
use crate::run::{Array, Fact, Training};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use std::sync::Arc;

pub(super) const OPERATORS: &[Entry] = &[("Conv", &Conv)];

struct Conv;

impl Operator for Conv {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let (x, w) = (inputs.required(0)?, inputs.required(1)?);
        let bias = inputs.get(2).map(|bias| bias.dims.as_slice());
        let geometry = geometry(cx, &x.dims, &w.dims, bias)?;
        Ok(vec![Fact::new(x.element, output_dims(&geometry, x.dims.len()))])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        Ok(self.eval_fused(cx, inputs, Epilogue::default())?.into_iter().collect())
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let (x, w) = (float(inputs.required(0)?)?, float(inputs.required(1)?)?);
        let bias = inputs.get(2);
        let geometry = geometry(cx, x.dims(), w.dims(), bias.map(Array::dims))?;
        let bias = bias.map(|bias| &bias.tensor);
        let y = portable::convolution(&x.tensor, &w.tensor, bias, &geometry)?;
        let tensor = y.reshape(output_dims(&geometry, x.dims().len()))?;
        Ok(Some(vec![Array { tensor, element: x.element }]))
    }

    fn fusing(&self) -> Option<&dyn Fusing> {
        Some(self)
    }

    fn differentiate(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        wanted: &[bool],
        following: &Following,
        training: &mut Training,
    ) -> Result<Option<Differentiated>> {
        if !following.is_empty() {
            return Ok(None);
        }
        let (x, w) = (float(inputs.required(0)?)?, float(inputs.required(1)?)?);
        let bias = inputs.get(2).map(Array::dims);
        let geometry = geometry(cx, x.dims(), w.dims(), bias)?;
        let precision = training.precision();
        let tensor = inputs.get(2).map(|bias| &bias.tensor);
        let y = convolution_in(&x.tensor, &w.tensor, tensor, &geometry, precision)?;
        let y = y.reshape(output_dims(&geometry, x.dims().len()))?;
        let output = Array { tensor: y, element: x.element };
        let (x, w) = (x.tensor.clone(), w.tensor.clone());
        let want = |i: usize| wanted.get(i) == Some(&true);
        let wanted = [want(0), want(1), want(2)];
        let pullback = Box::new(move |dy: &Tensor| {
            let g = &geometry;
            let dy = dy.reshape((g.batch, g.out_channels, g.rows.output, g.columns.output))?;
            Ok(convolution_backward(&x, &w, &dy, g, precision, wanted)?.to_vec())
        });
        Ok(Some(Differentiated { output, pullback }))
    }

    fn reduces(&self, cx: &NodeCx, inputs: &Inputs<Fact>, to: Precision) -> Result<bool> {
        let (x, w) = (inputs.required(0)?, inputs.required(1)?);
        Ok(to.uses_tiles(&geometry(cx, &x.dims, &w.dims, None)?))
    }

    fn prepare(&self, cx: &NodeCx, constants: &Inputs<Array>) -> Result<Option<Prepared>> {
        let Some(w) = constants.get(1) else { return Ok(None) };
        let w = float(w)?;
        let groups = groups(cx)?;
        let &[outputs, per_group, ..] = w.dims() else {
            return Err(Error::invalid("the weight has no axis of channels"));
        };
        if !outputs.is_multiple_of(groups) {
            return Err(Error::invalid(format!("{groups} groups do not divide {outputs} outputs")));
        }
        if groups > 1 && per_group == 1 {
            return Ok(None);
        }
        Ok(Some(Arc::new(ConvWeight::new(w, groups)?)))
    }

    fn prepare_sparse(
        &self,
        cx: &NodeCx,
        constants: &Inputs<Array>,
    ) -> Result<Option<PreparedSparse>> {
        let Some(w) = constants.get(1) else { return Ok(None) };
        let &[outputs, inputs, ref kernel @ ..] = w.dims() else { return Ok(None) };
        if groups(cx)? != 1 {
            return Ok(None);
        }
        let taps: usize = kernel.iter().product();
        let values = float(w)?.to_f32s()?;
        let weight = SparseWeight::if_faster(&values, outputs, inputs * taps, taps);
        Ok(weight.map(|weight| PreparedSparse::new(weight, |weight| ConvWeight::sparse(w, weight))))
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        if !freeze_window(flow) {
            return Ok(());
        }
        let groups = groups(cx)?;
        let input = flow.axis(0, 1);
        let outputs = flow.axis(1, 0);
        let per_group = flow.dims(1)[1];
        if groups > 1 && per_group == 1 {
            flow.freeze_axis(1, 1, "a depthwise weight has one input channel");
            tie_depthwise(flow, &input, &outputs);
        } else {
            let inner = flow.axis(1, 1);
            for group in input.chunks_exact(per_group) {
                flow.tie(group, &inner);
            }
            tie_across(flow, &outputs, groups);
            flow.contract((0, 1), Some((1, 1)), Some(0));
        }
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
        Ok(Some(Box::new(Convolution(g))))
    }

    fn cost(&self, _cx: &NodeCx, inputs: &Inputs<Fact>, outputs: &[Fact]) -> NodeCost {
        let per_output = inputs.get(1).map_or(0, |w| w.dims.iter().skip(1).product::<usize>());
        let count = outputs.first().map_or(0, Fact::count);
        NodeCost { macs: (count as u64).saturating_mul(per_output as u64) }
    }
}

impl Fusing for Conv {
    fn eval_fused(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        epilogue: Epilogue,
    ) -> Result<Option<Array>> {
        let (x, w) = (float(inputs.required(0)?)?, float(inputs.required(1)?)?);
        let bias = inputs.get(2).map(float).transpose()?;
        let geometry = geometry(cx, x.dims(), w.dims(), bias.map(Array::dims))?;
        let dims = output_dims(&geometry, x.dims().len());
        let fits = |residual: &Tensor| residual.dims() == dims && residual.dtype() == DType::F32;
        let scale_fits = epilogue.scale.as_ref().is_none_or(|s| s.0.len() == geometry.out_channels);
        if !scale_fits || !epilogue.residual.as_ref().is_none_or(fits) {
            return Ok(None);
        }
        let bias = bias.map(|bias| &bias.tensor);
        let prepared = cx.prepared.and_then(|prepared| prepared.downcast_ref::<ConvWeight>());
        let output = match prepared {
            Some(weight) => weight.convolution(&x.tensor, bias, &geometry, epilogue)?,
            None => convolution(&x.tensor, &w.tensor, bias, &geometry, None, epilogue)?,
        };
        Ok(Some(Array { tensor: output.reshape(dims)?, element: x.element }))
    }
}

/// Sizes of the convolution; checks the shapes of all inputs.
fn geometry(cx: &NodeCx, x: &[usize], w: &[usize], bias: Option<&[usize]>) -> Result<ConvGeometry> {
    let (&[batch, in_channels, ref spatial @ ..], &[out_channels, per_group, ref kernel @ ..]) =
        (x, w)
    else {
        return Err(Error::invalid(format!("input {x:?} and weight {w:?} lack axes")));
    };
    if spatial.len() != kernel.len() {
        return Err(Error::invalid(format!("weight {w:?} and input {x:?} differ in rank")));
    }
    let groups = groups(cx)?;
    let axes = WindowAttributes::read(cx, spatial.len(), Some(kernel))?.slide(spatial, false)?;
    let (rows, columns) = rows_and_columns(&axes);
    let geometry = ConvGeometry { batch, groups, in_channels, out_channels, rows, columns };
    geometry.check()?;
    if geometry.group_inputs() != per_group {
        return Err(Error::invalid(format!(
            "the weight has {per_group} input channels per group, the input {in_channels} in {groups} groups"
        )));
    }
    check_bias(bias, out_channels)?;
    Ok(geometry)
}

fn output_dims(g: &ConvGeometry, rank: usize) -> Vec<usize> {
    image_dims(rank, [g.batch, g.out_channels, g.rows.output, g.columns.output])
}

/// The shape of a batch of images, whose height is left out at rank 3.
pub(super) fn image_dims(rank: usize, [batch, channels, height, width]: [usize; 4]) -> Vec<usize> {
    match rank {
        4 => vec![batch, channels, height, width],
        _ => vec![batch, channels, width],
    }
}

/// The `group` attribute.
pub(super) fn groups(cx: &NodeCx) -> Result<usize> {
    let group = cx.int("group", 1)?;
    usize::try_from(group)
        .ok()
        .filter(|&group| group > 0)
        .ok_or_else(|| Error::invalid(format!("attribute `group` is {group}; it must be positive")))
}

/// Refuses a bias that is not one value per output channel.
pub(super) fn check_bias(bias: Option<&[usize]>, outputs: usize) -> Result<()> {
    match bias {
        Some(dims) if dims != [outputs] => {
            Err(Error::invalid(format!("bias of shape {dims:?} for {outputs} output channels")))
        }
        _ => Ok(()),
    }
}

/// An input whose elements are carried as `f32`.
pub(super) fn float(array: &Array) -> Result<&Array> {
    if array.tensor.dtype() == DType::F32 {
        return Ok(array);
    }
    Err(Error::unsupported(format!("computing with elements {:?}", array.element))
        .hint("convert the model to 32-bit floats"))
}

/// Freezes what a window slides over: every axis of the data but the channels, and the kernel.
/// Without a constant weight it freezes all and returns false.
pub(super) fn freeze_window(flow: &mut Flow) -> bool {
    if !flow.fact(1).is_some_and(|weight| weight.fixed) {
        flow.barrier("the weight of the convolution is not constant".to_owned());
        return false;
    }
    for axis in (0..flow.dims(0).len()).filter(|&axis| axis != 1) {
        flow.freeze_axis(0, axis, "a window slides over it");
    }
    for axis in 2..flow.dims(1).len() {
        flow.freeze_axis(1, axis, "it is a kernel axis");
    }
    true
}

/// Labels the output's channels, which the bias follows.
pub(super) fn set_outputs(flow: &mut Flow, outputs: Arc<[Label]>) {
    if flow.dims(2).len() == 1 {
        let bias = flow.axis(2, 0);
        flow.tie(&outputs, &bias);
    }
    let mut labels = vec![None; flow.dims(0).len()];
    labels[1] = Some(outputs);
    flow.set_output(0, labels);
}

/// Ties each input channel to the outputs that a depthwise convolution makes from it.
pub(super) fn tie_depthwise(flow: &mut Flow, input: &[Label], outputs: &[Label]) {
    let multiple = outputs.len() / input.len().max(1);
    for (&channel, made) in input.iter().zip(outputs.chunks_exact(multiple.max(1))) {
        for &output in made {
            flow.tie(&[channel], &[output]);
        }
    }
}

/// Ties the same place of every group, so that all groups keep equally many positions.
pub(super) fn tie_across(flow: &mut Flow, labels: &[Label], groups: usize) {
    let per_group = labels.len() / groups;
    let Some(first) = labels.get(..per_group) else { return };
    for group in labels.chunks_exact(per_group.max(1)).skip(1) {
        flow.tie(first, group);
    }
}

/// Lets the `group` attribute of a depthwise operator follow its channels.
///
/// Only a depthwise operator can come to have fewer channels than groups: with more channels per
/// group, each group keeps at least one.
pub(super) fn follow_depthwise(cx: &NodeCx, cut: &CutCx) -> Result<Vec<Edit>> {
    let channels = cut.input_dims(0).get(1).copied().unwrap_or(0);
    if channels >= groups(cx)? {
        return Ok(Vec::new());
    }
    let attribute = Attribute::Int(channels as i64);
    Ok(vec![Edit::SetAttribute { node: cx.id, name: "group".to_owned(), attribute }])
}
