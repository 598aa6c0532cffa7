//! `Constant`, `ConstantOfShape`, `Range`.

use super::operand::{Operand, count, size, wrap};
use super::{Entry, Inputs, NodeCx, Operator};
use crate::channels::Flow;
use crate::graph::Attribute;
use crate::run::{Array, Fact};
use crate::{Constant as Stored, Error, Result};
use candle_core::{DType, Device, Tensor};

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] =
    &[("Constant", &Constant), ("ConstantOfShape", &ConstantOfShape), ("Range", &Range)];

struct Constant;

impl Constant {
    fn value(cx: &NodeCx) -> Result<Array> {
        let Some((name, attribute)) = cx
            .node
            .attributes
            .iter()
            .find(|(name, _)| name.starts_with("value") || *name == "sparse_value")
        else {
            return Err(Error::invalid("no value attribute"));
        };
        match attribute {
            Attribute::Tensor(constant) => Array::from_constant(constant),
            Attribute::Int(value) => Array::from_i64s(&[], vec![*value]),
            Attribute::Ints(values) => Array::from_i64s(&[values.len()], values.clone()),
            Attribute::Float(value) => Ok(Array::float(Tensor::new(*value, &Device::Cpu)?)),
            Attribute::Floats(values) => {
                Ok(Array::float(Tensor::from_vec(values.clone(), values.len(), &Device::Cpu)?))
            }
            _ => Err(Error::unsupported(format!("a Constant with attribute `{name}`"))),
        }
    }
}

impl Operator for Constant {
    fn infer(&self, cx: &NodeCx, _inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        if let Some(Attribute::Tensor(constant)) = cx.attribute("value") {
            return Ok(vec![Fact::new(constant.element(), constant.dims().to_vec())]);
        }
        let value = Self::value(cx)?;
        Ok(vec![Fact::new(value.element, value.dims().to_vec())])
    }

    fn eval(&self, cx: &NodeCx, _inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        Ok(vec![Self::value(cx)?])
    }

    /// A float tensor is a parameter like an initializer.
    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        if let Some(Attribute::Tensor(constant)) = cx.attribute("value")
            && constant.element().is_float()
        {
            let labels = constant.dims().iter().map(|&n| Some(flow.fresh(n))).collect();
            flow.set_output(0, labels);
        }
        Ok(())
    }
}

struct ConstantOfShape;

impl ConstantOfShape {
    fn dims<T: Operand>(inputs: &Inputs<T>) -> Result<Vec<usize>> {
        inputs.required(0)?.integers()?.into_iter().map(size).collect()
    }

    fn value(cx: &NodeCx) -> Result<Array> {
        match cx.attribute("value") {
            None => Array::from_constant(&Stored::from_f32s(&[1], &[0.0])?),
            Some(Attribute::Tensor(constant)) if constant.count() == 1 => {
                Array::from_constant(constant)
            }
            Some(_) => Err(Error::invalid("attribute `value` is not a tensor of one element")),
        }
    }
}

impl Operator for ConstantOfShape {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        Ok(vec![Fact::new(Self::value(cx)?.element, Self::dims(inputs)?)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let dims = Self::dims(inputs)?;
        count(&dims)?;
        let value = Self::value(cx)?;
        let tensor = value.tensor.flatten_all()?.get(0)?.broadcast_as(dims)?.contiguous()?;
        Ok(vec![Array::new(tensor, value.element)?])
    }

    /// The output has no labels: what it meets is frozen there.
    fn channels(&self, _cx: &NodeCx, _flow: &mut Flow) -> Result<()> {
        Ok(())
    }
}

struct Range;

impl Range {
    /// Start, step, and the checked number of elements.
    fn plan<T: Operand>(inputs: &Inputs<T>) -> Result<(f64, f64, usize)> {
        let scalar = |i: usize| -> Result<f64> {
            let input = inputs.required(i)?;
            let values = if input.element().is_float() {
                input.floats()?.into_iter().map(f64::from).collect()
            } else {
                input.integers()?.into_iter().map(|v| v as f64).collect::<Vec<_>>()
            };
            match values.as_slice() {
                [value] => Ok(*value),
                _ => Err(Error::invalid(format!("input {i} is not a scalar"))),
            }
        };
        let (start, limit, step) = (scalar(0)?, scalar(1)?, scalar(2)?);
        let length = ((limit - start) / step).ceil().max(0.0);
        if step == 0.0 || !length.is_finite() || length > f64::from(u32::MAX) {
            return Err(Error::invalid(format!("range from {start} to {limit} by {step}")));
        }
        let length = length as usize;
        count(&[length])?;
        Ok((start, step, length))
    }
}

impl Operator for Range {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let (_, _, length) = Self::plan(inputs)?;
        Ok(vec![Fact::new(inputs.required(0)?.element, vec![length])])
    }

    fn eval(&self, _cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let (start, step, length) = Self::plan(inputs)?;
        let element = inputs.required(0)?.element;
        let values = (0..length).map(|i| start + step * i as f64);
        let tensor = match element.storage() {
            Some(DType::I64) => {
                let (start, step) = (start as i64, step as i64);
                let values = (0..length as i64).map(|i| wrap(element, start + step * i));
                Tensor::from_vec(values.collect::<Vec<_>>(), length, &Device::Cpu)?
            }
            Some(storage) => Tensor::from_vec(values.collect::<Vec<_>>(), length, &Device::Cpu)?
                .to_dtype(storage)?,
            None => return Err(Error::unsupported(format!("Range of {element:?}"))),
        };
        Ok(vec![Array::new(tensor, element)?])
    }

    fn channels(&self, _cx: &NodeCx, _flow: &mut Flow) -> Result<()> {
        Ok(())
    }
}
