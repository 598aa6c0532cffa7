//! `Concat` and `Gather`: operators that put slices of their inputs side by side.

use super::operand::{Operand, axis};
use super::passing::tie_all;
use super::{Entry, Inputs, NodeCx, Operator};
use crate::channels::{CutCx, Flow, Label, Labels};
use crate::rewrite::Edit;
use crate::run::{Array, Fact};
use crate::{Constant, Error, Result};
use candle_core::Tensor;

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] = &[("Concat", &Concat), ("Gather", &Gather)];

struct Concat;

impl Concat {
    fn axis(cx: &NodeCx, rank: usize) -> Result<usize> {
        match cx.attribute("axis") {
            Some(_) => axis(cx.int("axis", 0)?, rank),
            None => Err(Error::invalid("attribute `axis` is missing")),
        }
    }
}

impl Operator for Concat {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let first = inputs.required(0)?;
        let mut dims = first.dims.clone();
        let axis = Self::axis(cx, dims.len())?;
        for i in 1..inputs.len() {
            let other = &inputs.required(i)?.dims;
            let fits = other.len() == dims.len()
                && (0..dims.len()).all(|k| k == axis || other[k] == dims[k]);
            if !fits {
                return Err(Error::invalid(format!(
                    "input {i} of shape {other:?} does not join {:?} along axis {axis}",
                    first.dims
                )));
            }
            dims[axis] = dims[axis]
                .checked_add(other[axis])
                .ok_or_else(|| Error::invalid("output shape is too large"))?;
        }
        Ok(vec![Fact::new(first.element, dims)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let first = inputs.required(0)?;
        let axis = Self::axis(cx, first.dims().len())?;
        let tensors: Vec<&Tensor> =
            (0..inputs.len()).map(|i| Ok(&inputs.required(i)?.tensor)).collect::<Result<_>>()?;
        Ok(vec![Array::new(Tensor::cat(&tensors, axis)?.contiguous()?, first.element)?])
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let rank = flow.output_dims(0).len();
        let joined = Self::axis(cx, rank)?;
        let inputs = cx.node.inputs.len();
        let mut labels: Labels = vec![None; rank];
        for (axis, slot) in labels.iter_mut().enumerate() {
            if axis != joined {
                let places: Vec<_> = (0..inputs).map(|input| (input, axis)).collect();
                *slot = tie_all(flow, &places);
            } else if (0..inputs).any(|input| flow.input(input)[axis].is_some()) {
                let lists: Vec<_> = (0..inputs).map(|input| flow.axis(input, axis)).collect();
                *slot = Some(lists.iter().flat_map(|list| list.iter().copied()).collect());
            }
        }
        flow.set_output(0, labels);
        Ok(())
    }
}

struct Gather;

impl Gather {
    /// Indices counted from the front.
    fn indices(list: &[i64], length: usize) -> Result<Vec<usize>> {
        list.iter()
            .map(|&index| {
                let from_front =
                    if index < 0 { index.saturating_add(length as i64) } else { index };
                usize::try_from(from_front).ok().filter(|&i| i < length).ok_or_else(|| {
                    Error::invalid(format!("index {index} on an axis of length {length}"))
                })
            })
            .collect()
    }

    /// The indices, when they are constant.
    fn constant(fact: Option<&Fact>, length: usize) -> Option<Vec<usize>> {
        let fact = fact.filter(|fact| fact.fixed)?;
        Self::indices(&fact.integers().ok()?, length).ok()
    }
}

impl Operator for Gather {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let (x, indices) = (inputs.required(0)?, inputs.required(1)?);
        let axis = axis(cx.int("axis", 0)?, x.dims.len())?;
        let mut dims = x.dims[..axis].to_vec();
        dims.extend(&indices.dims);
        dims.extend(&x.dims[axis + 1..]);
        Ok(vec![Fact::new(x.element, dims)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let (x, indices) = (inputs.required(0)?, inputs.required(1)?);
        let axis = axis(cx.int("axis", 0)?, x.dims().len())?;
        let mut dims = x.dims()[..axis].to_vec();
        dims.extend(indices.dims());
        dims.extend(&x.dims()[axis + 1..]);
        super::operand::count(&dims)?;
        let list = Self::indices(&indices.integers()?, x.dims()[axis])?;
        let tensor = select(&x.tensor, axis, &list)?.reshape(dims)?;
        Ok(vec![Array::new(tensor, x.element)?])
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let labels = flow.input(0);
        let gathered = axis(cx.int("axis", 0)?, labels.len())?;
        let rank = flow.dims(1).len();
        let mut result: Labels = labels[..gathered].to_vec();
        result.extend(vec![None; rank]);
        result.extend_from_slice(&labels[gathered + 1..]);
        if let Some(list) = &labels[gathered] {
            let indices = Self::constant(flow.fact(1), list.len());
            match (indices, rank) {
                (Some(indices), 1) => {
                    let part: Vec<Label> = indices.iter().map(|&i| list[i]).collect();
                    result[gathered] = Some(part.into());
                }
                (Some(indices), _) => {
                    let part: Vec<Label> = indices.iter().map(|&i| list[i]).collect();
                    let node = cx.graph.describe(cx.id);
                    flow.freeze(&part, format!("{node} reads single channels"));
                }
                (None, _) => flow.freeze_axis(0, gathered, "the indices are computed"),
            }
        }
        flow.set_output(0, result);
        Ok(())
    }

    fn follow_cut(&self, cx: &NodeCx, cut: &CutCx) -> Result<Vec<Edit>> {
        let Some(fact) = cut.input_fact(1) else { return Ok(Vec::new()) };
        let old_dims = cut.input_fact(0).map_or(&[][..], |fact| &fact.dims);
        let gathered = axis(cx.int("axis", 0)?, old_dims.len())?;
        let Some(keep) = cut.input_keep(0, gathered) else { return Ok(Vec::new()) };
        let new: Vec<i64> = Self::indices(&fact.integers()?, old_dims[gathered])?
            .iter()
            .filter_map(|index| keep.binary_search(index).ok())
            .map(|index| index as i64)
            .collect();
        let dims = if fact.dims.len() == 1 { vec![new.len()] } else { fact.dims.clone() };
        let flat = super::operand::size_constant(fact.element, &new)?;
        let constant = Constant::from_bytes(flat.element(), dims, flat.bytes().to_vec())?;
        Ok(vec![Edit::SetInput { node: cx.id, input: 1, constant }])
    }
}

/// The slices `start..start + length`, which are in range, along an axis.
pub(super) fn part(x: &Tensor, axis: usize, start: usize, length: usize) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    dims[axis] = length;
    // candle's copies of empty views look at offsets beyond the storage.
    if dims.contains(&0) {
        return Ok(Tensor::zeros(dims, x.dtype(), x.device())?);
    }
    Ok(x.narrow(axis, start, length)?.contiguous()?)
}

/// The slices at the given indices, which are in range, along an axis.
pub(super) fn select(x: &Tensor, axis: usize, indices: &[usize]) -> Result<Tensor> {
    let consecutive = indices.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let first = indices.first().copied().unwrap_or(0);
    if consecutive || x.elem_count() == 0 {
        return part(x, axis, first, indices.len());
    }
    let indices: Vec<u32> = indices
        .iter()
        .map(|&i| u32::try_from(i).map_err(|_| Error::unsupported("an axis beyond 2^32")))
        .collect::<Result<_>>()?;
    let count = indices.len();
    let indices = Tensor::from_vec(indices, count, x.device())?;
    Ok(x.contiguous()?.index_select(&indices, axis)?)
}
