//! `QuantizeLinear` and `DequantizeLinear`: per tensor, per axis and blocked.

use super::broadcast::{Plan, zip};
use super::elementwise::{fill, with_slice};
use super::join::select;
use super::operand::{Operand, axis, finish, size};
use super::{Entry, Follower, Fusing, Inputs, NodeCx, Operator};
use crate::channels::Flow;
use crate::kernels::Epilogue;
use crate::run::{Array, Fact};
use crate::{ElementType, Error, Result};
use candle_core::{DType, Device, Tensor};

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] =
    &[("QuantizeLinear", &Quantize), ("DequantizeLinear", &Dequantize)];

/// How scales and zero points spread over the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    PerTensor,
    PerAxis(usize),
    /// Axis and block length.
    Blocked(usize, usize),
}

impl Layout {
    fn new(cx: &NodeCx, data: &[usize], scale: &[usize]) -> Result<Self> {
        let wrong =
            || Error::invalid(format!("scale of shape {scale:?} for data of shape {data:?}"));
        let block = size(cx.int("block_size", 0)?)?;
        // A list of one scale for data that has no such axis counts as a scalar.
        if scale.is_empty() || (scale == [1] && block == 0) {
            return Ok(Self::PerTensor);
        }
        let axis = axis(cx.int("axis", 1)?, data.len())?;
        if block == 0 {
            return if scale == [data[axis]] { Ok(Self::PerAxis(axis)) } else { Err(wrong()) };
        }
        let fits = scale.len() == data.len()
            && (0..data.len())
                .all(|i| scale[i] == if i == axis { data[i].div_ceil(block) } else { data[i] });
        if fits { Ok(Self::Blocked(axis, block)) } else { Err(wrong()) }
    }

    /// Brings a scale or zero point to a shape that broadcasts to the data.
    fn spread(self, parameter: &Tensor, data: &[usize]) -> Result<Tensor> {
        Ok(match self {
            Self::PerTensor => parameter.reshape(())?,
            Self::PerAxis(axis) => {
                let mut dims = vec![1; data.len()];
                dims[axis] = data[axis];
                parameter.reshape(dims)?
            }
            Self::Blocked(axis, block) => {
                let blocks: Vec<usize> = (0..data[axis]).map(|i| i / block).collect();
                select(parameter, axis, &blocks)?
            }
        })
    }

    /// The common channel rule: the data's labels pass; parameters along an axis are tied to it.
    fn channels(self, flow: &mut Flow) {
        let inputs = if flow.fact(2).is_some() { 3 } else { 2 };
        match self {
            Self::PerTensor => {}
            Self::PerAxis(axis) => {
                flow.adopt(2);
                if flow.input(0)[axis].is_none() {
                    (1..inputs).for_each(|i| flow.freeze_axis(i, 0, "its data has no channels"));
                } else {
                    let list = flow.axis(0, axis);
                    for input in 1..inputs {
                        let own = flow.axis(input, 0);
                        flow.tie(&list, &own);
                    }
                }
            }
            Self::Blocked(..) => {
                (0..inputs).for_each(|i| flow.freeze_input(i, "its scales are blocked"));
            }
        }
        let labels = flow.input(0);
        flow.set_output(0, labels);
    }
}

/// The layout, and a check that the zero point has the shape of the scale.
fn layout<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<Layout> {
    let scale = inputs.required(1)?.dims();
    if let Some(zero) = inputs.get(2) {
        let single = |dims: &[usize]| dims.iter().product::<usize>() == 1;
        if zero.dims() != scale && !(single(zero.dims()) && single(scale)) {
            return Err(Error::invalid(format!(
                "zero point of shape {:?}, scale of shape {scale:?}",
                zero.dims()
            )));
        }
    }
    Layout::new(cx, inputs.required(0)?.dims(), scale)
}

fn flow_layout(cx: &NodeCx, flow: &Flow) -> Result<Layout> {
    layout(cx, &Inputs::new((0..cx.node.inputs.len()).map(|i| flow.fact(i)).collect()))
}

/// A type stated by attribute `output_dtype`, 0 for none.
fn stated(cx: &NodeCx) -> Result<Option<ElementType>> {
    match cx.int("output_dtype", 0)? {
        0 => Ok(None),
        code => Ok(Some(ElementType::from_onnx(i32::try_from(code).unwrap_or(i32::MAX)))),
    }
}

struct Quantize;

impl Quantize {
    fn element<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<ElementType> {
        let element = match inputs.get(2) {
            Some(zero) => zero.element(),
            None => stated(cx)?.unwrap_or(ElementType::U8),
        };
        match element {
            ElementType::I4
            | ElementType::U4
            | ElementType::I8
            | ElementType::U8
            | ElementType::I16
            | ElementType::U16 => Ok(element),
            other => Err(Error::unsupported(format!("quantizing to elements {other:?}"))),
        }
    }
}

