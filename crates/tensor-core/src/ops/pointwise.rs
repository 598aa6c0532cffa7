//! Elementwise operators that the tables of `unary` do not fit: `Clip`, `Gelu`, `Identity`,
//! `Dropout`, `Cast`, `CastLike`, `Not`.

use super::binary::boolean;
use super::elementwise::with_slice;
use super::operand::{finish, wrap};
use super::{Entry, Follower, Inputs, NodeCx, Operator, passing, unary};
use crate::channels::Flow;
use crate::portable;
use crate::run::{Array, Fact, Training};
use crate::{ElementType, Error, Result};
use candle_core::{DType, Device, Tensor};

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] = &[
    ("Clip", &Clip),
    ("Gelu", &Gelu),
    ("Identity", &Identity),
    ("Dropout", &Dropout),
    ("Cast", &Cast),
    ("CastLike", &Cast),
    ("Not", &Not),
    ("IsNaN", &Class::Nan),
    ("IsInf", &Class::Infinite),
];

/// The common rule of this file: same shape, labels pass.
fn same_shape(inputs: &Inputs<Fact>, element: Option<ElementType>) -> Result<Vec<Fact>> {
    let x = inputs.required(0)?;
    Ok(vec![Fact::new(element.unwrap_or(x.element), x.dims.clone())])
}

struct Clip;

impl Clip {
    /// One bound: an input from opset 11 on, an attribute before.
    fn bound(
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        input: usize,
        name: &str,
    ) -> Result<Option<Array>> {
        if cx.opset() >= 11 {
            return match inputs.get(input) {
                Some(bound) if bound.tensor.elem_count() != 1 => {
                    Err(Error::invalid(format!("bound of shape {:?}, not a scalar", bound.dims())))
                }
                bound => Ok(bound.cloned()),
            };
        }
        let value = cx.attribute(name).map(|_| cx.float(name, 0.0)).transpose()?;
        value.map(|v| Ok(Array::float(Tensor::new(v, &Device::Cpu)?))).transpose()
    }
}

impl Operator for Clip {
    fn follower(&self, cx: &NodeCx, constants: &Inputs<Array>) -> Option<Follower> {
        let bound = |input: usize, name, default: f32| {
            let known = cx.node.input(input).is_none() || constants.get(input).is_some();
            let bound = Self::bound(cx, constants, input, name).ok().filter(|_| known)?;
            match bound {
                Some(bound) => bound.to_f32s().ok()?.first().copied(),
                None => Some(default),
            }
        };
        let low = bound(1, "min", f32::NEG_INFINITY)?;
        Some(Follower::Clamp { low, high: bound(2, "max", f32::INFINITY)? })
    }

    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        same_shape(inputs, None)
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let low = Self::bound(cx, inputs, 1, "min")?;
        let high = Self::bound(cx, inputs, 2, "max")?;
        if [&low, &high].into_iter().flatten().any(|bound| bound.tensor.track_op()) {
            return Err(Error::unsupported("gradients of the bounds of Clip"));
        }
        if x.tensor.dtype() == DType::I64 {
            let bound = |bound: Option<Array>, default| match bound {
                Some(bound) => Ok(bound.to_i64s()?[0]),
                None => Ok::<_, Error>(default),
            };
            let (low, high) = (bound(low, i64::MIN)?, bound(high, i64::MAX)?);
            let values: Vec<i64> = with_slice::<i64, _>(&x.tensor, |values| {
                values.iter().map(|&v| v.max(low).min(high)).collect()
            })?;
            return Ok(vec![Array::new(
                Tensor::from_vec(values, x.dims(), &Device::Cpu)?,
                x.element,
            )?]);
        }
        let bound = |bound: Option<Array>, default| match bound {
            Some(bound) => {
                Ok::<f64, Error>(bound.tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?[0])
            }
            None => Ok(default),
        };
        let low = bound(low, f64::NEG_INFINITY)?;
        let high = bound(high, f64::INFINITY)?;
        Ok(vec![finish(unary::clip(&x.tensor, low, high)?, x.element)?])
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let x = inputs.required(0)?;
        let bound = |input, name| -> Result<Option<f64>> {
            let Some(bound) = Self::bound(cx, inputs, input, name)? else { return Ok(None) };
            if bound.tensor.track_op() {
                return Err(Error::unsupported("gradients of the bounds of Clip"));
            }
            Ok(bound.to_f32s()?.first().map(|&bound| f64::from(bound)))
        };
        let low = bound(1, "min")?.unwrap_or(f64::NEG_INFINITY);
        let high = bound(2, "max")?.unwrap_or(f64::INFINITY);
        let tensor = portable::clip(&x.tensor, low, high)?;
        Ok(Some(vec![Array { tensor, element: x.element }]))
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::pass(flow);
        Ok(())
    }
}

struct Gelu;

impl Operator for Gelu {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        same_shape(inputs, None)
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let approximate = match cx.string("approximate", "none")? {
            "none" => false,
            "tanh" => true,
            other => return Err(Error::invalid(format!("attribute `approximate` is `{other}`"))),
        };
        Ok(vec![finish(unary::gelu(&x.tensor, approximate)?, x.element)?])
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let x = inputs.required(0)?;
        let tensor = match cx.string("approximate", "none")? {
            "none" => x.tensor.gelu_erf()?,
            "tanh" => x.tensor.gelu()?,
            _ => return Ok(None),
        };
        Ok(Some(vec![Array { tensor, element: x.element }]))
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::pass(flow);
        Ok(())
    }
}

struct Identity;

