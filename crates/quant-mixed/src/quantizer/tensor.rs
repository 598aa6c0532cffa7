//! A tensor on one grid, on one for each slice or block along an axis, or in a codebook.

use super::{Affine, Codebook};
use candle_core::{DType, Device, Tensor};
use std::borrow::Cow;
use tensor_core::{Error, Result};

/// What has a grid of its own.
#[derive(Debug, Clone, PartialEq)]
enum Layout {
    Tensor,
    /// Each slice along an axis.
    Channels(usize),
    /// So many neighbours along an axis, the last block being shorter where they do not fit.
    Blocks {
        axis: usize,
        size: usize,
    },
    /// No grid: integers are places in this ascending list.
    Codebook(Vec<f32>),
}

/// How a tensor is quantized.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantizer {
    layout: Layout,
    /// The grids.
    grids: Vec<Affine>,
}

impl Quantizer {
    /// One grid for all elements.
    pub fn per_tensor(grid: Affine) -> Self {
        Self { layout: Layout::Tensor, grids: vec![grid] }
    }

    /// One grid for each slice along `axis`.
    pub fn per_channel(axis: usize, grids: Vec<Affine>) -> Self {
        Self { layout: Layout::Channels(axis), grids }
    }

    /// One grid for each `size` neighbours along `axis`, as ONNX lays scales of blocks out: like the
    /// tensor, with that axis so many times shorter.
    pub fn blocked(axis: usize, size: usize, grids: Vec<Affine>) -> Self {
        Self { layout: Layout::Blocks { axis, size: size.max(1) }, grids }
    }

    /// The numbers of a codebook, whose places are the integers.
    pub fn shared(codebook: &Codebook) -> Self {
        Self { layout: Layout::Codebook(codebook.centres.clone()), grids: Vec::new() }
    }

    /// The axis whose slices have grids of their own.
    pub fn axis(&self) -> Option<usize> {
        match self.layout {
            Layout::Channels(axis) => Some(axis),
            _ => None,
        }
    }

    /// The axis along which blocks have grids of their own, and their size.
    pub fn block(&self) -> Option<(usize, usize)> {
        match self.layout {
            Layout::Blocks { axis, size } => Some((axis, size)),
            _ => None,
        }
    }

    /// The shared numbers, in ascending order.
    pub fn codebook(&self) -> Option<&[f32]> {
        match &self.layout {
            Layout::Codebook(centres) => Some(centres),
            _ => None,
        }
    }

    /// The grids: one, or one for each slice or block; none with a codebook.
    pub fn grids(&self) -> &[Affine] {
        &self.grids
    }

    /// The shape of the scales of a tensor of shape `dims`.
    pub fn scale_dims(&self, dims: &[usize]) -> Vec<usize> {
        match self.layout {
            Layout::Tensor | Layout::Codebook(_) => Vec::new(),
            Layout::Channels(_) => vec![self.grids.len()],
            Layout::Blocks { axis, size } => {
                let shorter =
                    |(i, &n): (usize, &usize)| if i == axis { n.div_ceil(size) } else { n };
                dims.iter().enumerate().map(shorter).collect()
            }
        }
    }

    /// The place of each element's grid in a tensor of shape `dims`.
    fn places(&self, dims: &[usize], count: usize) -> Result<impl Fn(usize) -> usize> {
        let fits = match self.layout {
            Layout::Tensor => self.grids.len() == 1,
            Layout::Channels(axis) => dims.get(axis) == Some(&self.grids.len()),
            Layout::Blocks { axis, .. } => {
                axis < dims.len()
                    && self.scale_dims(dims).iter().product::<usize>() == self.grids.len()
            }
            Layout::Codebook(_) => true,
        };
        if !fits || dims.iter().product::<usize>() != count {
            return Err(Error::invalid(format!(
                "{} grids as {:?} for {count} elements of shape {dims:?}",
                self.grids.len(),
                self.layout
            )));
        }
        let (axis, size) = match self.layout {
            Layout::Tensor | Layout::Codebook(_) => (None, 1),
            Layout::Channels(axis) => (Some(axis), 0),
            Layout::Blocks { axis, size } => (Some(axis), size),
        };
        let inner = axis.map_or(1, |axis| dims[axis + 1..].iter().product::<usize>()).max(1);
        let length = axis.map_or(1, |axis| dims[axis]).max(1);
        Ok(move |i: usize| match (axis, size) {
            (None, _) => 0,
            (Some(_), 0) => i / inner % length,
            (Some(_), size) => {
                let (outer, at) = (i / inner / length, i / inner % length);
                (outer * length.div_ceil(size) + at / size) * inner + i % inner
            }
        })
    }

