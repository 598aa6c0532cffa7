//! Elementwise operators of one float input, as a table of a function and its derivative.

use super::elementwise::{fill, slice, with_slice};
use super::operand::{finish, wrap};
use super::real::Real;
use super::{Differentiated, Entry, Follower, Following, Inputs, NodeCx, Operator, passing};
use crate::channels::Flow;
use crate::kernels::{clamp_backward, widest};
use crate::portable;
use crate::run::{Array, Fact, Training};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Shape, Tensor};

/// Up to two parameters, already with their defaults.
type Parameters = [f64; 2];

/// An attribute's name and default.
type Attributes = &'static [(&'static str, f32)];

/// One row of the table: an operator, as loops over slices.
pub(super) struct Unary {
    name: &'static str,
    attributes: Attributes,
    f32: Loops<f32>,
    f64: Loops<f64>,
    /// The function on integers, where ONNX allows them.
    integers: Option<fn(i64) -> i64>,
}

#[derive(Clone, Copy)]
struct Loops<T: 'static> {
    /// Values from arguments.
    map: fn(Parameters, &[T], &mut [T]),
    /// Derivatives from arguments.
    slope: fn(Parameters, &[T], &mut [T]),
}

/// Writes the loops of a function and its derivative for one type; `p` holds the parameters.
macro_rules! loops {
    ($type:ty, |$x:ident, $p:ident| $f:expr, $slope:expr) => {
        Loops {
            map: |p, x, y| {
                let $p: [$type; 2] = p.map(|p| p as $type);
                let _ = $p;
                widest(|| {
                    for (y, &$x) in y.iter_mut().zip(x) {
                        *y = $f;
                    }
                });
            },
            slope: |p, x, y| {
                let $p: [$type; 2] = p.map(|p| p as $type);
                let _ = $p;
                for (y, &$x) in y.iter_mut().zip(x) {
                    let _ = $x;
                    *y = $slope;
                }
            },
        }
    };
}

/// One row: `f64` literals adapt to the type, since both loops are written from the same text.
macro_rules! unary {
    ($name:literal, $attributes:expr, |$x:ident, $p:ident| $f:expr, $slope:expr) => {
        unary!($name, $attributes, |$x, $p| $f, $slope, None)
    };
    ($name:literal, $attributes:expr, |$x:ident, $p:ident| $f:expr, $slope:expr, $ints:expr) => {
        (
            $name,
            &Unary {
                name: $name,
                attributes: $attributes,
                f32: loops!(f32, |$x, $p| $f, $slope),
                f64: loops!(f64, |$x, $p| $f, $slope),
                integers: $ints,
            },
        )
    };
}

/// A function that is not in the table, with its parameters.
macro_rules! function {
    ($name:literal, $parameters:expr, |$x:ident, $p:ident| $f:expr, $slope:expr) => {
        Function {
            name: $name,
            f32: loops!(f32, |$x, $p| $f, $slope),
            f64: loops!(f64, |$x, $p| $f, $slope),
            parameters: $parameters,
        }
    };
}

/// Derivative of the logistic function.
fn logistic_slope<T: Real + std::ops::Mul<Output = T> + std::ops::Sub<Output = T>>(
    x: T,
    one: T,
) -> T {
    let y = x.logistic();
    y * (one - y)
}

