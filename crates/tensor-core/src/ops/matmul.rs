//! Matrix product with broadcast leading axes.

use super::conv::float;
use super::{Entry, Inputs, NodeCx, Operator, Prepared, PreparedSparse};
use crate::calibrate::{LinearMap, Product};
use crate::channels::{Flow, Label};
use crate::cost::NodeCost;
use crate::kernels::{PackedMatrix, ProductShape, check_count, matrix_product};
use crate::run::{Array, Fact, Training};
use crate::{Error, Result};
use std::sync::Arc;

pub(super) const OPERATORS: &[Entry] = &[("MatMul", &MatMul)];

struct MatMul;

impl Operator for MatMul {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        let plan = Plan::new(&a.dims, &b.dims)?;
        Ok(vec![Fact::new(a.element, plan.output)])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let (a, b) = (float(inputs.required(0)?)?, float(inputs.required(1)?)?);
        let plan = Plan::new(a.dims(), b.dims())?;
        let packed = cx.prepared.and_then(|prepared| prepared.downcast_ref::<Arc<PackedMatrix>>());
        let (shape, batches) = plan.products()?;
        let product = matrix_product(&a.tensor, &b.tensor, &shape, &batches, packed, None)?;
        Ok(vec![Array { tensor: product.reshape(plan.output)?, element: a.element }])
    }

    fn portable(
        &self,
        _cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let (a, b) = (float(inputs.required(0)?)?, float(inputs.required(1)?)?);
        let plan = Plan::new(a.dims(), b.dims())?;
        // A vector is a row on the left and a column on the right.
        let left = if a.dims().len() == 1 { a.tensor.unsqueeze(0)? } else { a.tensor.clone() };
        let right = if b.dims().len() == 1 { b.tensor.unsqueeze(1)? } else { b.tensor.clone() };
        let tensor = left.broadcast_matmul(&right)?.reshape(plan.output)?;
        Ok(Some(vec![Array { tensor, element: a.element }]))
    }

    fn prepare(&self, _cx: &NodeCx, constants: &Inputs<Array>) -> Result<Option<Prepared>> {
        let Some(b) = constants.get(1) else { return Ok(None) };
        let &[inner, columns] = b.dims() else { return Ok(None) };
        let values = float(b)?.to_f32s()?;
        Ok(Some(Arc::new(Arc::new(PackedMatrix::new(&values, inner, columns, false)))))
    }

    fn prepare_sparse(
        &self,
        _cx: &NodeCx,
        constants: &Inputs<Array>,
    ) -> Result<Option<PreparedSparse>> {
        let Some(b) = constants.get(1) else { return Ok(None) };
        PreparedSparse::matrix(float(b)?, false)
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let (a_rank, b_rank) = (flow.dims(0).len(), flow.dims(1).len());
        if a_rank == 0 || b_rank == 0 {
            flow.barrier("a factor of the matrix product is a scalar".to_owned());
            return Ok(());
        }
        let (a_inner, b_inner) = (a_rank - 1, b_rank.saturating_sub(2));
        let (a, b) = (flow.axis(0, a_inner), flow.axis(1, b_inner));
        flow.tie(&a, &b);
        let fixed = [0, 1].map(|i| flow.fact(i).is_some_and(|fact| fact.fixed));
        match fixed {
            [true, false] => {
                let matrix = a_rank == 2;
                flow.contract((1, b_inner), matrix.then_some((0, a_inner)), matrix.then_some(0));
            }
            [_, constant] => {
                let matrix = constant && b_rank == 2;
                flow.contract((0, a_inner), matrix.then_some((1, 0)), matrix.then_some(1));
            }
        }
        let mut output = batch_labels(flow, a_rank, b_rank);
        if a_rank > 1 {
            output.push(kept_labels(flow, 0, a_rank - 2, fixed[0]));
        }
        if b_rank > 1 {
            output.push(kept_labels(flow, 1, b_rank - 1, fixed[1]));
        }
        flow.set_output(0, output);
        Ok(())
    }

    fn linear(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Option<Box<dyn LinearMap>>> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        let &[channels, outputs] = b.dims.as_slice() else { return Ok(None) };
        let &[_, ref rows @ .., _] = a.dims.as_slice() else { return Ok(None) };
        if !b.fixed || a.fixed {
            return Ok(None);
        }
        let rows = rows.iter().product();
        let product =
            Product { channels, outputs, rows, transposed: false, alpha: 1.0, bias: None };
        Ok(Some(Box::new(product)))
    }

    fn cost(&self, _cx: &NodeCx, inputs: &Inputs<Fact>, outputs: &[Fact]) -> NodeCost {
        let inner = inputs.get(0).and_then(|a| a.dims.last()).copied().unwrap_or(0);
        let count = outputs.first().map_or(0, Fact::count);
        NodeCost { macs: (count as u64).saturating_mul(inner as u64) }
    }
}

