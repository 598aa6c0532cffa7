//! Arithmetic on two broadcast operands, of integers and of floats with gradients.

use super::broadcast::{Plan, zip};
use super::elementwise::{slice, with_slice};
use super::operand::{finish, wrap};
use crate::run::Array;
use crate::{ElementType, Error, Result};
use candle_core::{CpuStorage, CustomOp2, D, DType, Device, Layout, Shape, Tensor};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    PRelu,
    Max,
    Min,
    /// With the sign of the divisor.
    Mod,
    /// With the sign of the dividend, as in C.
    Remainder,
}

/// Combines two integer arrays.
pub(super) fn i64_result(
    plan: &Plan<2>,
    a: &Array,
    b: &Array,
    element: ElementType,
    f: impl Fn(i64, i64) -> i64 + Sync,
) -> Result<Array> {
    let values = with_slice::<i64, _>(&a.tensor, |a| {
        with_slice::<i64, _>(&b.tensor, |b| zip(plan, a, b, f))
    })??;
    Array::new(Tensor::from_vec(values, plan.dims.as_slice(), &Device::Cpu)?, element)
}

/// Integer arithmetic wraps to the element type; division truncates.
pub(super) fn integers(op: Arithmetic, plan: &Plan<2>, a: &Array, b: &Array) -> Result<Array> {
    let element = a.element;
    let unsigned = element == ElementType::U64;
    if matches!(op, Arithmetic::Div | Arithmetic::Mod | Arithmetic::Remainder)
        && with_slice::<i64, _>(&b.tensor, |b| b.contains(&0))?
    {
        return Err(Error::invalid("integer division by zero"));
    }
    let f = move |a: i64, b: i64| match op {
        Arithmetic::Add => a.wrapping_add(b),
        Arithmetic::Sub => a.wrapping_sub(b),
        Arithmetic::Mul | Arithmetic::Pow => a.wrapping_mul(b),
        Arithmetic::Div if unsigned => (a as u64 / b as u64) as i64,
        Arithmetic::Div => a.wrapping_div(b),
        Arithmetic::Mod | Arithmetic::Remainder if unsigned => (a as u64 % b as u64) as i64,
        Arithmetic::Remainder => a.wrapping_rem(b),
        Arithmetic::Mod => {
            let rest = a.wrapping_rem(b);
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        Arithmetic::PRelu if a < 0 && !unsigned => a.wrapping_mul(b),
        Arithmetic::PRelu => a,
        Arithmetic::Max if unsigned => (a as u64).max(b as u64) as i64,
        Arithmetic::Max => a.max(b),
        Arithmetic::Min if unsigned => (a as u64).min(b as u64) as i64,
        Arithmetic::Min => a.min(b),
    };
    i64_result(plan, a, b, element, move |a, b| wrap(element, f(a, b)))
}

/// `Pow`: the result has the type of the base, whatever the exponent's type.
pub(super) fn power(plan: &Plan<2>, a: &Array, b: &Array) -> Result<Array> {
    match (a.tensor.dtype(), b.tensor.dtype()) {
        (DType::I64, DType::I64) => {
            let element = a.element;
            let f = move |base: i64, exponent: i64| {
                let value = match u32::try_from(exponent) {
                    Ok(exponent) => base.wrapping_pow(exponent),
                    // Only 1 and -1 have an integer inverse.
                    Err(_) if exponent < 0 => match base {
                        1 => 1,
                        -1 if exponent % 2 == 0 => 1,
                        -1 => -1,
                        _ => 0,
                    },
                    Err(_) => (base as f64).powf(exponent as f64) as i64,
                };
                wrap(element, value)
            };
            i64_result(plan, a, b, element, f)
        }
        (DType::I64, _) => {
            let exponent = b.tensor.to_dtype(DType::F64)?;
            let element = a.element;
            let f = move |a: i64, b: f64| wrap(element, (a as f64).powf(b) as i64);
            let values = with_slice::<i64, _>(&a.tensor, |a| {
                with_slice::<f64, _>(&exponent, |b| zip(plan, a, b, f))
            })??;
            Array::new(Tensor::from_vec(values, plan.dims.as_slice(), &Device::Cpu)?, element)
        }
        (base, _) => {
            let exponent = b.tensor.to_dtype(base)?;
            floats(Arithmetic::Pow, a, &Array { tensor: exponent, element: a.element })
        }
    }
}

pub(super) fn floats(op: Arithmetic, a: &Array, b: &Array) -> Result<Array> {
    let tensor = a.tensor.contiguous()?.apply_op2(&b.tensor.contiguous()?, FloatArithmetic(op))?;
    finish(tensor, a.element)
}

/// Arithmetic on floats with gradients.
struct FloatArithmetic(Arithmetic);

macro_rules! float_loops {
    ($op:expr, $plan:expr, $a:expr, $b:expr, $type:ty) => {{
        let (plan, a, b) = ($plan, $a, $b);
        match $op {
            Arithmetic::Add => zip(plan, a, b, |a: $type, b: $type| a + b),
            Arithmetic::Sub => zip(plan, a, b, |a: $type, b: $type| a - b),
            Arithmetic::Mul => zip(plan, a, b, |a: $type, b: $type| a * b),
            Arithmetic::Div => zip(plan, a, b, |a: $type, b: $type| a / b),
            Arithmetic::Pow if b == [2.0] => zip(plan, a, b, |a: $type, _| a * a),
            Arithmetic::Pow => zip(plan, a, b, |a: $type, b: $type| a.powf(b)),
            Arithmetic::PRelu => {
                zip(plan, a, b, |a: $type, b: $type| if a < 0.0 { a * b } else { a })
            }
            // NaN wins, as in NumPy.
            Arithmetic::Max => {
                zip(plan, a, b, |a: $type, b: $type| if a > b || a.is_nan() { a } else { b })
            }
            Arithmetic::Min => {
                zip(plan, a, b, |a: $type, b: $type| if a < b || a.is_nan() { a } else { b })
            }
            Arithmetic::Remainder => zip(plan, a, b, |a: $type, b: $type| a % b),
            Arithmetic::Mod => zip(plan, a, b, |a: $type, b: $type| {
                let rest = a % b;
                if rest == 0.0 {
                    rest.abs().copysign(b)
                } else if (rest < 0.0) != (b < 0.0) {
                    rest + b
                } else {
                    rest
                }
            }),
        }
    }};
}

impl CustomOp2 for FloatArithmetic {
    fn name(&self) -> &'static str {
        "arithmetic"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let plan = &Plan::new([l1.dims(), l2.dims()]).map_err(candle_core::Error::wrap)?;
        let storage = match s1 {
            CpuStorage::F64(_) => CpuStorage::F64(float_loops!(
                self.0,
                plan,
                slice::<f64>(s1, l1)?,
                slice::<f64>(s2, l2)?,
                f64
            )),
            _ => CpuStorage::F32(float_loops!(
                self.0,
                plan,
                slice::<f32>(s1, l1)?,
                slice::<f32>(s2, l2)?,
                f32
            )),
        };
        Ok((storage, Shape::from(plan.dims.as_slice())))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let apply = |op, other: &Tensor| {
            grad.contiguous()?.apply_op2_no_bwd(&other.contiguous()?, &FloatArithmetic(op))
        };
        let (to_a, to_b) = match self.0 {
            Arithmetic::Add => (grad.clone(), grad.clone()),
            Arithmetic::Sub => (grad.clone(), grad.neg()?),
            // A factor is a constant as often as not.
            Arithmetic::Mul if !b.track_op() => (apply(Arithmetic::Mul, b)?, grad.clone()),
            Arithmetic::Mul if !a.track_op() => (grad.clone(), apply(Arithmetic::Mul, a)?),
            Arithmetic::Mul => (apply(Arithmetic::Mul, b)?, apply(Arithmetic::Mul, a)?),
            Arithmetic::Div if !b.track_op() => (apply(Arithmetic::Div, b)?, grad.clone()),
            Arithmetic::Div => {
                let to_a = apply(Arithmetic::Div, b)?;
                let to_b = to_a.mul(y)?.neg()?;
                (to_a, to_b)
            }
            Arithmetic::Pow => {
                let power = FloatArithmetic(Arithmetic::Pow);
                let slope = a.contiguous()?.apply_op2_no_bwd(&(b - 1.0)?.contiguous()?, &power)?;
                let slope = slope.broadcast_mul(b)?;
                // A base of zero has no inverse, but its zeroth power is a constant.
                let is_constant = b.eq(0.0)?.broadcast_as(slope.shape())?;
                let slope = is_constant.where_cond(&slope.zeros_like()?, &slope)?;
                // log of a non-positive base has no finite value; its exponent gets no gradient.
                let log =
                    a.broadcast_as(y.shape())?.maximum(f64::from(f32::MIN_POSITIVE))?.log()?;
                (grad.mul(&slope)?, grad.mul(y)?.mul(&log)?)
            }
            Arithmetic::PRelu => {
                let negative = a.lt(0.0)?.to_dtype(a.dtype())?;
                let slope = (negative.broadcast_mul(b)? + (1.0 - &negative)?)?;
                (grad.mul(&slope)?, grad.mul(&(negative * a)?)?)
            }
            Arithmetic::Max | Arithmetic::Min => {
                let from_a = a.broadcast_eq(y)?.to_dtype(a.dtype())?;
                let to_a = grad.mul(&from_a)?;
                let to_b = (grad - &to_a)?;
                (to_a, to_b)
            }
            // y = a - q b with an integer q, which is constant between the jumps.
            Arithmetic::Mod | Arithmetic::Remainder => {
                let quotient = a.broadcast_sub(y)?.broadcast_div(b)?.round()?;
                (grad.clone(), grad.mul(&quotient)?.neg()?)
            }
        };
        let sum = |grad: Tensor, operand: &Tensor| {
            operand.track_op().then(|| sum_to(grad, operand.dims())).transpose()
        };
        Ok((sum(to_a, a)?, sum(to_b, b)?))
    }
}

/// Sums a gradient over the axes along which its value was broadcast.
fn sum_to(mut grad: Tensor, dims: &[usize]) -> candle_core::Result<Tensor> {
    while grad.rank() > dims.len() {
        grad = grad.sum(0)?;
    }
    for (axis, &dim) in dims.iter().enumerate() {
        if grad.dim(axis)? != dim {
            grad = grad.sum_keepdim(D::Minus(dims.len() - axis))?;
        }
    }
    Ok(grad)
}
