//! Sliding and global pooling.

use super::geometry::{WindowAxis, check_count};
use super::parallel::{Output, filled, for_each, with_scratch};
use super::pool_gradient::{Pooled, pool_gradient};
use super::simd::{Kernel, SECTION, Simd, dispatch};
use super::storage::{candle_error, elements, with_all, with_elements};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail};

/// What is computed from the elements of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest; padding does not count.
    Maximum,
    /// The mean.
    Average {
        /// Do zeros in the padding count?
        include_padding: bool,
    },
}

/// Pools `[batch, channels, ...]` with a window along the last two axes, or along the last one
/// when `rows` is [`WindowAxis::UNIT`]; gives `[batch, channels, rows, columns]`.
///
/// # Errors
/// When the windows are not over the input's axes, or elements are not `f32`.
pub fn pool(
    x: &Tensor,
    rows: &WindowAxis,
    columns: &WindowAxis,
    pooling: Pooling,
) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Pool { rows: *rows, columns: *columns, pooling })
}

/// Pools everything behind axis 1; gives `[batch, channels]`.
///
/// # Errors
/// When there is nothing to pool, or elements are not `f32`.
pub fn global_pool(x: &Tensor, pooling: Pooling) -> Result<Tensor> {
    x.contiguous()?.apply_op1(GlobalPool { pooling })
}

struct Pool {
    rows: WindowAxis,
    columns: WindowAxis,
    pooling: Pooling,
}

impl Pool {
    /// Elements that count in an average, by row and by column of the output.
    fn divisors(&self) -> [Vec<f32>; 2] {
        match self.pooling {
            Pooling::Maximum => [Vec::new(), Vec::new()],
            Pooling::Average { include_padding } => {
                [&self.rows, &self.columns].map(|axis| axis.counts(include_padding))
            }
        }
    }
}

impl CustomOp1 for Pool {
    fn name(&self) -> &'static str {
        "pooling"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(storage, layout)?;
        let (rows, columns) = (&self.rows, &self.columns);
        let &[batch, channels, ref spatial @ ..] = layout.dims() else {
            bail!("an input without channels: {:?}", layout.dims());
        };
        if spatial.iter().product::<usize>() != rows.input * columns.input {
            bail!("windows over {} x {} elements for {spatial:?}", rows.input, columns.input);
        }
        check_count(&[batch, channels, rows.output, columns.output]).map_err(candle_error)?;
        let divisors = self.divisors();
        let (area, out_area) = (rows.input * columns.input, rows.output * columns.output);
        let work = out_area * rows.kernel * columns.kernel;
        // Whole vectors may be computed past the last output.
        let result = columns.output.next_multiple_of(SECTION);
        let line = result * columns.stride + columns.kernel * columns.dilation + SECTION;
        let line = line.max(columns.pad_begin + columns.input);
        // SAFETY: each plane's task writes all its rows.
        let values = unsafe {
            filled(batch * channels * out_area, |output| {
                for_each(batch * channels, work, |plane| {
                    with_scratch(line + result, |scratch| {
                        let (line, result) = scratch.split_at_mut(line);
                        dispatch(Plane {
                            pool: self,
                            x: &x[plane * area..(plane + 1) * area],
                            divisors: &divisors,
                            output,
                            start: plane * out_area,
                            line,
                            result,
                        });
                    });
                });
            })
        };
        let shape = (batch, channels, rows.output, columns.output);
        Ok((CpuStorage::F32(values.map_err(candle_error)?), shape.into()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        self.backward(x, y, dy).map(Some)
    }
}

impl Pool {
    fn backward(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let (rows, columns) = (&self.rows, &self.columns);
        let dy = dy.contiguous()?;
        let dx = match self.pooling {
            Pooling::Maximum => with_all([x, y, &dy], |[x, y, dy]| {
                pool_gradient(dy, Pooled::Maximum { x, y }, rows, columns)
            })?,
            Pooling::Average { .. } => {
                let pooled = Pooled::Average { divisors: &self.divisors() };
                with_elements(&dy, |dy| pool_gradient(dy, pooled, rows, columns))?
            }
        };
        Tensor::from_vec(dx.map_err(candle_error)?, x.dims(), &Device::Cpu)
    }
}

/// The gradient of the input of [`pool`].
pub(super) fn backward(
    x: &Tensor,
    y: &Tensor,
    dy: &Tensor,
    rows: &WindowAxis,
    columns: &WindowAxis,
    pooling: Pooling,
) -> Result<Tensor> {
    Pool { rows: *rows, columns: *columns, pooling }.backward(x, y, dy)
}

/// One channel of one image: first along the height, then along the width.
struct Plane<'a> {
    pool: &'a Pool,
    x: &'a [f32],
    divisors: &'a [Vec<f32>; 2],
    output: &'a Output<'a>,
    start: usize,
    line: &'a mut [f32],
    result: &'a mut [f32],
}

