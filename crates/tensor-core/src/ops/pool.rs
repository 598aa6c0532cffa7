//! Pooling: sliding and global, maximum and average.

use super::conv::float;
use super::window::{Padding, WindowAttributes, extent, rows_and_columns};
use super::{Differentiated, Entry, Following, Inputs, NodeCx, Operator};
use crate::channels::Flow;
use crate::kernels::{Pooling, WindowAxis, check_count, global_pool, pool, pool_backward};
use crate::portable;
use crate::run::{Array, Fact, Training};
use crate::{ElementType, Error, Result};
use candle_core::{DType, Tensor};

pub(super) const OPERATORS: &[Entry] = &[
    ("AveragePool", &Sliding { maximum: false }),
    ("GlobalAveragePool", &Global { maximum: false }),
    ("GlobalMaxPool", &Global { maximum: true }),
    ("MaxPool", &Sliding { maximum: true }),
];

struct Sliding {
    maximum: bool,
}

impl Sliding {
    fn axes(&self, cx: &NodeCx, x: &[usize]) -> Result<Vec<WindowAxis>> {
        if cx.node.output(1).is_some() {
            return Err(Error::unsupported("the indices output of MaxPool"));
        }
        let Some(spatial) = x.get(2..) else {
            return Err(Error::invalid(format!("input {x:?} has no spatial axis")));
        };
        let attributes = WindowAttributes::read(cx, spatial.len(), None)?;
        if let Padding::Explicit(pads) = &attributes.padding {
            for (axis, &(begin, end)) in pads.iter().enumerate() {
                let extent = extent(attributes.kernel[axis], attributes.dilations[axis])?;
                if begin >= extent || end >= extent {
                    return Err(Error::invalid(format!(
                        "padding ({begin}, {end}) of spatial axis {axis} holds whole windows of {extent}"
                    )));
                }
            }
        }
        let ceil = cx.int("ceil_mode", 0)? != 0;
        let axes = attributes.slide(spatial, ceil)?;
        let mut output = x[..2].to_vec();
        output.extend(axes.iter().map(|axis| axis.output));
        check_count(&output)?;
        Ok(axes)
    }

    fn pooling(&self, cx: &NodeCx) -> Result<Pooling> {
        Ok(match (self.maximum, cx.int("count_include_pad", 0)? != 0) {
            (true, _) => Pooling::Maximum,
            (false, include_padding) => Pooling::Average { include_padding },
        })
    }
}

impl Operator for Sliding {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        let axes = self.axes(cx, &x.dims)?;
        Ok(vec![Fact::new(x.element, output_dims(&x.dims, &axes))])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let axes = self.axes(cx, x.dims())?;
        let (rows, columns) = rows_and_columns(&axes);
        let dims = output_dims(x.dims(), &axes);
        let pooling = self.pooling(cx)?;
        // Eight-bit integers are exact in f32; the maximum of others could round.
        if matches!(x.element, ElementType::I8 | ElementType::U8) && self.maximum {
            let wide = x.tensor.to_dtype(DType::F32)?;
            let pooled = pool(&wide, &rows, &columns, pooling)?.reshape(dims)?;
            return Ok(vec![Array { tensor: pooled.to_dtype(DType::I64)?, element: x.element }]);
        }
        let pooled = pool(&float(x)?.tensor, &rows, &columns, pooling)?;
        Ok(vec![Array { tensor: pooled.reshape(dims)?, element: x.element }])
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let x = inputs.required(0)?;
        let axes = self.axes(cx, x.dims())?;
        let (rows, columns) = rows_and_columns(&axes);
        let pooled = portable::pool(&x.tensor, &rows, &columns, self.pooling(cx)?)?;
        let tensor = pooled.reshape(output_dims(x.dims(), &axes))?;
        Ok(Some(vec![Array { tensor, element: x.element }]))
    }

    fn differentiate(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _wanted: &[bool],
        following: &Following,
        _training: &mut Training,
    ) -> Result<Option<Differentiated>> {
        if !following.is_empty() {
            return Ok(None);
        }
        let x = inputs.required(0)?.clone();
        let (rows, columns) = rows_and_columns(&self.axes(cx, x.dims())?);
        let pooling = self.pooling(cx)?;
        let Some(output) = self.eval(cx, inputs)?.pop() else { return Ok(None) };
        let y = output.tensor.clone();
        let pullback = Box::new(move |dy: &Tensor| {
            Ok(vec![Some(pool_backward([&x.tensor, &y, dy], &rows, &columns, pooling)?)])
        });
        Ok(Some(Differentiated { output, pullback }))
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        pass_channels(flow);
        Ok(())
    }
}

struct Global {
    maximum: bool,
}

impl Global {
    fn pooling(&self) -> Pooling {
        match self.maximum {
            true => Pooling::Maximum,
            false => Pooling::Average { include_padding: false },
        }
    }
}

impl Operator for Global {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        Ok(vec![Fact::new(x.element, global_dims(&x.dims)?)])
    }

    fn eval(&self, _cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = float(inputs.required(0)?)?;
        let dims = global_dims(x.dims())?;
        let pooled = global_pool(&x.tensor, self.pooling())?;
        Ok(vec![Array { tensor: pooled.reshape(dims)?, element: x.element }])
    }

    fn portable(
        &self,
        _cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        let x = inputs.required(0)?;
        let dims = global_dims(x.dims())?;
        let pooled = portable::global_pool(&x.tensor, self.pooling())?;
        Ok(Some(vec![Array { tensor: pooled.reshape(dims)?, element: x.element }]))
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        pass_channels(flow);
        Ok(())
    }
}

fn output_dims(x: &[usize], axes: &[WindowAxis]) -> Vec<usize> {
    x.iter().take(2).copied().chain(axes.iter().map(|axis| axis.output)).collect()
}

fn global_dims(x: &[usize]) -> Result<Vec<usize>> {
    if x.len() < 3 || x[2..].contains(&0) {
        return Err(Error::invalid(format!("input {x:?} has nothing to pool over")));
    }
    Ok(x.iter().enumerate().map(|(axis, &n)| if axis < 2 { n } else { 1 }).collect())
}

/// Every channel is pooled on its own; the other axes are summed over.
fn pass_channels(flow: &mut Flow) {
    let mut labels = flow.input(0);
    for (axis, labels) in labels.iter_mut().enumerate() {
        if axis != 1 {
            flow.freeze_axis(0, axis, "a window slides over it");
            *labels = None;
        }
    }
    flow.set_output(0, labels);
}
