//! Convolutions as candle custom operations.

use super::conv::{PackedConv, forward};
use super::epilogue::{Epilogue, Finish};
use super::geometry::ConvGeometry;
use super::storage::{candle_error, elements, with_elements};
use super::{conv_transpose, depthwise};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

/// The convolution of `x` with `weight`, `[batch, out channels, height, width]`.
///
/// `packed` may hold the packed form of `weight`; it is packed on the way otherwise.
///
/// # Errors
/// When an operand does not have the size or type that `geometry` implies.
pub fn convolution(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    geometry: &ConvGeometry,
    packed: Option<&Arc<PackedConv>>,
    epilogue: Epilogue,
) -> Result<Tensor> {
    let residual = epilogue.residual.as_ref().map(Tensor::contiguous).transpose()?;
    let epilogue = Epilogue { residual, ..epilogue };
    apply(x, weight, bias, Convolution { geometry: *geometry, packed: packed.cloned(), epilogue })
}

/// The convolution that `geometry` transposes: from its output `x` to its input,
/// `[batch, in channels, height, width]`; the weight is `[out channels, in channels / groups, ...]`.
///
/// # Errors
/// When an operand does not have the size or type that `geometry` implies.
pub fn transposed_convolution(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    geometry: &ConvGeometry,
) -> Result<Tensor> {
    apply(x, weight, bias, TransposedConvolution { geometry: *geometry })
}

fn apply<C: Forward + Send + Sync + 'static>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    operation: C,
) -> Result<Tensor> {
    for operand in [Some(x), Some(weight), bias].into_iter().flatten() {
        if operand.dtype() != DType::F32 {
            bail!("{} of elements {:?}", C::NAME, operand.dtype());
        }
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Operation(operation)),
        None => x.apply_op2(&weight, Operation(operation)),
    }
}

/// A convolution on slices.
trait Forward {
    const NAME: &'static str;

    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>)
    -> Result<(Vec<f32>, Shape)>;
}

struct Operation<C>(C);

impl<C: Forward> CustomOp2 for Operation<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (elements(x, x_layout)?, elements(weight, weight_layout)?);
        let (values, shape) = self.0.forward(x, weight, None)?;
        Ok((CpuStorage::F32(values), shape))
    }
}

impl<C: Forward> CustomOp3 for Operation<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (elements(x, x_layout)?, elements(weight, weight_layout)?);
        let bias = elements(bias, bias_layout)?;
        let (values, shape) = self.0.forward(x, weight, Some(bias))?;
        Ok((CpuStorage::F32(values), shape))
    }
}

struct Convolution {
    geometry: ConvGeometry,
    packed: Option<Arc<PackedConv>>,
    epilogue: Epilogue,
}

impl Convolution {
    fn compute(&self, x: &[f32], weight: &[f32], finish: &Finish) -> Result<Vec<f32>> {
        let g = &self.geometry;
        let values = if g.is_depthwise() {
            depthwise::forward(x, weight, g, finish)
        } else {
            match &self.packed {
                Some(packed) if packed.fits(g) => forward(x, packed, g, finish),
                _ => {
                    let packed = PackedConv::new(weight, g.groups, g.out_channels, g.depth());
                    forward(x, &packed, g, finish)
                }
            }
        };
        values.map_err(candle_error)
    }
}

impl Forward for Convolution {
    const NAME: &'static str = "convolution";

    fn forward(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<(Vec<f32>, Shape)> {
        let g = &self.geometry;
        g.check().map_err(candle_error)?;
        let count = g.out_channels;
        let Epilogue { scale, residual, clamp } = &self.epilogue;
        let scale = scale.as_deref();
        if x.len() != g.input_count()
            || weight.len() != g.weight_count()
            || bias.is_some_and(|bias| bias.len() != count)
            || scale
                .is_some_and(|(factors, shifts)| factors.len() != count || shifts.len() != count)
            || residual.as_ref().is_some_and(|r| r.elem_count() != g.output_count())
        {
            bail!("operands do not have the sizes of {g:?}");
        }
        let finish = Finish { bias, scale, residual: None, clamp: *clamp };
        let values = match residual {
            Some(residual) => with_elements(residual, |residual| {
                self.compute(x, weight, &Finish { residual: Some(residual), ..finish })
            })??,
            None => self.compute(x, weight, &finish)?,
        };
        Ok((values, (g.batch, count, g.rows.output, g.columns.output).into()))
    }
}

struct TransposedConvolution {
    geometry: ConvGeometry,
}

impl Forward for TransposedConvolution {
    const NAME: &'static str = "transposed convolution";

    fn forward(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<(Vec<f32>, Shape)> {
        let g = &self.geometry;
        g.check().map_err(candle_error)?;
        if x.len() != g.output_count()
            || weight.len() != g.weight_count()
            || bias.is_some_and(|bias| bias.len() != g.in_channels)
        {
            bail!("operands do not have the sizes of the transposed {g:?}");
        }
        let values = conv_transpose::backward_data(x, weight, bias, g).map_err(candle_error)?;
        Ok((values, (g.batch, g.in_channels, g.rows.input, g.columns.input).into()))
    }
}