    /// The place of every element's grid, in order.
    ///
    /// # Errors
    /// When the grids do not fit the shape.
    pub(crate) fn place_of_elements(&self, dims: &[usize]) -> Result<impl Iterator<Item = usize>> {
        let count = dims.iter().product();
        Ok((0..count).map(self.places(dims, count)?))
    }

    /// The grid of every element of a tensor of shape `dims`, in order.
    ///
    /// # Errors
    /// When the grids do not fit the shape, as those of a codebook never do.
    pub fn by_element(&self, dims: &[usize]) -> Result<impl Iterator<Item = &Affine>> {
        let count = dims.iter().product();
        let place = self.places(dims, count)?;
        if self.grids.is_empty() && count > 0 {
            return Err(Error::invalid("a codebook has no grids"));
        }
        Ok((0..count).map(move |i| &self.grids[place(i)]))
    }

    /// The same integers at other scales, one for each grid.
    #[must_use]
    pub fn rescaled(&self, scales: &[f32]) -> Self {
        let grids = self.grids.iter().zip(scales).map(|(grid, &scale)| grid.rescaled(scale));
        Self { layout: self.layout.clone(), grids: grids.collect() }
    }

    /// The slice along `axis` that each grid belongs to, for a tensor of shape `dims`; `None` where
    /// grids reach over several.
    pub(crate) fn slice_of_grids(&self, dims: &[usize], axis: usize) -> Option<Vec<usize>> {
        match self.layout {
            Layout::Tensor | Layout::Codebook(_) => None,
            Layout::Channels(own) => (own == axis).then(|| (0..self.grids.len()).collect()),
            Layout::Blocks { axis: own, .. } => (own != axis).then(|| {
                let dims = self.scale_dims(dims);
                let inner: usize = dims[axis + 1..].iter().product::<usize>().max(1);
                (0..self.grids.len()).map(|grid| grid / inner % dims[axis]).collect()
            }),
        }
    }

    /// The integers of a tensor of shape `dims`, row-major.
    ///
    /// # Errors
    /// When the grids do not fit the shape.
    pub fn quantize(&self, dims: &[usize], x: &[f32]) -> Result<Vec<i32>> {
        let place = self.places(dims, x.len())?;
        Ok(match &self.layout {
            Layout::Codebook(centres) => {
                x.iter().map(|&x| Codebook::nearest(centres, x) as i32).collect()
            }
            _ => x.iter().enumerate().map(|(i, &x)| self.grids[place(i)].quantize(x)).collect(),
        })
    }

    /// The numbers of integers.
    ///
    /// # Errors
    /// When the grids do not fit the shape, or an integer is none of the codebook.
    pub fn dequantize(&self, dims: &[usize], q: &[i32]) -> Result<Vec<f32>> {
        let place = self.places(dims, q.len())?;
        match &self.layout {
            Layout::Codebook(centres) => {
                let centre =
                    |q: &i32| usize::try_from(*q).ok().and_then(|q| centres.get(q)).copied();
                let all: Option<Vec<f32>> = q.iter().map(centre).collect();
                all.ok_or_else(|| Error::invalid("an integer is no place of the codebook"))
            }
            _ => {
                Ok(q.iter().enumerate().map(|(i, &q)| self.grids[place(i)].dequantize(q)).collect())
            }
        }
    }

    /// The numbers that stand for the elements.
    ///
    /// # Errors
    /// When the grids do not fit the shape.
    pub fn nearest(&self, dims: &[usize], x: &[f32]) -> Result<Vec<f32>> {
        self.dequantize(dims, &self.quantize(dims, x)?)
    }

