//! Operators of two or more broadcast inputs: arithmetic, comparison, logic, `Where`, `PRelu`.

use super::broadcast::{self, Plan, choose, zip};
use super::elementwise::{slice, with_slice};
use super::operand::{finish, wrap};
use super::{Entry, Follower, Inputs, NodeCx, Operator, passing};
use crate::channels::Flow;
use crate::run::{Array, Fact};
use crate::{ElementType, Error, Result};
use candle_core::{CpuStorage, CustomOp2, D, DType, Device, Layout, Shape, Tensor};

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] = &[
    ("Add", &Binary::Arithmetic(Arithmetic::Add)),
    ("Sub", &Binary::Arithmetic(Arithmetic::Sub)),
    ("Mul", &Binary::Arithmetic(Arithmetic::Mul)),
    ("Div", &Binary::Arithmetic(Arithmetic::Div)),
    ("Pow", &Binary::Arithmetic(Arithmetic::Pow)),
    ("PRelu", &Binary::Arithmetic(Arithmetic::PRelu)),
    ("Max", &Binary::Fold(Arithmetic::Max)),
    ("Min", &Binary::Fold(Arithmetic::Min)),
    ("Sum", &Binary::Fold(Arithmetic::Add)),
    ("Mean", &Mean),
    ("Mod", &Binary::Arithmetic(Arithmetic::Mod)),
    ("Equal", &Binary::Comparison(Comparison::Equal)),
    ("Greater", &Binary::Comparison(Comparison::Greater)),
    ("GreaterOrEqual", &Binary::Comparison(Comparison::GreaterOrEqual)),
    ("Less", &Binary::Comparison(Comparison::Less)),
    ("LessOrEqual", &Binary::Comparison(Comparison::LessOrEqual)),
    ("And", &Binary::Logic(Logic::And)),
    ("Or", &Binary::Logic(Logic::Or)),
    ("Xor", &Binary::Logic(Logic::Xor)),
    ("Where", &Where),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
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

#[derive(Clone, Copy)]
enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Copy)]
enum Logic {
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy)]
enum Binary {
    Arithmetic(Arithmetic),
    /// The same over one or more inputs.
    Fold(Arithmetic),
    Comparison(Comparison),
    Logic(Logic),
}

impl Binary {
    fn output(self, first: ElementType) -> ElementType {
        match self {
            Self::Arithmetic(_) | Self::Fold(_) => first,
            _ => ElementType::Bool,
        }
    }

    fn check_arity(self, inputs: usize) -> Result<()> {
        match self {
            Self::Fold(_) if inputs > 0 => Ok(()),
            Self::Arithmetic(_) | Self::Comparison(_) | Self::Logic(_) if inputs == 2 => Ok(()),
            _ => Err(Error::invalid(format!("{inputs} inputs"))),
        }
    }

    /// The slope of `PRelu` broadcasts to the data, and not the other way round.
    fn check_slope(self, data: &[usize], output: &[usize]) -> Result<()> {
        match self {
            Self::Arithmetic(Arithmetic::PRelu) if output != data => Err(Error::invalid(format!(
                "the slope does not broadcast to the data of shape {data:?}"
            ))),
            _ => Ok(()),
        }
    }

    fn pair(self, cx: &NodeCx, a: &Array, b: &Array) -> Result<Array> {
        let plan = Plan::new([a.dims(), b.dims()])?;
        self.check_slope(a.dims(), &plan.dims)?;
        match self {
            Self::Arithmetic(Arithmetic::Pow) => power(&plan, a, b),
            Self::Arithmetic(op) | Self::Fold(op) => {
                same_type(a, b)?;
                let op = match op {
                    Arithmetic::Mod if cx.int("fmod", 0)? != 0 => Arithmetic::Remainder,
                    op => op,
                };
                match a.tensor.dtype() {
                    DType::I64 => integers(op, &plan, a, b),
                    _ => floats(op, a, b),
                }
            }
            Self::Comparison(op) => {
                same_type(a, b)?;
                compare(op, &plan, a, b)
            }
            Self::Logic(op) => {
                boolean(a)?;
                boolean(b)?;
                let f = move |a: i64, b: i64| {
                    i64::from(match op {
                        Logic::And => a != 0 && b != 0,
                        Logic::Or => a != 0 || b != 0,
                        Logic::Xor => (a != 0) != (b != 0),
                    })
                };
                i64_result(&plan, a, b, ElementType::Bool, f)
            }
        }
    }
}

