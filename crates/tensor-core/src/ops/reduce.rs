//! Reductions over axes, `ArgMax` and `ArgMin`.

use super::elementwise::{fill_rows, slice, with_slice};
use super::operand::{Operand, axes, axis, finish, wrap};
use super::{Entry, Inputs, NodeCx, Operator};
use crate::channels::{Flow, Labels};
use crate::run::{Array, Fact, Training};
use crate::{ElementType, Error, Result};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] = &[
    ("ReduceSum", &Kind::Sum),
    ("ReduceMean", &Kind::Mean),
    ("ReduceMax", &Kind::Max),
    ("ReduceMin", &Kind::Min),
    ("ReduceProd", &Kind::Prod),
    ("ReduceL1", &Kind::L1),
    ("ReduceL2", &Kind::L2),
    ("ReduceSumSquare", &Kind::SumSquare),
    ("ReduceLogSum", &Kind::LogSum),
    ("ReduceLogSumExp", &Kind::LogSumExp),
    ("ArgMax", &Arg { largest: true }),
    ("ArgMin", &Arg { largest: false }),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

impl Kind {
    /// Which axes go: an input from opset 18 on (13 for `ReduceSum`), an attribute before. None
    /// given means all, unless `noop_with_empty_axes` is set.
    fn reduced<T: Operand>(self, cx: &NodeCx, inputs: &Inputs<T>) -> Result<Vec<bool>> {
        let rank = inputs.required(0)?.dims().len();
        let list = match inputs.get(1) {
            Some(axes) => Some(axes.integers()?),
            None => cx.ints("axes")?.map(<[i64]>::to_vec),
        };
        let mut reduced = vec![false; rank];
        match list.as_deref() {
            None | Some([]) => {
                reduced.fill(cx.int("noop_with_empty_axes", 0)? == 0);
            }
            Some(list) => axes(list, rank)?.into_iter().for_each(|axis| reduced[axis] = true),
        }
        Ok(reduced)
    }

    /// The result over integers, reduced to the element type.
    fn integers(self, row: &[i64], element: ElementType) -> Result<i64> {
        let sum = |f: fn(i64) -> i64| row.iter().fold(0_i64, |sum, &x| sum.wrapping_add(f(x)));
        let value = match self {
            Self::Sum => sum(|x| x),
            Self::Mean => match i64::try_from(row.len()) {
                Ok(count) if count > 0 => sum(|x| x) / count,
                _ => 0,
            },
            Self::Max => match (row.iter().max(), element.integer_range()) {
                (Some(&max), _) => max,
                (None, range) => range.map_or(i64::MIN, |(low, _)| low),
            },
            Self::Min => match (row.iter().min(), element.integer_range()) {
                (Some(&min), _) => min,
                (None, range) => range.map_or(i64::MAX, |(_, high)| high),
            },
            Self::Prod => row.iter().fold(1_i64, |product, &x| product.wrapping_mul(x)),
            Self::L1 => sum(i64::wrapping_abs),
            Self::SumSquare => sum(|x| x.wrapping_mul(x)),
            Self::L2 | Self::LogSum | Self::LogSumExp => {
                return Err(Error::unsupported(format!("this reduction of {element:?}")));
            }
        };
        Ok(wrap(element, value))
    }
}

fn reduced_dims(dims: &[usize], reduced: &[bool], keep: bool) -> Vec<usize> {
    let all = dims.iter().zip(reduced);
    if keep {
        all.map(|(&dim, &gone)| if gone { 1 } else { dim }).collect()
    } else {
        all.filter(|(_, gone)| !**gone).map(|(&dim, _)| dim).collect()
    }
}

/// Labels of what remains.
fn reduced_labels(flow: &mut Flow, reduced: &[bool], keep: bool, why: &str) -> Labels {
    let labels = flow.input(0);
    let mut result = Vec::new();
    for (axis, (list, &gone)) in labels.into_iter().zip(reduced).enumerate() {
        if gone {
            flow.freeze_axis(0, axis, why);
        }
        match gone {
            true if keep => result.push(None),
            true => {}
            false => result.push(list),
        }
    }
    result
}

/// The reduced axes moved last and merged: (kept elements, reduced elements).
fn as_rows(x: &Tensor, reduced: &[bool]) -> Result<Tensor> {
    let order: Vec<usize> = (0..reduced.len())
        .filter(|&axis| !reduced[axis])
        .chain((0..reduced.len()).filter(|&axis| reduced[axis]))
        .collect();
    let length: usize =
        x.dims().iter().zip(reduced).filter(|(_, gone)| **gone).map(|(&dim, _)| dim).product();
    let kept: usize =
        x.dims().iter().zip(reduced).filter(|(_, gone)| !**gone).map(|(&dim, _)| dim).product();
    Ok(x.permute(order.as_slice())?.contiguous()?.reshape((kept, length))?)
}

impl Operator for Kind {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        let keep = cx.int("keepdims", 1)? != 0;
        let dims = reduced_dims(&x.dims, &self.reduced(cx, inputs)?, keep);
        Ok(vec![Fact::new(x.element, dims)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let keep = cx.int("keepdims", 1)? != 0;
        let reduced = self.reduced(cx, inputs)?;
        let dims = reduced_dims(x.dims(), &reduced, keep);
        let rows = as_rows(&x.tensor, &reduced)?;
        if rows.dtype() != DType::I64 {
            return Ok(vec![finish(rows.apply_op1(Rows(*self))?.reshape(dims)?, x.element)?]);
        }
        let (kept, length) = rows.dims2()?;
        let values = with_slice::<i64, _>(&rows, |all| {
            (0..kept)
                .map(|row| self.integers(&all[row * length..(row + 1) * length], x.element))
                .collect::<Result<Vec<i64>>>()
        })??;
        Ok(vec![Array::new(Tensor::from_vec(values, dims, &Device::Cpu)?, x.element)?])
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let x = inputs.required(0)?;
        let reduced = self.reduced(cx, inputs)?;
        let rows = as_rows(&x.tensor, &reduced)?;
        let values = match self {
            _ if rows.dim(1)? == 0 => return Ok(None),
            Self::Sum => rows.sum(1)?,
            Self::Mean => rows.mean(1)?,
            Self::SumSquare => rows.sqr()?.sum(1)?,
            Self::L2 => rows.sqr()?.sum(1)?.sqrt()?,
            _ => return Ok(None),
        };
        let dims = reduced_dims(x.dims(), &reduced, cx.int("keepdims", 1)? != 0);
        Ok(Some(vec![Array { tensor: values.reshape(dims)?, element: x.element }]))
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let keep = cx.int("keepdims", 1)? != 0;
        let facts = Inputs::new((0..cx.node.inputs.len()).map(|i| flow.fact(i)).collect());
        let reduced = self.reduced(cx, &facts)?;
        let labels = reduced_labels(flow, &reduced, keep, "a reduction runs over it");
        flow.set_output(0, labels);
        Ok(())
    }
}

/// The reduction over the last axis of (rows, length).
struct Rows(Kind);

/// Sums in double precision over eight interleaved lanes, so that the loop vectorises in a fixed
/// order.
fn sum<T: Copy>(row: &[T], f: impl Fn(T) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    let (chunks, rest) = row.as_chunks::<8>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&x| f(x)).sum::<f64>()
}

fn reduce<T>(kind: Kind, row: &[T]) -> f64
where
    T: Copy + Into<f64>,
{
    let largest = || {
        row.iter().fold(f64::NEG_INFINITY, |m, &x| {
            if x.into() > m || x.into().is_nan() { x.into() } else { m }
        })
    };
    match kind {
        Kind::Sum => sum(row, Into::into),
        Kind::Mean => sum(row, Into::into) / row.len() as f64,
        Kind::Max => largest(),
        Kind::Min => row.iter().fold(f64::INFINITY, |m, &x| {
            if x.into() < m || x.into().is_nan() { x.into() } else { m }
        }),
        Kind::Prod => row.iter().map(|&x| x.into()).product(),
        Kind::L1 => sum(row, |x| x.into().abs()),
        Kind::L2 => sum(row, |x| x.into() * x.into()).sqrt(),
        Kind::SumSquare => sum(row, |x| x.into() * x.into()),
        Kind::LogSum => sum(row, Into::into).ln(),
        Kind::LogSumExp => {
            let largest = largest();
            if largest == f64::NEG_INFINITY {
                return largest;
            }
            largest + sum(row, |x| (x.into() - largest).exp()).ln()
        }
    }
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (kept, length) = l.shape().dims2()?;
        macro_rules! rows {
            ($type:ty) => {{
                let x: &[$type] = slice(s, l)?;
                let mut y = vec![<$type>::default(); kept];
                fill_rows(&mut y, 1, length, |row, y| {
                    y[0] = reduce(self.0, &x[row * length..(row + 1) * length]) as $type;
                });
                y
            }};
        }
        let storage = match s {
            CpuStorage::F64(_) => CpuStorage::F64(rows!(f64)),
            _ => CpuStorage::F32(rows!(f32)),
        };
        Ok((storage, Shape::from(kept)))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (grad, y) = (grad.unsqueeze(1)?, y.unsqueeze(1)?);
        let length = x.dim(1)? as f64;
        Ok(Some(match self.0 {
            Kind::Sum => grad.broadcast_as(x.shape())?.contiguous()?,
            Kind::Mean => (grad / length)?.broadcast_as(x.shape())?.contiguous()?,
            Kind::Max | Kind::Min => {
                let chosen = x.broadcast_eq(&y)?.to_dtype(x.dtype())?;
                let ties = chosen.sum_keepdim(1)?;
                chosen.broadcast_mul(&(grad / ties)?)?
            }
            Kind::L1 => x.sign()?.broadcast_mul(&grad)?,
            Kind::L2 => x.broadcast_mul(&(grad / y)?)?,
            Kind::SumSquare => (x.broadcast_mul(&grad)? * 2.0)?,
            Kind::LogSum => (grad / y.exp()?)?.broadcast_as(x.shape())?.contiguous()?,
            Kind::LogSumExp => x.broadcast_sub(&y)?.exp()?.broadcast_mul(&grad)?,
            Kind::Prod => x.apply_op1_no_bwd(&OtherFactors)?.broadcast_mul(&grad)?,
        }))
    }
}

