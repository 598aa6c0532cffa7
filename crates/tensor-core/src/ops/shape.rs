//! Operators that change the shape and keep the elements: `Reshape`, `Flatten`, `Transpose`,
//! `Squeeze`, `Unsqueeze`; and `Shape`, `Size`, `Expand`.

use super::operand::{Operand, axes, axis, count, size};
use super::regroup::regroup;
use super::sizes::Target;
use super::{Entry, Inputs, NodeCx, Operator, broadcast};
use crate::channels::{CutCx, Flow, Labels};
use crate::rewrite::Edit;
use crate::run::{Array, Fact};
use crate::{ElementType, Error, Result};
use candle_core::Tensor;

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] = &[
    ("Reshape", &Reshape),
    ("Flatten", &Flatten),
    ("Transpose", &Transpose),
    ("Squeeze", &Squeeze),
    ("Unsqueeze", &Unsqueeze),
    ("Shape", &Shape),
    ("Size", &Size),
    ("Expand", &Expand),
];

fn reshaped(x: &Array, dims: &[usize]) -> Result<Vec<Array>> {
    Ok(vec![Array::new(x.tensor.reshape(dims)?, x.element)?])
}

struct Reshape;

impl Reshape {
    /// -1 stands for what remains, and 0 copies the input's axis unless `allowzero` is set.
    fn target(cx: &NodeCx, rank: usize) -> Result<Target> {
        let copies = cx.int("allowzero", 0)? == 0;
        Ok(Target { input: 1, axes: (0..rank).collect(), open: -1, copies })
    }

    fn dims<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<Vec<usize>> {
        let from = inputs.required(0)?.dims();
        let target = inputs.required(1)?.integers()?;
        let zero_is_zero = cx.int("allowzero", 0)? != 0;
        let mut dims = Vec::with_capacity(target.len());
        let mut open = None;
        for (i, &entry) in target.iter().enumerate() {
            dims.push(match entry {
                0 if !zero_is_zero => *from.get(i).ok_or_else(|| {
                    Error::invalid(format!("entry {i} of shape {target:?} copies a missing axis"))
                })?,
                -1 if open.is_none() => {
                    open = Some(i);
                    1
                }
                _ => size(entry)?,
            });
        }
        let total = count(from)?;
        if let Some(open) = open {
            let rest = count(&dims)?;
            if rest == 0 || !total.is_multiple_of(rest) {
                return Err(Error::invalid(format!("shape {from:?} does not fill {target:?}")));
            }
            dims[open] = total / rest;
        }
        if count(&dims)? != total {
            return Err(Error::invalid(format!("shape {from:?} does not fit {target:?}")));
        }
        Ok(dims)
    }
}

impl Operator for Reshape {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        Ok(vec![Fact::new(inputs.required(0)?.element, Self::dims(cx, inputs)?)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        reshaped(inputs.required(0)?, &Self::dims(cx, inputs)?)
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let labels = regroup(flow, flow.dims(0), flow.output_dims(0));
        let labels = Self::target(cx, labels.len())?.adapt(cx, flow, labels);
        flow.set_output(0, labels);
        Ok(())
    }

    fn follow_cut(&self, cx: &NodeCx, cut: &CutCx) -> Result<Vec<Edit>> {
        Self::target(cx, cut.old_output_dims(0).len())?.rewrite(cx, cut)
    }
}

struct Flatten;

impl Flatten {
    fn dims(cx: &NodeCx, from: &[usize]) -> Result<Vec<usize>> {
        let given = cx.int("axis", 1)?;
        // Unlike elsewhere, the rank itself is a valid axis.
        let axis = if given == from.len() as i64 { from.len() } else { axis(given, from.len())? };
        Ok(vec![count(&from[..axis])?, count(&from[axis..])?])
    }
}

impl Operator for Flatten {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        Ok(vec![Fact::new(x.element, Self::dims(cx, &x.dims)?)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        reshaped(x, &Self::dims(cx, x.dims())?)
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let labels = regroup(flow, flow.dims(0), flow.output_dims(0));
        flow.set_output(0, labels);
        Ok(())
    }
}

struct Transpose;

impl Transpose {
    fn permutation(cx: &NodeCx, rank: usize) -> Result<Vec<usize>> {
        let permutation = match cx.ints("perm")? {
            Some(permutation) => axes(permutation, rank)?,
            None => (0..rank).rev().collect(),
        };
        if permutation.len() != rank {
            return Err(Error::invalid(format!(
                "attribute `perm` has {} entries for a tensor of rank {rank}",
                permutation.len()
            )));
        }
        Ok(permutation)
    }
}

impl Operator for Transpose {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        let permutation = Self::permutation(cx, x.dims.len())?;
        Ok(vec![Fact::new(x.element, permutation.iter().map(|&axis| x.dims[axis]).collect())])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let permutation = Self::permutation(cx, x.dims().len())?;
        let tensor = x.tensor.permute(permutation.as_slice())?.contiguous()?;
        Ok(vec![Array::new(tensor, x.element)?])
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let labels = flow.input(0);
        let permutation = Self::permutation(cx, labels.len())?;
        flow.set_output(0, permutation.into_iter().map(|axis| labels[axis].clone()).collect());
        Ok(())
    }
}

/// The axes of `Squeeze` and `Unsqueeze`: an input from opset 13 on, an attribute before.
fn squeeze_axes<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<Option<Vec<i64>>> {
    match inputs.get(1) {
        Some(axes) => Ok(Some(axes.integers()?)),
        None => Ok(cx.ints("axes")?.map(<[i64]>::to_vec)),
    }
}

struct Squeeze;

impl Squeeze {
    /// Axes that go.
    fn dropped<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<Vec<usize>> {
        let dims = inputs.required(0)?.dims();
        let dropped = match squeeze_axes(cx, inputs)? {
            Some(list) => axes(&list, dims.len())?,
            None => (0..dims.len()).filter(|&axis| dims[axis] == 1).collect(),
        };
        match dropped.iter().find(|&&axis| dims[axis] != 1) {
            Some(axis) => {
                Err(Error::invalid(format!("axis {axis} of shape {dims:?} has not length 1")))
            }
            None => Ok(dropped),
        }
    }
}

impl Operator for Squeeze {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        let dropped = Self::dropped(cx, inputs)?;
        Ok(vec![Fact::new(x.element, without(&x.dims, &dropped))])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        reshaped(x, &without(x.dims(), &Self::dropped(cx, inputs)?))
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let labels = regroup(flow, flow.dims(0), flow.output_dims(0));
        flow.set_output(0, labels);
        Ok(())
    }
}

