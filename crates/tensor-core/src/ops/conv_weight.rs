//! A constant weight of a convolution, made ready.

use crate::kernels::{ConvGeometry, Epilogue, PackedConv, SparseWeight, convolution};
use crate::run::Array;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// A packed weight, without the input channels that it multiplies by zero.
///
/// Masked networks have many of those. NaN and infinity in such a channel do not reach the output.
pub(super) struct ConvWeight {
    weight: Tensor,
    packed: Arc<PackedConv>,
    /// The input channels that are read; all without.
    read: Option<Tensor>,
}

/// One channel in so many has to be zero before the others are gathered.
const ZERO_SHARE: usize = 8;

impl ConvWeight {
    /// Packs a weight `[outputs, channels / groups, kernel...]`.
    ///
    /// # Errors
    /// When the weight has too few axes or no values.
    pub(super) fn new(weight: &Array, groups: usize) -> Result<Self> {
        let (&[outputs, channels, ref kernel @ ..], values) = (weight.dims(), weight.to_f32s()?)
        else {
            return Err(Error::invalid("the weight has no axis of channels"));
        };
        let taps: usize = kernel.iter().product();
        let read = read_channels(&values, channels, taps);
        let is_sparse = groups == 1 && (channels - read.len()) * ZERO_SHARE >= channels;
        if !is_sparse || read.is_empty() {
            let packed = PackedConv::new(&values, groups, outputs, channels * taps);
            return Ok(Self {
                weight: weight.tensor.clone(),
                packed: Arc::new(packed),
                read: None,
            });
        }
        let indices: Vec<u32> = read.iter().map(|&channel| channel as u32).collect();
        let indices = Tensor::new(indices, &Device::Cpu)?;
        let weight = weight.tensor.contiguous()?.index_select(&indices, 1)?;
        let mut kept = Vec::with_capacity(outputs * read.len() * taps);
        for row in values.chunks_exact(channels * taps) {
            read.iter().for_each(|channel| kept.extend_from_slice(&row[channel * taps..][..taps]));
        }
        let packed = PackedConv::new(&kept, 1, outputs, read.len() * taps);
        Ok(Self { weight, packed: Arc::new(packed), read: Some(indices) })
    }

    /// Takes a weight and the same without its zeros.
    pub(super) fn sparse(weight: &Array, sparse: SparseWeight) -> Self {
        let packed = Arc::new(PackedConv::from(sparse));
        Self { weight: weight.tensor.clone(), packed, read: None }
    }

    /// The convolution `g` of `x`, and what follows.
    ///
    /// # Errors
    /// When the operands do not have the sizes of `g`.
    pub(super) fn convolution(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        g: &ConvGeometry,
        epilogue: Epilogue,
    ) -> Result<Tensor> {
        let Some(read) = &self.read else {
            return Ok(convolution(x, &self.weight, bias, g, Some(&self.packed), epilogue)?);
        };
        let x = x.contiguous()?.index_select(read, 1)?;
        let g = ConvGeometry { in_channels: read.elem_count(), ..*g };
        Ok(convolution(&x, &self.weight, bias, &g, Some(&self.packed), epilogue)?)
    }
}

/// Channels with a tap that is not zero in some output.
fn read_channels(values: &[f32], channels: usize, taps: usize) -> Vec<usize> {
    let mut is_read = vec![false; channels];
    for row in values.chunks_exact((channels * taps).max(1)) {
        for (is_read, taps) in is_read.iter_mut().zip(row.chunks_exact(taps.max(1))) {
            *is_read |= taps.iter().any(|&v| v != 0.0);
        }
    }
    (0..channels).filter(|&channel| is_read[channel]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::kernels::WindowAxis;

    #[test]
    fn channels_that_are_multiplied_by_zero_are_not_read() {
        let axis = WindowAxis {
            input: 5,
            output: 5,
            kernel: 3,
            stride: 1,
            dilation: 1,
            pad_begin: 1,
            pad_end: 1,
        };
        let g = ConvGeometry {
            batch: 2,
            groups: 1,
            in_channels: 9,
            out_channels: 4,
            rows: axis,
            columns: axis,
        };
        let wave = |count: usize| (0..count).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
        let mut values = wave(g.weight_count());
        for (i, v) in values.iter_mut().enumerate() {
            if [0, 3, 8].contains(&(i / 9 % 9)) {
                *v = 0.0;
            }
        }
        let x = Tensor::from_vec(wave(g.input_count()), (2, 9, 5, 5), &Device::Cpu).unwrap();
        let weight = Tensor::from_vec(values, (4, 9, 3, 3), &Device::Cpu).unwrap();
        let full = convolution(&x, &weight, None, &g, None, Epilogue::default()).unwrap();
        let ready = ConvWeight::new(&Array::float(weight), 1).unwrap();
        assert_eq!(ready.read.as_ref().unwrap().to_vec1::<u32>().unwrap(), [1, 2, 4, 5, 6, 7]);
        let few = ready.convolution(&x, None, &g, Epilogue::default()).unwrap();
        let difference =
            (full - few).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-5);
    }

    #[test]
    fn a_weight_without_values_reads_no_channel_and_is_kept_whole() {
        let weight = Tensor::zeros((2, 3, 1, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(ConvWeight::new(&Array::float(weight), 1).unwrap().read.is_none());
    }
}