impl Operator for Identity {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        Ok(vec![inputs.required(0)?.clone()])
    }

    fn eval(&self, _cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        Ok(vec![inputs.required(0)?.clone()])
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::pass(flow);
        Ok(())
    }
}

/// At inference the input, and a mask of ones.
struct Dropout;

impl Dropout {
    fn refuse_training(training: Option<bool>) -> Result<()> {
        match training {
            Some(true) => Err(Error::unsupported("Dropout with `training_mode` = true")
                .hint("export the model in inference mode")),
            _ => Ok(()),
        }
    }
}

impl Operator for Dropout {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let mut facts = same_shape(inputs, None)?;
        facts.extend(same_shape(inputs, Some(ElementType::Bool))?);
        Ok(facts)
    }

    fn eval(&self, _cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let training = match inputs.get(2) {
            Some(mode) => Some(mode.to_i64s()?.contains(&1)),
            None => None,
        };
        Self::refuse_training(training)?;
        let mask = Tensor::ones(x.dims(), DType::I64, &Device::Cpu)?;
        Ok(vec![x.clone(), Array::new(mask, ElementType::Bool)?])
    }

    /// Sets each element to zero with the probability `ratio`, and scales up the others.
    fn train(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        training: &mut Training,
    ) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let ratio = match inputs.get(1) {
            Some(ratio) => ratio.to_f32s()?.first().copied().unwrap_or(0.5),
            None => cx.float("ratio", 0.5)?,
        };
        if !(0.0..1.0).contains(&ratio) {
            return Err(Error::invalid(format!("dropout with ratio {ratio}")));
        }
        if training.is_frozen(cx.id) || ratio == 0.0 {
            return self.eval(cx, inputs);
        }
        let limit = (f64::from(ratio) * 2_f64.powi(32)) as u32;
        let draws = training.draw(x.tensor.elem_count());
        let mask: Vec<i64> = draws.into_iter().map(|draw| i64::from(draw >= limit)).collect();
        let mask = Tensor::from_vec(mask, x.dims(), &Device::Cpu)?;
        let factors = (mask.to_dtype(x.tensor.dtype())? / (1.0 - f64::from(ratio)))?;
        let kept = finish((&x.tensor * factors)?, x.element)?;
        Ok(vec![kept, Array::new(mask, ElementType::Bool)?])
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let labels = flow.input(0);
        flow.set_output(0, labels.clone());
        flow.set_output(1, labels);
        Ok(())
    }
}

/// `Cast` takes the type from attribute `to`, `CastLike` from its second input.
struct Cast;

impl Cast {
    fn target(cx: &NodeCx, like: Option<ElementType>) -> Result<ElementType> {
        let target = match like {
            Some(element) => element,
            None => {
                let code = i32::try_from(cx.int("to", 0)?).unwrap_or(0);
                ElementType::from_onnx(code)
            }
        };
        match target.storage() {
            Some(_) => Ok(target),
            None => Err(Error::unsupported(format!("Cast to element type {target:?}"))),
        }
    }
}

impl Operator for Cast {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        same_shape(inputs, Some(Self::target(cx, inputs.get(1).map(|fact| fact.element))?))
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let target = Self::target(cx, inputs.get(1).map(|array| array.element))?;
        if target.is_float() {
            let storage = if target == ElementType::F64 { DType::F64 } else { DType::F32 };
            return Ok(vec![finish(x.tensor.to_dtype(storage)?, target)?]);
        }
        let narrow = |value: i64| wrap(target, value);
        let values: Vec<i64> = match x.tensor.dtype() {
            DType::I64 => {
                with_slice::<i64, _>(&x.tensor, |x| x.iter().map(|&v| narrow(v)).collect())?
            }
            // Every float that is not zero is true, fractions included.
            _ if target == ElementType::Bool => {
                let x = x.tensor.to_dtype(DType::F64)?;
                with_slice::<f64, _>(&x, |x| x.iter().map(|&v| i64::from(v != 0.0)).collect())?
            }
            _ => {
                let x = x.tensor.to_dtype(DType::F64)?;
                with_slice::<f64, _>(&x, |x| x.iter().map(|&v| narrow(v as i64)).collect())?
            }
        };
        Ok(vec![Array::new(Tensor::from_vec(values, x.dims(), &Device::Cpu)?, target)?])
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::pass(flow);
        Ok(())
    }
}

struct Not;

impl Operator for Not {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        same_shape(inputs, None)
    }

    fn eval(&self, _cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        boolean(x)?;
        let values: Vec<i64> =
            with_slice::<i64, _>(&x.tensor, |x| x.iter().map(|&v| i64::from(v == 0)).collect())?;
        Ok(vec![Array::new(Tensor::from_vec(values, x.dims(), &Device::Cpu)?, ElementType::Bool)?])
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::pass(flow);
        Ok(())
    }
}

/// Tests of floats.
enum Class {
    Nan,
    Infinite,
}

impl Operator for Class {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        same_shape(inputs, Some(ElementType::Bool))
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let negative = cx.int("detect_negative", 1)? != 0;
        let positive = cx.int("detect_positive", 1)? != 0;
        let wide = x.tensor.to_dtype(DType::F64)?;
        let test = |v: f64| match self {
            Self::Nan => v.is_nan(),
            Self::Infinite => {
                (v == f64::INFINITY && positive) || (v == f64::NEG_INFINITY && negative)
            }
        };
        let values: Vec<i64> =
            with_slice::<f64, _>(&wide, |x| x.iter().map(|&v| i64::from(test(v))).collect())?;
        Ok(vec![Array::new(Tensor::from_vec(values, x.dims(), &Device::Cpu)?, ElementType::Bool)?])
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::pass(flow);
        Ok(())
    }
}
