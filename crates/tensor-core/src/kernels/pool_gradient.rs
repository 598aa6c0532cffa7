//! Gradients of pooling.

use super::geometry::WindowAxis;
use super::parallel::{Output, filled, for_each, with_scratch};
use super::simd::{Kernel, Simd, dispatch};
use crate::Result;

/// What the gradient of pooling needs besides the gradient of the output.
#[derive(Clone, Copy)]
pub(super) enum Pooled<'a> {
    /// Input and output of a maximum: the first of equal elements of a window gets the gradient.
    Maximum { x: &'a [f32], y: &'a [f32] },
    /// How many elements count in each output row and column of an average.
    Average { divisors: &'a [Vec<f32>; 2] },
}

/// The gradient of the input, from the gradient `dy` of the output; both are planes one after
/// the other.
///
/// # Errors
/// When there is no memory for the result.
pub(super) fn pool_gradient(
    dy: &[f32],
    pooled: Pooled,
    rows: &WindowAxis,
    columns: &WindowAxis,
) -> Result<Vec<f32>> {
    let (area, out_area) = (rows.input * columns.input, rows.output * columns.output);
    let planes = dy.len().checked_div(out_area).unwrap_or(0);
    let work = out_area * rows.kernel * columns.kernel;
    // SAFETY: each plane's task writes the whole plane.
    unsafe {
        filled(planes * area, |output| {
            for_each(planes, work, |plane| {
                with_scratch(columns.output, |line| {
                    let (own, out) = (plane * area, plane * out_area);
                    let pooled = match pooled {
                        Pooled::Maximum { x, y } => {
                            Pooled::Maximum { x: &x[own..own + area], y: &y[out..out + out_area] }
                        }
                        average => average,
                    };
                    let dy = &dy[out..out + out_area];
                    dispatch(Plane { pooled, dy, rows, columns, output, start: own, line });
                });
            });
        })
    }
}

struct Plane<'a> {
    pooled: Pooled<'a>,
    dy: &'a [f32],
    rows: &'a WindowAxis,
    columns: &'a WindowAxis,
    output: &'a Output<'a>,
    start: usize,
    /// What the windows of one row have yet to pass on.
    line: &'a mut [f32],
}

impl Kernel for Plane<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { pooled, dy, rows, columns, line, .. } = self;
        let area = rows.input * columns.input;
        if let Pooled::Maximum { x, y } = pooled
            && [rows, columns].iter().all(|axis| axis.halves())
        {
            // SAFETY: this task alone writes this plane; all of it is written here.
            let dx = unsafe {
                let dx = self.output.part(self.start, area);
                std::slice::from_raw_parts_mut(dx.cast::<std::mem::MaybeUninit<f32>>(), area)
            };
            let lines = y.chunks_exact(columns.output).zip(dy.chunks_exact(columns.output));
            let twice =
                x.chunks_exact(2 * columns.input).zip(dx.chunks_exact_mut(2 * columns.input));
            lines.zip(twice).for_each(|((y, dy), (x, dx))| pass_to_quarters(x, y, dy, dx));
            return;
        }
        // SAFETY: this task alone writes this plane, and initializes it before it reads it.
        let dx = unsafe {
            let dx = self.output.part(self.start, area);
            std::ptr::write_bytes(dx, 0, area);
            std::slice::from_raw_parts_mut(dx, area)
        };
        let width = columns.output;
        for row in 0..rows.output {
            let out = row * width..(row + 1) * width;
            line.copy_from_slice(&dy[out.clone()]);
            if let Pooled::Average { divisors } = pooled {
                let divisor = divisors[0][row];
                line.iter_mut().zip(&divisors[1]).for_each(|(value, own)| *value /= divisor * own);
            }
            for tap in 0..rows.kernel * columns.kernel {
                let (tap_row, tap_column) = (tap / columns.kernel, tap % columns.kernel);
                let (begin, end) = columns.inside(tap_column);
                let Some(source) = rows.source(row, tap_row).filter(|_| begin < end) else {
                    continue;
                };
                let first = begin * columns.stride + tap_column * columns.dilation
                    - columns.pad_begin
                    + source * columns.input;
                let dx = dx[first..].iter_mut().step_by(columns.stride);
                let line = &mut line[begin..end];
                match pooled {
                    Pooled::Average { .. } => dx.zip(line).for_each(|(dx, line)| *dx += *line),
                    Pooled::Maximum { x, y } => {
                        let x = x[first..].iter().step_by(columns.stride);
                        let y = &y[out.start + begin..out.start + end];
                        for (((dx, line), x), y) in dx.zip(line).zip(x).zip(y) {
                            // By bits: a branch could not be predicted.
                            let chosen = u32::from(x == y).wrapping_neg();
                            *dx += f32::from_bits(line.to_bits() & chosen);
                            *line = f32::from_bits(line.to_bits() & !chosen);
                        }
                    }
                }
            }
        }
    }
}

/// Two rows of windows of 2 x 2 elements side by side: the first of the elements that are the
/// maximum gets the gradient.
#[inline(always)]
fn pass_to_quarters(x: &[f32], y: &[f32], dy: &[f32], dx: &mut [std::mem::MaybeUninit<f32>]) {
    let (x, _) = x.as_chunks::<2>();
    let (dx, _) = dx.as_chunks_mut::<2>();
    let half = x.len() / 2;
    let ((x0, x1), (dx0, dx1)) = (x.split_at(half), dx.split_at_mut(half));
    let inputs = x0.iter().zip(x1).zip(y.iter().zip(dy));
    for (((x0, x1), (y, dy)), (dx0, dx1)) in inputs.zip(dx0.iter_mut().zip(dx1)) {
        // By bits: a branch could not be predicted.
        let is = |x: f32| u32::from(x == *y).wrapping_neg();
        let part = |chosen: u32| std::mem::MaybeUninit::new(f32::from_bits(dy.to_bits() & chosen));
        let (a, b, c, d) = (is(x0[0]), is(x0[1]), is(x1[0]), is(x1[1]));
        *dx0 = [part(a), part(b & !a)];
        *dx1 = [part(c & !(a | b)), part(d & !(a | b | c))];
    }
}