impl Kernel for Plane<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let maximum = self.pool.pooling == Pooling::Maximum;
        let (rows, columns) = (&self.pool.rows, &self.pool.columns);
        let empty = if maximum { f32::NEG_INFINITY } else { 0.0 };
        // The padding around the line stays as it is.
        self.line.fill(empty);
        for row in 0..rows.output {
            for first in (0..columns.input).step_by(S::LANES) {
                let rest = columns.input - first;
                // SAFETY: loads and stores stay within the row of the input and its place in
                // the line.
                unsafe {
                    let mut pooled = S::splat(empty);
                    for tap in 0..rows.kernel {
                        let Some(y) = rows.source(row, tap) else { continue };
                        let from = self.x.as_ptr().add(y * columns.input + first);
                        let whole = rest >= S::LANES;
                        let values = if whole { S::load(from) } else { S::load_first(from, rest) };
                        pooled = combine::<S>(pooled, values, maximum);
                    }
                    let to = self.line.as_mut_ptr().add(columns.pad_begin + first);
                    if rest < S::LANES {
                        S::store_first(to, pooled, rest);
                    } else {
                        S::store(to, pooled);
                    }
                }
            }
            for column in (0..columns.output).step_by(S::LANES) {
                let from = &self.line[column * columns.stride..];
                // SAFETY: the line extends a section past what the last vector reads, and the
                // result is whole sections.
                unsafe {
                    let mut pooled = S::splat(empty);
                    for tap in 0..columns.kernel {
                        let from = from[tap * columns.dilation..].as_ptr();
                        let values = S::load_every(from, columns.stride);
                        pooled = combine::<S>(pooled, values, maximum);
                    }
                    S::store(self.result.as_mut_ptr().add(column), pooled);
                }
            }
            if !maximum {
                let rows = self.divisors[0][row];
                for (sum, columns) in self.result.iter_mut().zip(&self.divisors[1]) {
                    *sum /= rows * columns;
                }
            }
            let start = self.start + row * columns.output;
            // SAFETY: this task alone writes this plane.
            unsafe {
                let out = self.output.part(start, columns.output);
                std::ptr::copy_nonoverlapping(self.result.as_ptr(), out, columns.output);
            }
        }
    }
}

/// The sum or the larger; NaN among the values does not count as larger.
#[inline(always)]
unsafe fn combine<S: Simd>(pooled: S::Vector, values: S::Vector, maximum: bool) -> S::Vector {
    // SAFETY: the caller has the instruction set of `S`.
    unsafe { if maximum { S::at_least(values, pooled) } else { S::add(pooled, values) } }
}

struct GlobalPool {
    pooling: Pooling,
}

impl CustomOp1 for GlobalPool {
    fn name(&self) -> &'static str {
        "global pooling"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(storage, layout)?;
        let &[batch, channels, ref spatial @ ..] = layout.dims() else {
            bail!("an input without channels: {:?}", layout.dims());
        };
        let area: usize = spatial.iter().product();
        if area == 0 {
            bail!("nothing to pool in {:?}", layout.dims());
        }
        let pool: fn(&[f32]) -> f32 = match self.pooling {
            Pooling::Maximum => maximum,
            Pooling::Average { .. } => mean,
        };
        let values = x.chunks_exact(area).map(pool).collect();
        Ok((CpuStorage::F32(values), (batch, channels).into()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let area = x.elem_count() / y.elem_count().max(1);
        let dy = dy.contiguous()?;
        if self.pooling != Pooling::Maximum {
            let rows = (dy.flatten_all()? / area as f64)?.unsqueeze(1)?;
            return Ok(Some(rows.broadcast_as((y.elem_count(), area))?.reshape(x.dims())?));
        }
        let dx = with_all([x, y, &dy], |[x, y, dy]| {
            let mut dx = vec![0.0; x.len()];
            for (plane, (&y, &dy)) in y.iter().zip(dy).enumerate() {
                let start = plane * area;
                if let Some(i) = x[start..start + area].iter().position(|&x| x == y) {
                    dx[start + i] = dy;
                }
            }
            dx
        })?;
        Ok(Some(Tensor::from_vec(dx, x.dims(), &Device::Cpu)?))
    }
}

/// Partial results that are kept side by side, so that vectors can be used.
const WIDE: usize = 16;

fn mean(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<WIDE>();
    let mut sums = [0.0_f32; WIDE];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    let total: f32 = sums.iter().chain(rest).sum();
    total / values.len() as f32
}

fn maximum(values: &[f32]) -> f32 {
    values.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}
