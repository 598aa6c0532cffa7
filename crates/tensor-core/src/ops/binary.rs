//! Operators of two or more broadcast inputs: arithmetic, comparison, logic, `Where`, `PRelu`.

use super::arithmetic::{Arithmetic, floats, i64_result, integers, power};
use super::broadcast::{self, Plan, zip};
use super::elementwise::with_slice;
use super::operand::{count, finish};
use super::{Differentiated, Entry, Follower, Following, Inputs, NodeCx, Operator, passing};
use crate::channels::Flow;
use crate::run::{Array, Fact, Training};
use crate::{ElementType, Error, Result};
use candle_core::{DType, Device, Tensor};

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

    fn portable(
        &self,
        _cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        self.check_arity(inputs.len())?;
        let first = inputs.required(0)?;
        let mut tensor = first.tensor.clone();
        for i in 1..inputs.len() {
            let other = &inputs.required(i)?.tensor;
            tensor = match self {
                Self::Arithmetic(Arithmetic::Add) | Self::Fold(Arithmetic::Add) => {
                    tensor.broadcast_add(other)?
                }
                Self::Arithmetic(Arithmetic::Sub) => tensor.broadcast_sub(other)?,
                Self::Arithmetic(Arithmetic::Mul) => tensor.broadcast_mul(other)?,
                Self::Arithmetic(Arithmetic::Div) => tensor.broadcast_div(other)?,
                Self::Arithmetic(Arithmetic::PRelu) => {
                    tensor.lt(0_f32)?.where_cond(&tensor.broadcast_mul(other)?, &tensor)?
                }
                _ => return Ok(None),
            };
        }
        Ok(Some(vec![Array { tensor, element: first.element }]))
    }

    fn differentiate(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _wanted: &[bool],
        following: &Following,
        _training: &mut Training,
    ) -> Result<Option<Differentiated>> {
        let (Some(a), Some(b), 2) = (inputs.get(0), inputs.get(1), inputs.len()) else {
            return Ok(None);
        };
        let adds = matches!(self, Self::Arithmetic(Arithmetic::Add)) && a.dims() == b.dims();
        if !adds || !following.is_empty() || a.tensor.dtype() == DType::I64 {
            return Ok(None);
        }
        let output = self.pair(cx, a, b)?;
        let pullback = Box::new(|dy: &Tensor| Ok(vec![Some(dy.clone()), Some(dy.clone())]));
        Ok(Some(Differentiated { output, pullback }))
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

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let scaled = |sum: Array| {
            Ok(Array { tensor: (sum.tensor / inputs.len() as f64)?, element: sum.element })
        };
        let sums = Binary::Fold(Arithmetic::Add).portable(cx, inputs, None)?;
        sums.map(|sums| sums.into_iter().map(scaled).collect()).transpose()
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
        let dims = broadcast::shape(&[condition.dims(), yes.dims(), no.dims()])?;
        count(&dims)?;
        let [condition, yes_values, no_values] =
            [condition, yes, no].map(|array| array.tensor.broadcast_as(dims.as_slice()));
        let tensor = condition?.where_cond(&yes_values?, &no_values?)?;
        Ok(vec![Array::new(tensor, yes.element)?])
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        passing::broadcast(flow, 3);
        Ok(())
    }
}