/// The list without some positions.
fn without(list: &[usize], dropped: &[usize]) -> Vec<usize> {
    let kept = list.iter().enumerate().filter(|(axis, _)| !dropped.contains(axis));
    kept.map(|(_, &dim)| dim).collect()
}

struct Unsqueeze;

impl Unsqueeze {
    fn dims<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<Vec<usize>> {
        let from = inputs.required(0)?.dims();
        let list = squeeze_axes(cx, inputs)?
            .ok_or_else(|| Error::invalid("no `axes` are given".to_owned()))?;
        let added = axes(&list, from.len() + list.len())?;
        let mut old = from.iter();
        Ok((0..from.len() + list.len())
            .map(|axis| if added.contains(&axis) { 1 } else { *old.next().unwrap_or(&1) })
            .collect())
    }
}

impl Operator for Unsqueeze {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        Ok(vec![Fact::new(inputs.required(0)?.element, Self::dims(cx, inputs)?)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        reshaped(inputs.required(0)?, &Self::dims(cx, inputs)?)
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let labels = regroup(flow, flow.dims(0), flow.output_dims(0));
        flow.set_output(0, labels);
        Ok(())
    }
}

struct Shape;

impl Shape {
    fn value(cx: &NodeCx, dims: &[usize]) -> Result<Array> {
        let rank = dims.len() as i64;
        let clamp = |at: i64| if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank);
        let start = clamp(cx.int("start", 0)?) as usize;
        let end = clamp(cx.int("end", rank)?) as usize;
        let part = dims.get(start..end).unwrap_or_default();
        Array::from_i64s(&[part.len()], part.iter().map(|&dim| dim as i64).collect())
    }
}

impl Operator for Shape {
    fn is_flat(&self) -> bool {
        true
    }

    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let value = Self::value(cx, &inputs.required(0)?.dims)?;
        let mut fact = Fact::new(ElementType::I64, value.dims().to_vec());
        fact.value = Some(value);
        Ok(vec![fact])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        Ok(vec![Self::value(cx, inputs.required(0)?.dims())?])
    }

    /// Nothing is frozen: sizes are read at run time, and what uses them as a channel count freezes.
    fn channels(&self, _cx: &NodeCx, _flow: &mut Flow) -> Result<()> {
        Ok(())
    }
}

struct Size;

impl Operator for Size {
    fn is_flat(&self) -> bool {
        true
    }

    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let elements = count(&inputs.required(0)?.dims)?;
        let mut fact = Fact::new(ElementType::I64, Vec::new());
        fact.value = Some(Array::from_i64s(&[], vec![elements as i64])?);
        Ok(vec![fact])
    }

    fn eval(&self, _cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let elements = inputs.required(0)?.tensor.elem_count();
        Ok(vec![Array::from_i64s(&[], vec![elements as i64])?])
    }

    /// The number of elements changes with any cut.
    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        flow.barrier("its number of elements is computed".to_owned());
        Ok(())
    }
}

struct Expand;

impl Expand {
    /// 1 keeps what is there; a shorter target belongs to the last axes.
    fn target(entries: usize, rank: usize) -> Target {
        let axes = (rank.saturating_sub(entries)..rank).collect();
        Target { input: 1, axes, open: 1, copies: false }
    }

    fn dims<T: Operand>(inputs: &Inputs<T>) -> Result<Vec<usize>> {
        let target: Vec<usize> =
            inputs.required(1)?.integers()?.into_iter().map(size).collect::<Result<_>>()?;
        broadcast::shape(&[inputs.required(0)?.dims(), &target])
    }
}

impl Operator for Expand {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        Ok(vec![Fact::new(inputs.required(0)?.element, Self::dims(inputs)?)])
    }

    fn eval(&self, _cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let dims = Self::dims(inputs)?;
        count(&dims)?;
        let tensor: Tensor = x.tensor.broadcast_as(dims.as_slice())?.contiguous()?;
        Ok(vec![Array::new(tensor, x.element)?])
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let (from, to) = (flow.dims(0), flow.output_dims(0));
        let labels = flow.input(0);
        let added = to.len() - from.len().min(to.len());
        let labels: Labels = (0..to.len())
            .map(|axis| {
                let own = axis.checked_sub(added)?;
                if from[own] == to[axis] { labels[own].clone() } else { None }
            })
            .collect();
        let entries = flow.dims(1).first().copied().unwrap_or(0);
        let labels = Self::target(entries, to.len()).adapt(cx, flow, labels);
        flow.set_output(0, labels);
        Ok(())
    }

    fn follow_cut(&self, cx: &NodeCx, cut: &CutCx) -> Result<Vec<Edit>> {
        let entries = cut.input_dims(1).first().copied().unwrap_or(0);
        Self::target(entries, cut.old_output_dims(0).len()).rewrite(cx, cut)
    }
}