/// Labels of an axis that the product keeps: those of a constant are channels, and so are those
/// that data already carries.
fn kept_labels(flow: &mut Flow, input: usize, axis: usize, constant: bool) -> Option<Arc<[Label]>> {
    if constant {
        return Some(flow.axis(input, axis));
    }
    flow.input(input).get(axis).cloned().flatten()
}

/// Labels of the leading axes, aligned at their ends.
fn batch_labels(flow: &mut Flow, a_rank: usize, b_rank: usize) -> Vec<Option<Arc<[Label]>>> {
    let leading = [a_rank.saturating_sub(2), b_rank.saturating_sub(2)];
    let count = leading[0].max(leading[1]);
    let mut labels = Vec::with_capacity(count);
    for place in 0..count {
        // (input, axis) of those factors that have this axis in full length.
        let mut full = Vec::new();
        for (input, own) in leading.into_iter().enumerate() {
            let Some(axis) = (place + own).checked_sub(count) else { continue };
            if flow.dims(input)[axis] == 1 {
                flow.freeze_axis(input, axis, "it is broadcast");
            } else {
                full.push((input, axis));
            }
        }
        let carried = full.iter().any(|&(input, axis)| flow.input(input)[axis].is_some());
        if !carried {
            labels.push(None);
            continue;
        }
        let lists: Vec<_> = full.iter().map(|&(input, axis)| flow.axis(input, axis)).collect();
        for pair in lists.windows(2) {
            flow.tie(&pair[0], &pair[1]);
        }
        labels.push(lists.first().cloned());
    }
    labels
}

/// Shapes of a product, with vectors seen as matrices.
struct Plan {
    a: Vec<usize>,
    b: Vec<usize>,
    batch: Vec<usize>,
    output: Vec<usize>,
}

impl Plan {
    fn new(a: &[usize], b: &[usize]) -> Result<Self> {
        if a.is_empty() || b.is_empty() {
            return Err(Error::invalid("a factor of the matrix product is a scalar"));
        }
        let is_vector = [a.len() == 1, b.len() == 1];
        let a = if is_vector[0] { vec![1, a[0]] } else { a.to_vec() };
        let b = if is_vector[1] { vec![b[0], 1] } else { b.to_vec() };
        let (a_lead, b_lead) = (&a[..a.len() - 2], &b[..b.len() - 2]);
        let mismatch = || Error::invalid(format!("shapes {a:?} and {b:?} do not multiply"));
        if a[a.len() - 1] != b[b.len() - 2] {
            return Err(mismatch());
        }
        let rank = a_lead.len().max(b_lead.len());
        let mut batch = Vec::with_capacity(rank);
        for place in 0..rank {
            batch.push(match (aligned(a_lead, place, rank), aligned(b_lead, place, rank)) {
                (x, y) if x == y => x,
                (1, y) => y,
                (x, 1) => x,
                _ => return Err(mismatch()),
            });
        }
        let mut output = batch.clone();
        if !is_vector[0] {
            output.push(a[a.len() - 2]);
        }
        if !is_vector[1] {
            output.push(b[b.len() - 1]);
        }
        check_count(&output)?;
        Ok(Self { a, b, batch, output })
    }

    /// The single products: their shape, and which matrices of either factor they multiply.
    fn products(&self) -> Result<(ProductShape, Vec<(usize, usize)>)> {
        let (a, b) = (&self.a, &self.b);
        let mut shape = ProductShape {
            rows: a[a.len() - 2],
            inner: a[a.len() - 1],
            columns: b[b.len() - 1],
            transpose_a: false,
            transpose_b: false,
        };
        let (a_lead, b_lead) = (&a[..a.len() - 2], &b[..b.len() - 2]);
        if b_lead.iter().all(|&n| n == 1) && a_lead.len() >= b_lead.len() {
            shape.rows *= a_lead.iter().product::<usize>();
            return Ok((shape, vec![(0, 0)]));
        }
        let count: usize = self.batch.iter().product();
        let products = (0..count).map(|product| {
            let (mut rest, mut index, mut step) = (product, (0, 0), (1, 1));
            for place in (0..self.batch.len()).rev() {
                let at = rest % self.batch[place];
                rest /= self.batch[place];
                let (x, y) = (
                    aligned(a_lead, place, self.batch.len()),
                    aligned(b_lead, place, self.batch.len()),
                );
                index.0 += if x == 1 { 0 } else { at * step.0 };
                index.1 += if y == 1 { 0 } else { at * step.1 };
                step = (step.0 * x, step.1 * y);
            }
            index
        });
        Ok((shape, products.collect()))
    }
}

/// Length at a place of the broadcast shape; absent leading axes have length 1.
fn aligned(dims: &[usize], place: usize, rank: usize) -> usize {
    (place + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis])
}
