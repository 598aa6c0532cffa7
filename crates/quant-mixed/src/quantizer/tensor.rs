//! A tensor on one grid, or on one for each slice along an axis.

use super::Affine;
use candle_core::{DType, Device, Tensor};
use tensor_core::{Error, Result};

/// How a tensor is quantized.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantizer {
    /// The axis whose slices have grids of their own; `None` for one grid.
    axis: Option<usize>,
    /// The grids.
    grids: Vec<Affine>,
}

impl Quantizer {
    /// One grid for all elements.
    pub fn per_tensor(grid: Affine) -> Self {
        Self { axis: None, grids: vec![grid] }
    }

    /// One grid for each slice along `axis`.
    pub fn per_channel(axis: usize, grids: Vec<Affine>) -> Self {
        Self { axis: Some(axis), grids }
    }

    /// The axis whose slices have grids of their own.
    pub fn axis(&self) -> Option<usize> {
        self.axis
    }

    /// The grids: one, or one for each slice.
    pub fn grids(&self) -> &[Affine] {
        &self.grids
    }

    /// The grid of each element of a tensor of shape `dims`, in rows of equal grids.
    fn rows(&self, dims: &[usize], count: usize) -> Result<usize> {
        let fits = match self.axis {
            None => true,
            Some(axis) => dims.get(axis) == Some(&self.grids.len()),
        };
        if !fits || dims.iter().product::<usize>() != count {
            return Err(Error::invalid(format!(
                "{} grids along axis {:?} for {count} elements of shape {dims:?}",
                self.grids.len(),
                self.axis
            )));
        }
        Ok(self.axis.map_or(count, |axis| dims[axis + 1..].iter().product()).max(1))
    }

    /// Calls `each` for every element, in order, with its grid.
    fn map<T>(
        &self,
        dims: &[usize],
        x: &[f32],
        each: impl Fn(&Affine, f32) -> T,
    ) -> Result<Vec<T>> {
        let row = self.rows(dims, x.len())?;
        let grids = self.grids.iter().cycle();
        let rows = x.chunks(row).zip(grids);
        Ok(rows.flat_map(|(row, grid)| row.iter().map(|&x| each(grid, x))).collect())
    }

    /// The integers of a tensor of shape `dims`, row-major.
    ///
    /// # Errors
    /// When the grids do not fit the shape.
    pub fn quantize(&self, dims: &[usize], x: &[f32]) -> Result<Vec<i32>> {
        self.map(dims, x, Affine::quantize)
    }

    /// The numbers of integers.
    ///
    /// # Errors
    /// When the grids do not fit the shape.
    pub fn dequantize(&self, dims: &[usize], q: &[i32]) -> Result<Vec<f32>> {
        let row = self.rows(dims, q.len())?;
        let rows = q.chunks(row).zip(self.grids.iter().cycle());
        Ok(rows.flat_map(|(row, grid)| row.iter().map(|&q| grid.dequantize(q))).collect())
    }

    /// The numbers of the grids that stand for the elements.
    ///
    /// # Errors
    /// When the grids do not fit the shape.
    pub fn nearest(&self, dims: &[usize], x: &[f32]) -> Result<Vec<f32>> {
        self.map(dims, x, Affine::nearest)
    }

    /// As [`nearest`](Self::nearest), on a tensor; without a gradient.
    ///
    /// # Errors
    /// When the grids do not fit the shape.
    pub fn nearest_tensor(&self, x: &Tensor) -> Result<Tensor> {
        let values = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(Tensor::from_vec(self.nearest(x.dims(), &values)?, x.dims(), &Device::Cpu)?)
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
    }
}