/// For each element of a row, the product of the row's other elements.
struct OtherFactors;

impl CustomOp1 for OtherFactors {
    fn name(&self) -> &'static str {
        "other factors"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, length) = l.shape().dims2()?;
        macro_rules! rows {
            ($type:ty) => {{
                let x: &[$type] = slice(s, l)?;
                let mut y: Vec<$type> = vec![1.0; x.len()];
                for (x, y) in x.chunks(length.max(1)).zip(y.chunks_mut(length.max(1))) {
                    let (mut before, mut behind) = (1.0, 1.0);
                    for i in 0..x.len() {
                        let last = x.len() - 1 - i;
                        y[i] *= before;
                        before *= x[i];
                        y[last] *= behind;
                        behind *= x[last];
                    }
                }
                y
            }};
        }
        let storage = match s {
            CpuStorage::F64(_) => CpuStorage::F64(rows!(f64)),
            _ => CpuStorage::F32(rows!(f32)),
        };
        Ok((storage, l.shape().clone()))
    }
}

struct Arg {
    largest: bool,
}

impl Arg {
    fn reduced(cx: &NodeCx, rank: usize) -> Result<Vec<bool>> {
        let mut reduced = vec![false; rank];
        reduced[axis(cx.int("axis", 0)?, rank)?] = true;
        Ok(reduced)
    }

