//! Convolutions as candle custom operations, with gradients.

use super::channelwise::channel_sums;
use super::conv::{self, PackedConv};
use super::depthwise;
use super::depthwise_gradient::depthwise_weight_gradient;
use super::epilogue::{Epilogue, Finish};
use super::geometry::ConvGeometry;
use super::input_gradient::input_gradient;
use super::lattice_conv;
use super::precision::Precision;
use super::sparse;
use super::storage::{candle_error, elements, with_all, with_elements};
use super::tiles;
use super::weight_gradient::weight_gradient;
use super::winograd::{self, WinogradWeight};
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail,
};
use std::sync::Arc;

/// The convolution of `x` with `weight`, `[batch, out channels, height, width]`.
///
/// `packed` may hold the packed form of `weight`; it is packed on the way otherwise. Gradients flow
/// to `x`, `weight` and `bias`; with an epilogue, asking for them is an error.
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
    let packed = packed.cloned();
    let precision = Precision::F32;
    apply(x, weight, bias, Convolution { geometry: *geometry, packed, epilogue, precision })
}

/// The convolution of `x` with `weight` in a precision, forward and backward.
///
/// # Errors
/// As [`convolution`].
pub fn convolution_in(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    geometry: &ConvGeometry,
    precision: Precision,
) -> Result<Tensor> {
    let epilogue = Epilogue::default();
    apply(x, weight, bias, Convolution { geometry: *geometry, packed: None, epilogue, precision })
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

fn apply<C: Convolve + Send + Sync + 'static>(
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
trait Convolve {
    const NAME: &'static str;

    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>)
    -> Result<(Vec<f32>, Shape)>;

    /// Refuses what has no gradient.
    fn check_backward(&self) -> Result<()>;

    /// The gradient of `x`.
    fn to_input(&self, weight: &[f32], dy: &[f32]) -> crate::Result<Vec<f32>>;

    /// The gradient of the weight.
    fn to_weight(&self, x: &[f32], dy: &[f32]) -> crate::Result<Vec<f32>>;
}

struct Operation<C>(C);

impl<C: Convolve> Operation<C> {
    fn forward(
        &self,
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = bias.map(|(storage, layout)| elements(storage, layout)).transpose()?;
        let (x, weight) = (elements(x.0, x.1)?, elements(weight.0, weight.1)?);
        let (values, shape) = self.0.forward(x, weight, bias)?;
        Ok((CpuStorage::F32(values), shape))
    }

    /// Gradients of those operands that lead to variables.
    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let wanted = [x.track_op(), weight.track_op(), bias.is_some_and(Tensor::track_op)];
        gradients(&self.0, x, weight, dy, wanted)
    }
}

/// The wanted gradients of input, weight and bias.
fn gradients<C: Convolve>(
    operation: &C,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    operation.check_backward()?;
    let dy = dy.contiguous()?;
    let pair = |a: &Tensor, like: &Tensor, run: &dyn Fn(&[f32], &[f32]) -> crate::Result<_>| {
        let values = with_all([a, &dy], |[a, dy]| run(a, dy))?;
        Tensor::from_vec(values.map_err(candle_error)?, like.dims(), &Device::Cpu)
    };
    let [to_x, to_weight, to_bias] = wanted;
    let dx = to_x.then(|| pair(weight, x, &|weight, dy| operation.to_input(weight, dy)));
    let dweight = to_weight.then(|| pair(x, weight, &|x, dy| operation.to_weight(x, dy)));
    let dbias = to_bias.then(|| {
        let (_, channels, rows, columns) = dy.dims4()?;
        let sums =
            with_elements(&dy, |dy| channel_sums(channels, rows * columns, dy.len(), |i| dy[i]))?;
        let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        Tensor::from_vec(sums, channels, &Device::Cpu)
    });
    Ok([dx.transpose()?, dweight.transpose()?, dbias.transpose()?])
}

/// The wanted gradients of input, weight and bias of [`convolution`] without an epilogue.
pub(super) fn backward(
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    geometry: &ConvGeometry,
    precision: Precision,
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    if dy.elem_count() != geometry.output_count() || x.elem_count() != geometry.input_count() {
        bail!("operands do not have the sizes of {geometry:?}");
    }
    let epilogue = Epilogue::default();
    let operation = Convolution { geometry: *geometry, packed: None, epilogue, precision };
    gradients(&operation, x, weight, dy, wanted)
}

impl<C: Convolve> CustomOp2 for Operation<C> {
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
        self.forward((x, x_layout), (weight, weight_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dweight, _] = self.backward(x, weight, None, dy)?;
        Ok((dx, dweight))
    }
}