/// The operators of this file.
#[rustfmt::skip]
pub(super) const OPERATORS: &[Entry] = &[
    unary!("Relu", &[], |x, p| if x < 0.0 { 0.0 } else { x },
        if x > 0.0 { 1.0 } else { 0.0 }, Some(|x| x.max(0))),
    unary!("LeakyRelu", &[("alpha", 0.01)], |x, p| if x < 0.0 { x * p[0] } else { x },
        if x < 0.0 { p[0] } else { 1.0 }),
    unary!("ThresholdedRelu", &[("alpha", 1.0)], |x, p| if x > p[0] { x } else { 0.0 },
        if x > p[0] { 1.0 } else { 0.0 }),
    unary!("Elu", &[("alpha", 1.0)], |x, p| if x < 0.0 { p[0] * x.exp_m1() } else { x },
        if x < 0.0 { p[0] * x.e() } else { 1.0 }),
    unary!("Celu", &[("alpha", 1.0)], |x, p| if x < 0.0 { p[0] * (x / p[0]).exp_m1() } else { x },
        if x < 0.0 { (x / p[0]).e() } else { 1.0 }),
    unary!("Selu", &[("alpha", 1.673_263_2), ("gamma", 1.050_701)],
        |x, p| if x > 0.0 { p[1] * x } else { p[1] * p[0] * x.exp_m1() },
        if x > 0.0 { p[1] } else { p[1] * p[0] * x.e() }),
    unary!("Sigmoid", &[], |x, p| x.logistic(), logistic_slope(x, 1.0)),
    unary!("HardSigmoid", &[("alpha", 0.2), ("beta", 0.5)],
        |x, p| (p[0] * x + p[1]).clamp(0.0, 1.0),
        if (0.0..=1.0).contains(&(p[0] * x + p[1])) { p[0] } else { 0.0 }),
    unary!("HardSwish", &[], |x, p| x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        if x < -3.0 { 0.0 } else if x > 3.0 { 1.0 } else { x / 3.0 + 0.5 }),
    unary!("Tanh", &[], |x, p| x.hyperbolic(), { let y = x.hyperbolic(); 1.0 - y * y }),
    unary!("Erf", &[], |x, p| x.error_function(), x.error_slope()),
    unary!("Exp", &[], |x, p| x.e(), x.e()),
    unary!("Log", &[], |x, p| x.ln(), x.recip()),
    unary!("Sqrt", &[], |x, p| x.sqrt(), 0.5 / x.sqrt()),
    unary!("Neg", &[], |x, p| -x, -1.0, Some(i64::wrapping_neg)),
    unary!("Abs", &[], |x, p| x.abs(), if x < 0.0 { -1.0 } else { 1.0 }, Some(i64::wrapping_abs)),
    unary!("Sign", &[], |x, p| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x }, 0.0,
        Some(i64::signum)),
    unary!("Reciprocal", &[], |x, p| x.recip(), -(x * x).recip()),
    unary!("Floor", &[], |x, p| x.floor(), 0.0),
    unary!("Ceil", &[], |x, p| x.ceil(), 0.0),
    unary!("Round", &[], |x, p| x.round_ties_even(), 0.0),
    unary!("Sin", &[], |x, p| x.sin(), x.cos()),
    unary!("Cos", &[], |x, p| x.cos(), -x.sin()),
    unary!("Softplus", &[], |x, p| x.soft_plus(), x.logistic()),
    unary!("Softsign", &[], |x, p| x / (1.0 + x.abs()), (1.0 + x.abs()).powi(-2)),
    unary!("Mish", &[], |x, p| x * x.soft_plus().hyperbolic(),
        { let t = x.soft_plus().hyperbolic(); t + x * (1.0 - t * t) * x.logistic() }),
    unary!("Swish", &[("alpha", 1.0)], |x, p| x * (p[0] * x).logistic(),
        { let y = (p[0] * x).logistic(); y + p[0] * x * y * (1.0 - y) }),
];

impl Operator for Unary {
    fn follower(&self, _cx: &NodeCx, _constants: &Inputs<Array>) -> Option<Follower> {
        (self.name == "Relu").then_some(Follower::Clamp { low: 0.0, high: f32::INFINITY })
    }

    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        Ok(vec![Fact::new(x.element, x.dims.clone())])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let parameters = self.parameters(cx)?;
        let x = inputs.required(0)?;
        if x.tensor.dtype() == DType::I64 {
            return self.integers(x);
        }
        let function = Function { name: self.name, f32: self.f32, f64: self.f64, parameters };
        Ok(vec![finish(x.tensor.contiguous()?.apply_op1(function)?, x.element)?])
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let x = inputs.required(0)?;
        let y = portable::unary(self.name, &x.tensor, self.parameters(cx)?)?;
        Ok(y.map(|tensor| vec![Array { tensor, element: x.element }]))
    }

    fn differentiate(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _wanted: &[bool],
        following: &Following,
        _training: &mut Training,
    ) -> Result<Option<Differentiated>> {
        let x = inputs.required(0)?;
        if self.name != "Relu" || !following.is_empty() || x.tensor.dtype() != DType::F32 {
            return Ok(None);
        }
        let Some(output) = self.eval(cx, inputs)?.pop() else { return Ok(None) };
        let y = output.tensor.clone();
        let pullback = Box::new(move |dy: &Tensor| {
            Ok(vec![Some(clamp_backward(&y, dy, (0.0, f32::INFINITY))?)])
        });
        Ok(Some(Differentiated { output, pullback }))
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::pass(flow);
        Ok(())
    }
}

impl Unary {
    fn parameters(&self, cx: &NodeCx) -> Result<Parameters> {
        let mut parameters = [0.0; 2];
        for (slot, &(name, default)) in parameters.iter_mut().zip(self.attributes) {
            *slot = f64::from(cx.float(name, default)?);
        }
        Ok(parameters)
    }

