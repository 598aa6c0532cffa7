//! General matrix product `alpha A B + beta C` of two-dimensional inputs.

use super::conv::float;
use super::{Entry, Inputs, NodeCx, Operator, Prepared, PreparedSparse};
use crate::calibrate::{LinearMap, Product};
use crate::channels::Flow;
use crate::cost::NodeCost;
use crate::kernels::{PackedMatrix, ProductShape, check_count, matrix_product};
use crate::run::{Array, Fact, Training};
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;

pub(super) const OPERATORS: &[Entry] = &[("Gemm", &Gemm)];

struct Gemm;

impl Operator for Gemm {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        let shape = shape(cx, &a.dims, &b.dims, inputs.get(2).map(|c| c.dims.as_slice()))?;
        Ok(vec![Fact::new(a.element, vec![shape.rows, shape.columns])])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let (a, b) = (float(inputs.required(0)?)?, float(inputs.required(1)?)?);
        let c = inputs.get(2).map(float).transpose()?;
        let shape = shape(cx, a.dims(), b.dims(), c.map(Array::dims))?;
        let (alpha, beta) = (cx.float("alpha", 1.0)?, cx.float("beta", 1.0)?);
        let packed = cx.prepared.and_then(|prepared| prepared.downcast_ref::<Arc<PackedMatrix>>());
        // The usual bias of one value per column joins the product.
        let bias = c
            .filter(|c| alpha == 1.0 && beta == 1.0 && c.dims() == [shape.columns])
            .map(|c| &c.tensor);
        let product = matrix_product(&a.tensor, &b.tensor, &shape, &[(0, 0)], packed, bias)?;
        let product = product.reshape((shape.rows, shape.columns))?;
        let tensor = match c {
            Some(c) if bias.is_none() => combine(&product, &c.tensor, alpha, beta)?,
            None if alpha != 1.0 => product.affine(f64::from(alpha), 0.0)?,
            _ => product,
        };
        Ok(vec![Array { tensor, element: a.element }])
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let (a, b) = (float(inputs.required(0)?)?, float(inputs.required(1)?)?);
        let c = inputs.get(2);
        let shape = shape(cx, a.dims(), b.dims(), c.map(Array::dims))?;
        let turned = |x: &Array, yes: bool| if yes { x.tensor.t() } else { Ok(x.tensor.clone()) };
        let product = turned(a, shape.transpose_a)?.matmul(&turned(b, shape.transpose_b)?)?;
        let (alpha, beta) = (cx.float("alpha", 1.0)?, cx.float("beta", 1.0)?);
        let tensor = match c {
            Some(c) => combine(&product, &c.tensor, alpha, beta)?,
            None => product.affine(f64::from(alpha), 0.0)?,
        };
        Ok(Some(vec![Array { tensor, element: a.element }]))
    }

    fn prepare(&self, cx: &NodeCx, constants: &Inputs<Array>) -> Result<Option<Prepared>> {
        let Some(b) = constants.get(1) else { return Ok(None) };
        let transposed = cx.int("transB", 0)? != 0;
        let &[rows, columns] = b.dims() else {
            return Err(Error::invalid(format!("input 1 has shape {:?}, not two axes", b.dims())));
        };
        let (inner, outputs) = if transposed { (columns, rows) } else { (rows, columns) };
        let values = float(b)?.to_f32s()?;
        Ok(Some(Arc::new(Arc::new(PackedMatrix::new(&values, inner, outputs, transposed)))))
    }

    fn prepare_sparse(
        &self,
        cx: &NodeCx,
        constants: &Inputs<Array>,
    ) -> Result<Option<PreparedSparse>> {
        let Some(b) = constants.get(1) else { return Ok(None) };
        PreparedSparse::matrix(float(b)?, cx.int("transB", 0)? != 0)
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let (a_inner, a_outer) = if cx.int("transA", 0)? != 0 { (0, 1) } else { (1, 0) };
        let (b_inner, b_outer) = if cx.int("transB", 0)? != 0 { (1, 0) } else { (0, 1) };
        flow.freeze_axis(0, a_outer, "it is a row of a matrix product");
        let (a, b) = (flow.axis(0, a_inner), flow.axis(1, b_inner));
        flow.tie(&a, &b);
        let fixed = flow.fact(1).is_some_and(|weight| weight.fixed);
        flow.contract((0, a_inner), fixed.then_some((1, b_inner)), fixed.then_some(b_outer));
        let outputs = flow.axis(1, b_outer);
        let c = flow.dims(2);
        if let Some(last) = c.len().checked_sub(1) {
            if c[last] == outputs.len() {
                let own = flow.axis(2, last);
                flow.tie(&outputs, &own);
            } else {
                flow.freeze_axis(2, last, "it is broadcast over the columns");
            }
            if last == 1 {
                flow.freeze_axis(2, 0, "it is a row of a matrix product");
            }
        }
        flow.set_output(0, vec![None, Some(outputs)]);
        Ok(())
    }

    fn linear(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Option<Box<dyn LinearMap>>> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        // Rows are read sample by sample, and a bias must belong to columns.
        let c = inputs.get(2);
        // A bias per column, or one number for all, in any form that broadcasts over the rows.
        let bias_per_column = |c: &Fact, columns: usize| {
            let (last, rest) = c.dims.split_last().unwrap_or((&1, &[]));
            c.fixed && [1, columns].contains(last) && rest.iter().all(|&dim| dim == 1)
        };
        if !b.fixed || cx.int("transA", 0)? != 0 {
            return Ok(None);
        }
        let shape = shape(cx, &a.dims, &b.dims, c.map(|c| c.dims.as_slice()))?;
        if c.is_some_and(|c| !bias_per_column(c, shape.columns)) {
            return Ok(None);
        }
        let (alpha, beta) = (cx.float("alpha", 1.0)?, cx.float("beta", 1.0)?);
        // Without a factor there is nothing to fit.
        if [alpha, beta].iter().any(|factor| !factor.is_finite() || *factor == 0.0) {
            return Ok(None);
        }
        let product = Product {
            channels: shape.inner,
            outputs: shape.columns,
            rows: 1,
            transposed: shape.transpose_b,
            alpha,
            bias: Some((2, beta)),
        };
        Ok(Some(Box::new(product)))
    }

    fn cost(&self, cx: &NodeCx, inputs: &Inputs<Fact>, _outputs: &[Fact]) -> NodeCost {
        let (Some(a), Some(b)) = (inputs.get(0), inputs.get(1)) else { return NodeCost::default() };
        let macs = shape(cx, &a.dims, &b.dims, None).map_or(0, |shape| shape.macs());
        NodeCost { macs }
    }
}