impl<C: Convolve> CustomOp3 for Operation<C> {
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
        self.forward((x, x_layout), (weight, weight_layout), Some((bias, bias_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dweight, dbias] = self.backward(x, weight, Some(bias), dy)?;
        Ok((dx, dweight, dbias))
    }
}

/// Does the convolution run by Winograd's filtering?
pub(super) fn uses_winograd(g: &ConvGeometry) -> bool {
    winograd::suits(g) && !lattice_conv::suits(g)
}

/// The convolution, with the weight packed on the way unless that was done before.
fn convolve(
    x: &[f32],
    weight: &[f32],
    packed: Option<&PackedConv>,
    g: &ConvGeometry,
    finish: &Finish,
) -> crate::Result<Vec<f32>> {
    if g.is_depthwise() {
        return depthwise::forward(x, weight, g, finish);
    }
    if let Some(sparse) = packed.and_then(|packed| packed.sparse(g)) {
        return sparse::forward(x, sparse, g, finish);
    }
    match packed {
        Some(packed) if packed.fits(g) && uses_winograd(g) => {
            winograd::forward(x, packed.winograd(weight), g, finish)
        }
        Some(packed) if packed.fits(g) => conv::forward(x, packed, g, finish),
        _ if uses_winograd(g) => {
            winograd::forward(x, &WinogradWeight::new(weight, g.out_channels), g, finish)
        }
        _ => {
            let packed = PackedConv::new(weight, g.groups, g.out_channels, g.depth());
            conv::forward(x, &packed, g, finish)
        }
    }
}

/// The gradient of the weight of the convolution `g` of `x`.
fn to_weight(x: &[f32], dy: &[f32], g: &ConvGeometry) -> crate::Result<Vec<f32>> {
    match g.is_depthwise() {
        true => depthwise_weight_gradient(x, dy, g),
        false => weight_gradient(x, dy, g),
    }
}

struct Convolution {
    geometry: ConvGeometry,
    packed: Option<Arc<PackedConv>>,
    epilogue: Epilogue,
    precision: Precision,
}

impl Convolve for Convolution {
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
        let Epilogue { scale, residual, clamp, .. } = &self.epilogue;
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
        let run = |residual: Option<&[f32]>| {
            let finish = Finish { bias, scale, residual, clamp: *clamp };
            if self.precision.uses_tiles(g) && self.check_backward().is_ok() {
                return tiles::forward(x, weight, bias, g).map_err(candle_error);
            }
            convolve(x, weight, self.packed.as_deref(), g, &finish).map_err(candle_error)
        };
        let values = match residual {
            Some(residual) => with_elements(residual, |residual| run(Some(residual)))??,
            None => run(None)?,
        };
        Ok((values, (g.batch, count, g.rows.output, g.columns.output).into()))
    }

    fn check_backward(&self) -> Result<()> {
        let Epilogue { scale, residual, clamp, .. } = &self.epilogue;
        if scale.is_some() || residual.is_some() || clamp.is_some() {
            return Err(candle_core::Error::BackwardNotSupported { op: "fused convolution" });
        }
        Ok(())
    }

    fn to_input(&self, weight: &[f32], dy: &[f32]) -> crate::Result<Vec<f32>> {
        input_gradient(dy, weight, None, &self.geometry, self.precision)
    }

    fn to_weight(&self, x: &[f32], dy: &[f32]) -> crate::Result<Vec<f32>> {
        match self.precision.uses_tiles(&self.geometry) {
            true => tiles::weight_gradient(x, dy, &self.geometry),
            false => to_weight(x, dy, &self.geometry),
        }
    }
}

struct TransposedConvolution {
    geometry: ConvGeometry,
}

impl Convolve for TransposedConvolution {
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
        let values = input_gradient(x, weight, bias, g, Precision::F32).map_err(candle_error)?;
        Ok((values, (g.batch, g.in_channels, g.rows.input, g.columns.input).into()))
    }

    fn check_backward(&self) -> Result<()> {
        Ok(())
    }

    fn to_input(&self, weight: &[f32], dy: &[f32]) -> crate::Result<Vec<f32>> {
        convolve(dy, weight, None, &self.geometry, &Finish::default())
    }

    /// The weight maps `dy` to the gradient of `x`: the roles of both are swapped.
    fn to_weight(&self, x: &[f32], dy: &[f32]) -> crate::Result<Vec<f32>> {
        to_weight(dy, x, &self.geometry)
    }
}
