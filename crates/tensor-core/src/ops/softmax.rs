//! `Softmax`, `LogSoftmax` and `Hardmax`.

use super::elementwise::{fill_rows, slice};
use super::operand::{axis, finish};
use super::real::Real;
use super::{Entry, Inputs, NodeCx, Operator, passing};
use crate::Result;
use crate::channels::Flow;
use crate::run::{Array, Fact, Training};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Shape, Tensor};

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] =
    &[("Softmax", &Kind::Softmax), ("LogSoftmax", &Kind::LogSoftmax), ("Hardmax", &Kind::Hardmax)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Softmax,
    LogSoftmax,
    Hardmax,
}

/// The axes that one distribution covers: one axis from opset 13 on, all from `axis` before.
fn span(cx: &NodeCx, rank: usize) -> Result<std::ops::Range<usize>> {
    let flattens = cx.opset() < 13;
    let given = cx.int("axis", if flattens { 1 } else { -1 })?;
    if flattens {
        let first = if given == rank as i64 { rank } else { axis(given, rank)? };
        return Ok(first..rank);
    }
    let axis = axis(given, rank)?;
    Ok(axis..axis + 1)
}

impl Operator for Kind {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        span(cx, x.dims.len())?;
        Ok(vec![Fact::new(x.element, x.dims.clone())])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let dims = x.dims();
        let span = span(cx, dims.len())?;
        if x.tensor.elem_count() == 0 {
            return Ok(vec![x.clone()]);
        }
        let outer: usize = dims[..span.start].iter().product();
        let length: usize = dims[span.clone()].iter().product();
        let inner: usize = dims[span.end..].iter().product();
        let rows = x.tensor.contiguous()?.reshape((outer, length, inner))?;
        let rows = rows.transpose(1, 2)?.contiguous()?.apply_op1(Rows(*self))?;
        let tensor = rows.transpose(1, 2)?.contiguous()?.reshape(dims)?;
        Ok(vec![finish(tensor, x.element)?])
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let x = inputs.required(0)?;
        let dims = x.dims();
        let span = span(cx, dims.len())?;
        if *self == Self::Hardmax || x.tensor.elem_count() == 0 {
            return Ok(None);
        }
        let outer: usize = dims[..span.start].iter().product();
        let length: usize = dims[span].iter().product();
        let rows = x.tensor.contiguous()?.reshape((outer, length, ()))?;
        let shifted = rows.broadcast_sub(&rows.detach().max_keepdim(1)?)?;
        let powers = shifted.exp()?;
        let sums = powers.sum_keepdim(1)?;
        let tensor = match self {
            Self::LogSoftmax => shifted.broadcast_sub(&sums.log()?)?,
            _ => powers.broadcast_div(&sums)?,
        };
        Ok(Some(vec![Array { tensor: tensor.reshape(dims)?, element: x.element }]))
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        for axis in span(cx, flow.dims(0).len())? {
            flow.freeze_axis(0, axis, "a softmax runs over it");
        }
        passing::pass(flow);
        Ok(())
    }
}

/// The function over the last axis.
struct Rows(Kind);

macro_rules! rows {
    ($kind:expr, $type:ty, $x:expr, $length:expr) => {{
        let (x, length): (&[$type], usize) = ($x, $length);
        let mut y = vec![<$type>::default(); x.len()];
        fill_rows(&mut y, length, 4 * length, |row, y| {
            let x = &x[row * length..(row + 1) * length];
            let largest = x.iter().copied().fold(<$type>::NEG_INFINITY, <$type>::max);
            match $kind {
                Kind::Softmax => {
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - largest).e());
                    let sum: $type = y.iter().sum();
                    y.iter_mut().for_each(|y| *y /= sum);
                }
                Kind::LogSoftmax => {
                    let sum: $type = x.iter().map(|&x| (x - largest).e()).sum();
                    // Not x - (largest + log), whose sum would swallow the logarithm.
                    let log = sum.ln();
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x - largest - log);
                }
                Kind::Hardmax => {
                    if let Some(first) = x.iter().position(|&x| x == largest) {
                        y[first] = 1.0;
                    }
                }
            }
        });
        y
    }};
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let length = l.dims().last().copied().unwrap_or(1);
        let storage = match s {
            CpuStorage::F64(_) => CpuStorage::F64(rows!(self.0, f64, slice(s, l)?, length)),
            _ => CpuStorage::F32(rows!(self.0, f32, slice(s, l)?, length)),
        };
        Ok((storage, l.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        match self.0 {
            Kind::Softmax => {
                let weighted = (grad * y)?;
                let sum = weighted.sum_keepdim(D::Minus1)?;
                Ok(Some((weighted - y.broadcast_mul(&sum)?)?))
            }
            Kind::LogSoftmax => {
                let sum = grad.sum_keepdim(D::Minus1)?;
                Ok(Some((grad - y.exp()?.broadcast_mul(&sum)?)?))
            }
            Kind::Hardmax => Err(candle_core::Error::BackwardNotSupported { op: "Hardmax" }),
        }
    }
}
