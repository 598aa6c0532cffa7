//! `Slice` and `Split`.

use super::join;
use super::operand::{Operand, axes, axis, size, size_constant};
use super::{Entry, Inputs, NodeCx, Operator};
use crate::channels::{CutCx, Flow};
use crate::graph::Attribute;
use crate::rewrite::Edit;
use crate::run::{Array, Fact};
use crate::{Error, Result};

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] = &[("Slice", &Slice), ("Split", &Split)];

/// What `Slice` takes along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    axis: usize,
    start: usize,
    step: i64,
    count: usize,
}

impl Part {
    /// Clamps bounds to the axis.
    fn new(axis: usize, length: usize, start: i64, end: i64, step: i64) -> Result<Self> {
        let n = i64::try_from(length).map_err(|_| Error::invalid("axis is too long"))?;
        let from_front = |at: i64| if at < 0 { at.saturating_add(n) } else { at };
        if step == 0 {
            return Err(Error::invalid("a step of 0"));
        }
        if n == 0 {
            return Ok(Self { axis, start: 0, step, count: 0 });
        }
        // Backwards, only the end may lie before the first position.
        let high = if step > 0 { n } else { n - 1 };
        let start = from_front(start).clamp(0, high);
        let low = if step > 0 { 0 } else { -1 };
        // ONNX Runtime reads the largest integer as "to the end", in either direction.
        let open = step < 0 && (end == i64::MAX || end == i64::from(i32::MAX));
        let end = if open { low } else { from_front(end).clamp(low, high) };
        let span = if step > 0 { end - start } else { start - end };
        let count = if span <= 0 { 0 } else { (span as u64).div_ceil(step.unsigned_abs()) };
        Ok(Self { axis, start: start as usize, step, count: count as usize })
    }

    fn indices(&self) -> Vec<usize> {
        (0..self.count as i64).map(|i| (self.start as i64 + i * self.step) as usize).collect()
    }
}

struct Slice;

/// Starts, ends, axes and steps as given.
struct Given {
    starts: Vec<i64>,
    ends: Vec<i64>,
    axes: Vec<usize>,
    steps: Vec<i64>,
}

impl Slice {
    /// Inputs from opset 10 on, attributes before.
    fn given<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<Given> {
        let rank = inputs.required(0)?.dims().len();
        let by_attribute = |name: &str| cx.ints(name).map(|list| list.map(<[i64]>::to_vec));
        let by_input = |i: usize| inputs.get(i).map(Operand::integers).transpose();
        let missing = || Error::invalid("`starts` or `ends` are missing");
        let (starts, ends, list, steps) = if cx.opset() < 10 {
            (by_attribute("starts")?, by_attribute("ends")?, by_attribute("axes")?, None)
        } else {
            (by_input(1)?, by_input(2)?, by_input(3)?, by_input(4)?)
        };
        let (starts, ends) = (starts.ok_or_else(missing)?, ends.ok_or_else(missing)?);
        let axes = match list {
            Some(list) => axes(&list, rank)?,
            None => (0..starts.len()).collect(),
        };
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        let equal = [ends.len(), axes.len(), steps.len()].iter().all(|&n| n == starts.len());
        if !equal || axes.iter().any(|&axis| axis >= rank) {
            return Err(Error::invalid(format!(
                "{} starts, {} ends, {} axes and {} steps for a tensor of rank {rank}",
                starts.len(),
                ends.len(),
                axes.len(),
                steps.len()
            )));
        }
        Ok(Given { starts, ends, axes, steps })
    }

    fn parts(given: &Given, dims: &[usize]) -> Result<Vec<Part>> {
        (0..given.axes.len())
            .map(|i| {
                let axis = given.axes[i];
                Part::new(axis, dims[axis], given.starts[i], given.ends[i], given.steps[i])
            })
            .collect()
    }

    /// Are the sizes constants, which a cut can rewrite?
    fn fixed(cx: &NodeCx, fact: impl Fn(usize) -> Option<bool>) -> bool {
        cx.opset() < 10 || (1..5).all(|input| fact(input).unwrap_or(true))
    }
}