    fn position<T: PartialOrd + Copy>(&self, row: &[T], last: bool) -> i64 {
        let mut best = 0;
        for (i, x) in row.iter().enumerate() {
            let better = if self.largest { *x > row[best] } else { *x < row[best] };
            if better || (last && *x == row[best]) {
                best = i;
            }
        }
        best as i64
    }
}

impl Operator for Arg {
    fn is_flat(&self) -> bool {
        true
    }

    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        let reduced = Self::reduced(cx, x.dims.len())?;
        if x.dims.iter().zip(&reduced).any(|(&dim, &gone)| gone && dim == 0) {
            return Err(Error::invalid("the axis is empty"));
        }
        let keep = cx.int("keepdims", 1)? != 0;
        Ok(vec![Fact::new(ElementType::I64, reduced_dims(&x.dims, &reduced, keep))])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let reduced = Self::reduced(cx, x.dims().len())?;
        let last = cx.int("select_last_index", 0)? != 0;
        let dims = reduced_dims(x.dims(), &reduced, cx.int("keepdims", 1)? != 0);
        let rows = as_rows(&x.tensor, &reduced)?;
        let (kept, length) = rows.dims2()?;
        if length == 0 {
            return Err(Error::invalid("the axis is empty"));
        }
        macro_rules! run {
            ($type:ty) => {
                with_slice::<$type, _>(&rows, |all| {
                    let row = |row| self.position(&all[row * length..(row + 1) * length], last);
                    (0..kept).map(row).collect::<Vec<i64>>()
                })?
            };
        }
        let values = match rows.dtype() {
            DType::F32 => run!(f32),
            DType::F64 => run!(f64),
            _ => run!(i64),
        };
        Ok(vec![Array::from_i64s(&dims, values)?])
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let reduced = Self::reduced(cx, flow.dims(0).len())?;
        let keep = cx.int("keepdims", 1)? != 0;
        let labels = reduced_labels(flow, &reduced, keep, "positions along it are compared");
        flow.set_output(0, labels);
        Ok(())
    }
}