    fn integers(&self, x: &Array) -> Result<Vec<Array>> {
        let f = self
            .integers
            .ok_or_else(|| Error::invalid(format!("{} of elements {:?}", self.name, x.element)))?;
        let values = with_slice::<i64, _>(&x.tensor, |x_values| {
            x_values.iter().map(|&value| wrap(x.element, f(value))).collect::<Vec<_>>()
        })?;
        Ok(vec![Array::new(Tensor::from_vec(values, x.dims(), &Device::Cpu)?, x.element)?])
    }
}

/// Limits to `[low, high]`; where the bounds cross, the result is `high`.
pub(super) fn clip(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    let function = function!(
        "Clip",
        [low, high],
        |x, p| {
            let x = if x < p[0] { p[0] } else { x };
            if x > p[1] { p[1] } else { x }
        },
        if x < p[0] || x > p[1] { 0.0 } else { 1.0 }
    );
    Ok(x.contiguous()?.apply_op1(function)?)
}

/// x times the normal distribution function of x, exact or approximated through `tanh`.
pub(super) fn gelu(x: &Tensor, approximate: bool) -> Result<Tensor> {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
    let function = if approximate {
        // sqrt(2 / pi) (x + 0.044715 x^3)
        function!(
            "Gelu",
            [FRAC_2_SQRT_PI * FRAC_1_SQRT_2, 0.044_715],
            |x, p| 0.5 * x * (1.0 + (p[0] * (x + p[1] * x * x * x)).hyperbolic()),
            {
                let t = (p[0] * (x + p[1] * x * x * x)).hyperbolic();
                let inner = p[0] * (1.0 + 3.0 * p[1] * x * x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
            }
        )
    } else {
        function!(
            "Gelu",
            [FRAC_1_SQRT_2, 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2],
            |x, p| 0.5 * x * (1.0 + (x * p[0]).error_function()),
            0.5 * (1.0 + (x * p[0]).error_function()) + x * p[1] * (-0.5 * x * x).e()
        )
    };
    Ok(x.contiguous()?.apply_op1(function)?)
}

/// A row of the table with its parameters.
#[derive(Clone)]
struct Function {
    name: &'static str,
    f32: Loops<f32>,
    f64: Loops<f64>,
    parameters: Parameters,
}

impl CustomOp1 for Function {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let p = self.parameters;
        let storage = match s {
            CpuStorage::F64(_) => {
                CpuStorage::F64(run(slice(s, l)?, |x, y| (self.f64.map)(p, x, y)))
            }
            _ => CpuStorage::F32(run(slice(s, l)?, |x, y| (self.f32.map)(p, x, y))),
        };
        Ok((storage, l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&grad.contiguous()?, &Derivative(self.clone()))?))
    }
}

/// The gradient of a [`Function`]'s argument from the argument and the gradient of its value.
struct Derivative(Function);

impl CustomOp2 for Derivative {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let p = self.0.parameters;
        let storage = match s1 {
            CpuStorage::F64(_) => CpuStorage::F64(weigh(slice(s1, l1)?, slice(s2, l2)?, |x, y| {
                (self.0.f64.slope)(p, x, y)
            })),
            _ => CpuStorage::F32(weigh(slice(s1, l1)?, slice(s2, l2)?, |x, y| {
                (self.0.f32.slope)(p, x, y)
            })),
        };
        Ok((storage, l1.shape().clone()))
    }
}

/// Elements whose slopes are still in cache when they are multiplied by the gradient.
const BLOCK: usize = 1 << 10;

/// The slopes times a gradient.
fn weigh<T>(x: &[T], grad: &[T], slope: impl Fn(&[T], &mut [T]) + Sync) -> Vec<T>
where
    T: Copy + Default + Send + Sync + std::ops::MulAssign,
{
    let mut y = vec![T::default(); x.len()];
    fill(&mut y, |start, chunk| {
        let operands = x[start..].chunks(BLOCK).zip(grad[start..].chunks(BLOCK));
        for (y, (x, grad)) in chunk.chunks_mut(BLOCK).zip(operands) {
            slope(&x[..y.len()], y);
            y.iter_mut().zip(grad).for_each(|(y, &grad)| *y *= grad);
        }
    });
    y
}

/// Runs a loop over all elements, in parallel when there are many.
fn run<T: Copy + Default + Send + Sync>(x: &[T], map: impl Fn(&[T], &mut [T]) + Sync) -> Vec<T> {
    let mut y = vec![T::default(); x.len()];
    fill(&mut y, |start, chunk| map(&x[start..start + chunk.len()], chunk));
    y
}