impl Operator for Slice {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        let mut dims = x.dims.clone();
        for part in Self::parts(&Self::given(cx, inputs)?, &x.dims)? {
            dims[part.axis] = part.count;
        }
        Ok(vec![Fact::new(x.element, dims)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let mut tensor = x.tensor.clone();
        for part in Self::parts(&Self::given(cx, inputs)?, x.dims())? {
            tensor = if part.step == 1 {
                join::part(&tensor, part.axis, part.start, part.count)?
            } else {
                join::select(&tensor, part.axis, &part.indices())?
            };
        }
        Ok(vec![Array::new(tensor.contiguous()?, x.element)?])
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let facts: Vec<Option<&Fact>> = (0..cx.node.inputs.len()).map(|i| flow.fact(i)).collect();
        let inputs = Inputs::new(facts);
        let fixed = Self::fixed(cx, |input| inputs.get(input).map(|fact| fact.fixed));
        let dims = flow.dims(0);
        let mut labels = flow.input(0);
        for part in Self::parts(&Self::given(cx, &inputs)?, dims)? {
            let Some(list) = labels[part.axis].clone() else { continue };
            let whole = part.start == 0 && part.step == 1 && part.count == list.len();
            if !whole && (part.step != 1 || !fixed) {
                let why =
                    if fixed { "it is sliced with a step" } else { "its bounds are computed" };
                flow.freeze_axis(0, part.axis, why);
            }
            labels[part.axis] = Some(part.indices().into_iter().map(|i| list[i]).collect());
        }
        flow.set_output(0, labels);
        Ok(())
    }

    fn follow_cut(&self, cx: &NodeCx, cut: &CutCx) -> Result<Vec<Edit>> {
        let facts = Inputs::new((0..cx.node.inputs.len()).map(|i| cut.input_fact(i)).collect());
        if !Self::fixed(cx, |input| facts.get(input).map(|fact| fact.fixed)) {
            return Ok(Vec::new());
        }
        let given = Self::given(cx, &facts)?;
        let old_dims = &facts.required(0)?.dims;
        let (mut starts, mut ends) = (given.starts.clone(), given.ends.clone());
        for (i, part) in Self::parts(&given, old_dims)?.into_iter().enumerate() {
            let Some(keep) = cut.input_keep(0, part.axis) else { continue };
            let below = |at: usize| keep.partition_point(|&kept| kept < at) as i64;
            let whole = part.start == 0 && part.count == old_dims[part.axis];
            // Bounds that reach over the whole axis still do.
            if !whole {
                starts[i] = below(part.start);
                ends[i] = below(part.start + part.count);
            } else if (0..=old_dims[part.axis] as i64).contains(&ends[i]) {
                ends[i] = keep.len() as i64;
            }
        }
        let mut edits = Vec::new();
        for (input, name, old, new) in
            [(1, "starts", &given.starts, starts), (2, "ends", &given.ends, ends)]
        {
            if *old == new {
                continue;
            }
            edits.push(if cx.opset() < 10 {
                let attribute = Attribute::Ints(new);
                Edit::SetAttribute { node: cx.id, name: name.to_owned(), attribute }
            } else {
                let constant = size_constant(facts.required(input)?.element, &new)?;
                Edit::SetInput { node: cx.id, input, constant }
            });
        }
        Ok(edits)
    }
}

struct Split;

impl Split {
    /// Axis and the lengths of the parts: an input from opset 13 on, an attribute before; equal
    /// parts when neither is given, the last one smaller from opset 18 on.
    fn parts<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<(usize, Vec<usize>)> {
        let dims = inputs.required(0)?.dims();
        let axis = axis(cx.int("axis", 0)?, dims.len())?;
        let length = dims[axis];
        let stated = match inputs.get(1) {
            Some(split) => Some(split.integers()?),
            None => cx.ints("split")?.map(<[i64]>::to_vec),
        };
        if let Some(stated) = stated {
            let parts: Vec<usize> = stated.iter().map(|&n| size(n)).collect::<Result<_>>()?;
            let total = parts.iter().try_fold(0_usize, |sum, &n| sum.checked_add(n));
            if total != Some(length) || parts.len() != cx.node.outputs.len() {
                return Err(Error::invalid(format!(
                    "parts {parts:?} for {} outputs of an axis of length {length}",
                    cx.node.outputs.len()
                )));
            }
            return Ok((axis, parts));
        }
        let count = cx.node.outputs.len();
        if cx.attribute("num_outputs").is_some() && cx.int("num_outputs", 0)? != count as i64 {
            return Err(Error::invalid(format!("`num_outputs` is not {count}")));
        }
        let part = length.div_ceil(count.max(1));
        let uneven = cx.attribute("num_outputs").is_none() && !length.is_multiple_of(count.max(1));
        // The last part takes what remains, which must be something.
        if uneven || count == 0 || (length > 0 && part * (count - 1) >= length) {
            return Err(Error::invalid(format!("{count} parts of an axis of length {length}")));
        }
        let mut parts = vec![part; count];
        parts[count - 1] = length - part * (count - 1);
        Ok((axis, parts))
    }
}

impl Operator for Split {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        let (axis, parts) = Self::parts(cx, inputs)?;
        let fact = |part| {
            let mut dims = x.dims.clone();
            dims[axis] = part;
            Fact::new(x.element, dims)
        };
        Ok(parts.into_iter().map(fact).collect())
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let (axis, parts) = Self::parts(cx, inputs)?;
        let mut start = 0;
        let mut outputs = Vec::with_capacity(parts.len());
        for part in parts {
            let tensor = join::part(&x.tensor, axis, start, part)?;
            outputs.push(Array::new(tensor, x.element)?);
            start += part;
        }
        Ok(outputs)
    }