impl Operator for Binary {
    fn follower(&self, cx: &NodeCx, _constants: &Inputs<Array>) -> Option<Follower> {
        let adds = matches!(self, Self::Arithmetic(Arithmetic::Add)) && cx.node.inputs.len() == 2;
        adds.then_some(Follower::Add)
    }

    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        self.check_arity(inputs.len())?;
        let first = inputs.required(0)?;
        let shapes: Vec<&[usize]> =
            inputs.iter().flatten().map(|fact| fact.dims.as_slice()).collect();
        let dims = broadcast::shape(&shapes)?;
        self.check_slope(&first.dims, &dims)?;
        Ok(vec![Fact::new(self.output(first.element), dims)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        self.check_arity(inputs.len())?;
        let mut result = inputs.required(0)?.clone();
        for i in 1..inputs.len() {
            result = self.pair(cx, &result, inputs.required(i)?)?;
        }
        Ok(vec![result])
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::broadcast(flow, cx.node.inputs.len());
        Ok(())
    }
}

fn same_type(a: &Array, b: &Array) -> Result<()> {
    if a.element == b.element {
        return Ok(());
    }
    Err(Error::invalid(format!("inputs of types {:?} and {:?}", a.element, b.element)))
}

/// Refuses anything but booleans.
pub(super) fn boolean(x: &Array) -> Result<()> {
    match x.element {
        ElementType::Bool => Ok(()),
        other => Err(Error::invalid(format!("expected booleans, got {other:?}"))),
    }
}

fn i64_result(
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
fn integers(op: Arithmetic, plan: &Plan<2>, a: &Array, b: &Array) -> Result<Array> {
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
fn power(plan: &Plan<2>, a: &Array, b: &Array) -> Result<Array> {
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

fn floats(op: Arithmetic, a: &Array, b: &Array) -> Result<Array> {
    let tensor = a.tensor.contiguous()?.apply_op2(&b.tensor.contiguous()?, FloatArithmetic(op))?;
    finish(tensor, a.element)
}

fn compare(op: Comparison, plan: &Plan<2>, a: &Array, b: &Array) -> Result<Array> {
    macro_rules! outcome {
        ($a:expr, $b:expr) => {
            i64::from(match op {
                Comparison::Equal => $a == $b,
                Comparison::Greater => $a > $b,
                Comparison::GreaterOrEqual => $a >= $b,
                Comparison::Less => $a < $b,
                Comparison::LessOrEqual => $a <= $b,
            })
        };
    }
    macro_rules! run {
        ($type:ty, $f:expr) => {
            with_slice::<$type, _>(&a.tensor, |a| {
                with_slice::<$type, _>(&b.tensor, |b| zip(plan, a, b, $f))
            })??
        };
    }
    let values = match a.tensor.dtype() {
        DType::F64 => run!(f64, |a: f64, b: f64| outcome!(a, b)),
        DType::F32 => run!(f32, |a: f32, b: f32| outcome!(a, b)),
        _ if a.element == ElementType::U64 => {
            run!(i64, |a: i64, b: i64| outcome!(a as u64, b as u64))
        }
        _ => run!(i64, |a: i64, b: i64| outcome!(a, b)),
    };
    Array::new(Tensor::from_vec(values, plan.dims.as_slice(), &Device::Cpu)?, ElementType::Bool)
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
        let (to_a, to_b) = match self.0 {
            Arithmetic::Add => (grad.clone(), grad.clone()),
            Arithmetic::Sub => (grad.clone(), grad.neg()?),
            Arithmetic::Mul => (grad.broadcast_mul(b)?, grad.broadcast_mul(a)?),
            Arithmetic::Div => {
                let to_a = grad.broadcast_div(b)?;
                let to_b = to_a.mul(y)?.neg()?;
                (to_a, to_b)
            }
            Arithmetic::Pow => {
                let slope = a.broadcast_pow(&(b - 1.0)?)?.broadcast_mul(b)?;
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
            Arithmetic::Mod | Arithmetic::Remainder => {
                return Err(candle_core::Error::BackwardNotSupported { op: "Mod" });
            }
        };
        Ok((Some(sum_to(to_a, a.dims())?), Some(sum_to(to_b, b.dims())?)))
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

struct Mean;

impl Operator for Mean {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        Binary::Fold(Arithmetic::Add).infer(cx, inputs)
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let sums = Binary::Fold(Arithmetic::Add).eval(cx, inputs)?;
        sums.into_iter()
            .map(|sum| finish((sum.tensor / inputs.len() as f64)?, sum.element))
            .collect()
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        Binary::Fold(Arithmetic::Add).channels(cx, flow)
    }
}

struct Where;

impl Operator for Where {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let (condition, yes, no) = (inputs.required(0)?, inputs.required(1)?, inputs.required(2)?);
        let dims = broadcast::shape(&[&condition.dims, &yes.dims, &no.dims])?;
        Ok(vec![Fact::new(yes.element, dims)])
    }

    fn eval(&self, _cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let (condition, yes, no) = (inputs.required(0)?, inputs.required(1)?, inputs.required(2)?);
        boolean(condition)?;
        same_type(yes, no)?;
        let plan = Plan::new([condition.dims(), yes.dims(), no.dims()])?;
        macro_rules! run {
            ($type:ty) => {{
                let values = with_slice::<i64, _>(&condition.tensor, |condition| {
                    with_slice::<$type, _>(&yes.tensor, |yes| {
                        with_slice::<$type, _>(&no.tensor, |no| choose(&plan, condition, yes, no))
                    })
                })???;
                Tensor::from_vec(values, plan.dims.as_slice(), &Device::Cpu)?
            }};
        }
        let tensor = match yes.tensor.dtype() {
            DType::F32 => run!(f32),
            DType::F64 => run!(f64),
            _ => run!(i64),
        };
        Ok(vec![Array::new(tensor, yes.element)?])
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::broadcast(flow, 3);
        Ok(())
    }
}