    /// As [`nearest`](Self::nearest), on a tensor; without a gradient.
    ///
    /// # Errors
    /// When the grids do not fit the shape.
    pub fn nearest_tensor(&self, x: &Tensor) -> Result<Tensor> {
        let values = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(Tensor::from_vec(self.nearest(x.dims(), &values)?, x.dims(), &Device::Cpu)?)
    }

    /// What shares a grid, in words.
    pub fn granularity(&self) -> Cow<'static, str> {
        match &self.layout {
            Layout::Tensor => "tensor".into(),
            Layout::Channels(_) => "channel".into(),
            Layout::Blocks { size, .. } => format!("block of {size}").into(),
            Layout::Codebook(centres) => format!("codebook of {}", centres.len()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn each_slice_has_its_grid() {
        let grids = [1.0, 10.0].map(|clip| Affine::symmetric(2, clip).unwrap()).to_vec();
        let x = [0.6, 5.1, -0.6, -4.9];
        let second = Quantizer::per_channel(1, grids.clone());
        assert_eq!(second.quantize(&[2, 2], &x).unwrap(), [1, 1, -1, 0]);
        assert_eq!(second.nearest(&[2, 2], &x).unwrap(), [1.0, 10.0, -1.0, 0.0]);
        let first = Quantizer::per_channel(0, grids.clone());
        assert_eq!(first.quantize(&[2, 2], &x).unwrap(), [1, 1, 0, 0]);
        assert!(first.quantize(&[3, 1], &x[..3]).is_err());
        assert!(Quantizer::per_channel(2, grids.clone()).nearest(&[2, 2], &x).is_err());
        let tensor = Tensor::new(&x, &Device::Cpu).unwrap().reshape((2, 2)).unwrap();
        let same = second.nearest_tensor(&tensor).unwrap().flatten_all().unwrap();
        assert_eq!(same.to_vec1::<f32>().unwrap(), [1.0, 10.0, -1.0, 0.0]);
        let integers = second.quantize(&[2, 2], &x).unwrap();
        assert_eq!(second.dequantize(&[2, 2], &integers).unwrap(), [1.0, 10.0, -1.0, 0.0]);
        assert_eq!(second.slice_of_grids(&[2, 2], 1), Some(vec![0, 1]));
        assert_eq!(second.slice_of_grids(&[2, 2], 0), None);
    }

    #[test]
    fn blocks_lie_along_their_axis() {
        // Two outputs, five inputs in blocks of two, two taps: 2 x 3 x 2 grids.
        let dims = [2, 5, 2];
        let grids = (0..12).map(|i| Affine::symmetric(8, 127.0 * (i + 1) as f32).unwrap());
        let blocked = Quantizer::blocked(1, 2, grids.collect());
        assert_eq!(blocked.scale_dims(&dims), [2, 3, 2]);
        let scales: Vec<f32> = blocked.by_element(&dims).unwrap().map(|grid| grid.scale).collect();
        let one = [1., 2., 1., 2., 3., 4., 3., 4., 5., 6.];
        let two = one.map(|scale| scale + 6.0);
        assert_eq!(scales, [one, two].concat());
        assert_eq!(blocked.slice_of_grids(&dims, 0), Some([[0; 6], [1; 6]].concat()));
        assert_eq!(blocked.granularity(), "block of 2");
        assert!(blocked.by_element(&[2, 7, 2]).is_err());
    }

    #[test]
    fn codes_are_places_in_the_codebook() {
        let weights = [0.1, 0.1, -0.3, 0.1, 0.9];
        let codebook = Codebook::fit(&weights, 2).unwrap();
        let shared = Quantizer::shared(&codebook);
        assert_eq!(shared.quantize(&[5], &weights).unwrap(), [1, 1, 0, 1, 2]);
        assert_eq!(shared.nearest(&[5], &weights).unwrap(), weights);
        assert_eq!(shared.nearest(&[2], &[0.45, 0.55]).unwrap(), [0.1, 0.9]);
        assert!(shared.dequantize(&[1], &[3]).is_err());
        assert!(shared.by_element(&[5]).is_err());
    }
}