    fn eval_is_portable(&self) -> bool {
        true
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let facts: Vec<Option<&Fact>> = (0..cx.node.inputs.len()).map(|i| flow.fact(i)).collect();
        let (axis, parts) = Self::parts(cx, &Inputs::new(facts))?;
        if flow.fact(1).is_some_and(|fact| !fact.fixed) {
            flow.freeze_axis(0, axis, "its parts are computed");
        }
        let labels = flow.input(0);
        let mut start = 0;
        for (output, part) in parts.into_iter().enumerate() {
            let mut own = labels.clone();
            own[axis] = labels[axis].as_ref().map(|list| list[start..start + part].into());
            flow.set_output(output, own);
            start += part;
        }
        Ok(())
    }

    fn follow_cut(&self, cx: &NodeCx, cut: &CutCx) -> Result<Vec<Edit>> {
        let facts = Inputs::new((0..cx.node.inputs.len()).map(|i| cut.input_fact(i)).collect());
        let (axis, old) = Self::parts(cx, &facts)?;
        let Some(keep) = cut.input_keep(0, axis) else { return Ok(Vec::new()) };
        let mut start = 0;
        let mut new = Vec::with_capacity(old.len());
        for part in old {
            let range = start..start + part;
            new.push(keep.iter().filter(|&kept| range.contains(kept)).count() as i64);
            start += part;
        }
        if cx.opset() < 13 {
            let attribute = Attribute::Ints(new);
            return Ok(vec![Edit::SetAttribute {
                node: cx.id,
                name: "split".to_owned(),
                attribute,
            }]);
        }
        let mut edits = Vec::new();
        if cx.attribute("num_outputs").is_some() {
            let mut with = cx.node.clone();
            with.attributes.remove("num_outputs");
            edits.push(Edit::Replace { node: cx.id, with });
        }
        let element = facts.get(1).map_or(crate::ElementType::I64, |fact| fact.element);
        let constant = size_constant(element, &new)?;
        edits.push(Edit::SetInput { node: cx.id, input: 1, constant });
        Ok(edits)
    }
}
