//! `Pad`.

use super::join::{part, select};
use super::operand::{Operand, axes, count, finish};
use super::{Entry, Inputs, NodeCx, Operator};
use crate::channels::{Flow, Label};
use crate::run::{Array, Fact};
use crate::{ElementType, Error, Result};
use candle_core::{DType, Device, Tensor};

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] = &[("Pad", &Pad)];

struct Pad;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

impl Mode {
    fn of(cx: &NodeCx) -> Result<Self> {
        Ok(match cx.string("mode", "constant")? {
            "constant" => Self::Constant,
            "reflect" => Self::Reflect,
            "edge" => Self::Edge,
            "wrap" => Self::Wrap,
            other => return Err(Error::unsupported(format!("attribute `mode` = `{other}`"))),
        })
    }

    /// The source of a position that may lie outside an axis of length `n`; `None` for the constant.
    fn source(self, position: i64, n: i64) -> Option<usize> {
        let inside = match self {
            Self::Constant => position,
            Self::Edge => position.clamp(0, n - 1),
            Self::Wrap => position.rem_euclid(n),
            Self::Reflect if n == 1 => 0,
            Self::Reflect => {
                let folded = position.rem_euclid(2 * (n - 1));
                folded.min(2 * (n - 1) - folded)
            }
        };
        usize::try_from(inside).ok().filter(|&i| (i as i64) < n)
    }
}

impl Pad {
    /// Elements to add before and after each axis; negative ones remove. An input from opset 11
    /// on, an attribute before.
    fn amounts<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<Vec<(i64, i64)>> {
        let rank = inputs.required(0)?.dims().len();
        let pads = match cx.opset() {
            ..11 => cx.ints("pads")?.map(<[i64]>::to_vec).unwrap_or_default(),
            _ => inputs.required(1)?.integers()?,
        };
        let axes = match inputs.get(3) {
            Some(list) => axes(&list.integers()?, rank)?,
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(Error::invalid(format!("{} pads for {} axes", pads.len(), axes.len())));
        }
        let mut amounts = vec![(0, 0); rank];
        for (i, &axis) in axes.iter().enumerate() {
            amounts[axis] = (pads[i], pads[axes.len() + i]);
        }
        Ok(amounts)
    }

    fn dims(mode: Mode, from: &[usize], amounts: &[(i64, i64)]) -> Result<Vec<usize>> {
        let padded = |(&dim, &(before, after)): (&usize, &(i64, i64))| {
            let total = (dim as i64).checked_add(before).and_then(|sum| sum.checked_add(after));
            let grows = before > 0 || after > 0;
            total
                .and_then(|total| usize::try_from(total).ok())
                // Only a constant can be put beside nothing.
                .filter(|_| mode == Mode::Constant || dim > 0 || !grows)
                .ok_or_else(|| Error::invalid(format!("pads {before}, {after} of length {dim}")))
        };
        from.iter().zip(amounts).map(padded).collect()
    }

    fn value(cx: &NodeCx, inputs: &Inputs<Array>, element: ElementType) -> Result<Tensor> {
        let storage = element.storage().unwrap_or(DType::F32);
        if cx.opset() < 11 {
            return Ok(Tensor::new(cx.float("value", 0.0)?, &Device::Cpu)?.to_dtype(storage)?);
        }
        match inputs.get(2) {
            Some(value) if value.tensor.elem_count() == 1 => {
                Ok(value.tensor.reshape(())?.to_dtype(storage)?)
            }
            Some(value) => {
                Err(Error::invalid(format!("constant of shape {:?}, not a scalar", value.dims())))
            }
            None => Ok(Tensor::zeros((), storage, &Device::Cpu)?),
        }
    }
}

impl Operator for Pad {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        let dims = Self::dims(Mode::of(cx)?, &x.dims, &Self::amounts(cx, inputs)?)?;
        Ok(vec![Fact::new(x.element, dims)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let mode = Mode::of(cx)?;
        let amounts = Self::amounts(cx, inputs)?;
        count(&Self::dims(mode, x.dims(), &amounts)?)?;
        let value = Self::value(cx, inputs, x.element)?.to_device(x.tensor.device())?;
        let mut tensor = x.tensor.clone();
        for (axis, (before, after)) in amounts.into_iter().enumerate() {
            let n = tensor.dim(axis)? as i64;
            if (before, after) == (0, 0) {
                continue;
            }
            if mode != Mode::Constant {
                let sources: Option<Vec<usize>> =
                    (-before..n + after).map(|position| mode.source(position, n)).collect();
                let sources = sources.ok_or_else(|| Error::internal("a pad without source"))?;
                tensor = select(&tensor, axis, &sources)?;
                continue;
            }
            let (first, last) = ((-before).clamp(0, n), (n + after).clamp(0, n));
            let kept = part(&tensor, axis, first as usize, (last - first).max(0) as usize)?;
            let fill = |length: i64| -> Result<Tensor> {
                let mut dims = kept.dims().to_vec();
                dims[axis] = length.max(0) as usize;
                Ok(value.broadcast_as(dims)?.contiguous()?)
            };
            // Removing more than there is on one side eats into the other side's padding.
            let total = n + before + after;
            let left = before.clamp(0, total);
            let right = total - left - (last - first).max(0);
            tensor = Tensor::cat(&[&fill(left)?, &kept, &fill(right)?], axis)?;
        }
        Ok(vec![finish(tensor.contiguous()?, x.element)?])
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let facts = Inputs::new((0..cx.node.inputs.len()).map(|i| flow.fact(i)).collect());
        let mode = Mode::of(cx)?;
        let mut labels = flow.input(0);
        for (axis, (before, after)) in Self::amounts(cx, &facts)?.into_iter().enumerate() {
            let Some(list) = labels[axis].clone() else { continue };
            if (before, after) == (0, 0) {
                continue;
            }
            if mode != Mode::Constant || before < 0 || after < 0 {
                flow.freeze_axis(0, axis, "it is padded with other channels, or cropped");
                labels[axis] = None;
                continue;
            }
            let what = format!("{} pads channels", cx.graph.describe(cx.id));
            let mut padded: Vec<Label> = flow.fresh_frozen(before as usize, what.clone()).to_vec();
            padded.extend_from_slice(&list);
            padded.extend_from_slice(&flow.fresh_frozen(after as usize, what));
            labels[axis] = Some(padded.into());
        }
        flow.set_output(0, labels);
        Ok(())
    }
}