impl Operator for Quantize {
    fn fusing(&self) -> Option<&dyn Fusing> {
        Some(self)
    }

    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        layout(cx, inputs)?;
        Ok(vec![Fact::new(Self::element(cx, inputs)?, inputs.required(0)?.dims.clone())])
    }

    /// y = saturate(round(x / scale) + zero), halves to even.
    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let (x, scale) = (inputs.required(0)?, inputs.required(1)?);
        let layout = layout(cx, inputs)?;
        let element = Self::element(cx, inputs)?;
        let (low, high) = element.integer_range().unwrap_or((0, 255));
        let dims = x.dims();
        let x = x.tensor.to_dtype(DType::F32)?;
        let scale = layout.spread(&scale.tensor, dims)?.to_dtype(DType::F32)?;
        let zero = match inputs.get(2) {
            Some(zero) => layout.spread(&zero.tensor, dims)?,
            None => Tensor::zeros((), DType::I64, &Device::Cpu)?,
        };
        let by_scale = Plan::new([dims, scale.dims()])?;
        let rounded = with_slice::<f32, _>(&x, |x| {
            with_slice::<f32, _>(&scale, |scale| {
                zip(&by_scale, x, scale, |x: f32, scale: f32| (x / scale).round_ties_even())
            })
        })??;
        let by_zero = Plan::new([dims, zero.dims()])?;
        let values = with_slice::<i64, _>(&zero, |zero| {
            zip(&by_zero, &rounded, zero, |x: f32, zero: i64| {
                (x as i64).saturating_add(zero).clamp(low, high)
            })
        })?;
        Ok(vec![Array::new(Tensor::from_vec(values, dims, &Device::Cpu)?, element)?])
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        flow_layout(cx, flow)?.channels(flow);
        Ok(())
    }
}

impl Fusing for Quantize {
    fn takes(&self, follower: &Follower) -> bool {
        matches!(follower, Follower::Dequantize { .. })
    }

    /// The nearest values of the grid, in one pass over memory: clamping before rounding gives what
    /// clamping behind it does, since the bounds are whole.
    fn eval_fused(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        epilogue: Epilogue,
    ) -> Result<Option<Array>> {
        let (x, scale) = (inputs.required(0)?, inputs.required(1)?);
        let element = Self::element(cx, inputs)?;
        let (Some((factor, back)), Some((low, high))) =
            (epilogue.dequantize, element.integer_range())
        else {
            return Ok(None);
        };
        let layout = layout(cx, inputs)?;
        let own = inputs.get(2).map(|zero| zero.to_i64s()).transpose()?;
        let own = own.and_then(|zero| zero.first().copied()).unwrap_or_default();
        let is_narrow = ElementType::I16.integer_range().is_some_and(|(_, most)| high <= most);
        let fits = layout == Layout::PerTensor && own == back && is_narrow;
        if !fits || x.element != ElementType::F32 || scale.element != ElementType::F32 {
            return Ok(None);
        }
        let Some(&scale) = scale.f32s()?.first() else { return Ok(None) };
        let (low, high) = ((low - own) as f32, (high - own) as f32);
        let dims = x.dims();
        let x = x.f32s()?;
        let x: &[f32] = &x;
        let mut out = vec![0.0; x.len()];
        fill(&mut out, |first, chunk| {
            let len = chunk.len();
            for (out, &x) in chunk.iter_mut().zip(&x[first..first + len]) {
                // NaN stays NaN. Adding the number leaves no place behind the point, halves to even.
                let y = (x / scale).clamp(low, high);
                *out = ((y + WHOLE) - WHOLE) * factor;
            }
        });
        Ok(Some(Array::float(Tensor::from_vec(out, dims, &Device::Cpu)?)))
    }
}

/// 1.5 * 2^23: sums with smaller numbers are whole.
const WHOLE: f32 = 12_582_912.0;

struct Dequantize;

impl Dequantize {
    fn element<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<ElementType> {
        let element = stated(cx)?.unwrap_or(inputs.required(1)?.element());
        let data = inputs.required(0)?.element();
        match data {
            ElementType::I4
            | ElementType::U4
            | ElementType::I8
            | ElementType::U8
            | ElementType::I16
            | ElementType::U16
            | ElementType::I32
                if element.is_float() =>
            {
                Ok(element)
            }
            _ => Err(Error::unsupported(format!("dequantizing {data:?} to {element:?}"))),
        }
    }
}

impl Operator for Dequantize {
    fn follower(&self, cx: &NodeCx, constants: &Inputs<Array>) -> Option<Follower> {
        let scale = constants.get(1)?;
        let is_single = scale.dims().is_empty() && stated(cx).ok()?.is_none();
        if !is_single || scale.element != ElementType::F32 {
            return None;
        }
        let zero = match (cx.node.input(2), constants.get(2)) {
            (None, _) => 0,
            (Some(_), zero) => *zero?.to_i64s().ok()?.first()?,
        };
        Some(Follower::Dequantize { scale: *scale.f32s().ok()?.first()?, zero })
    }

    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        layout(cx, inputs)?;
        Ok(vec![Fact::new(Self::element(cx, inputs)?, inputs.required(0)?.dims.clone())])
    }

    /// y = (x - zero) scale.
    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let (x, scale) = (inputs.required(0)?, inputs.required(1)?);
        let layout = layout(cx, inputs)?;
        let element = Self::element(cx, inputs)?;
        let dims = x.dims();
        let zero = match inputs.get(2) {
            Some(zero) => layout.spread(&zero.tensor, dims)?,
            None => Tensor::zeros((), DType::I64, &Device::Cpu)?,
        };
        let by_zero = Plan::new([dims, zero.dims()])?;
        let shifted = with_slice::<i64, _>(&x.tensor, |x| {
            with_slice::<i64, _>(&zero, |zero| {
                zip(&by_zero, x, zero, |x: i64, zero: i64| x.wrapping_sub(zero) as f32)
            })
        })??;
        let scale = layout.spread(&scale.tensor, dims)?.to_dtype(DType::F32)?;
        let by_scale = Plan::new([dims, scale.dims()])?;
        let values = with_slice::<f32, _>(&scale, |scale| {
            zip(&by_scale, &shifted, scale, |x: f32, scale: f32| x * scale)
        })?;
        let storage = if element == ElementType::F64 { DType::F64 } else { DType::F32 };
        let tensor = Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(storage)?;
        Ok(vec![finish(tensor, element)?])
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        flow.adopt(0);
        flow_layout(cx, flow)?.channels(flow);
        Ok(())
    }
}