/// `alpha product + beta c`, with `c` broadcast.
fn combine(product: &Tensor, c: &Tensor, alpha: f32, beta: f32) -> Result<Tensor> {
    let scale = |tensor: &Tensor, factor: f32| match factor {
        1.0 => Ok(tensor.clone()),
        _ => tensor.affine(f64::from(factor), 0.0),
    };
    Ok(scale(product, alpha)?.broadcast_add(&scale(c, beta)?)?)
}

fn shape(cx: &NodeCx, a: &[usize], b: &[usize], c: Option<&[usize]>) -> Result<ProductShape> {
    let (&[a0, a1], &[b0, b1]) = (a, b) else {
        return Err(Error::invalid(format!("inputs {a:?} and {b:?} must have two axes")));
    };
    let transpose_a = cx.int("transA", 0)? != 0;
    let transpose_b = cx.int("transB", 0)? != 0;
    let (rows, inner) = if transpose_a { (a1, a0) } else { (a0, a1) };
    let (b_inner, columns) = if transpose_b { (b1, b0) } else { (b0, b1) };
    if inner != b_inner {
        return Err(Error::invalid(format!(
            "inputs {a:?} and {b:?} meet with lengths {inner} and {b_inner}"
        )));
    }
    check_count(&[rows, columns])?;
    if let Some(c) = c {
        let fits = c.len() <= 2
            && c.iter().rev().zip([columns, rows]).all(|(&dim, full)| dim == 1 || dim == full);
        if !fits {
            return Err(Error::invalid(format!(
                "input 2 of shape {c:?} does not broadcast to {:?}",
                [rows, columns]
            )));
        }
    }
    Ok(ProductShape { rows, inner, columns, transpose_a, transpose_b })
}
