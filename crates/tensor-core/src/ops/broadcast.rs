//! NumPy broadcasting: the common shape, and loops over it with as few axes as possible.

use super::elementwise::fill;
use super::operand;
use crate::{Error, Result};
use std::ops::Range;

/// The shape that all the given shapes broadcast to.
pub(super) fn shape(shapes: &[&[usize]]) -> Result<Vec<usize>> {
    let rank = shapes.iter().map(|dims| dims.len()).max().unwrap_or(0);
    let mut out = vec![1; rank];
    for dims in shapes {
        for (out, &dim) in out[rank - dims.len()..].iter_mut().zip(*dims) {
            if *out == 1 {
                *out = dim;
            } else if dim != 1 && dim != *out {
                return Err(Error::invalid(format!("shapes {shapes:?} do not broadcast")));
            }
        }
    }
    Ok(out)
}

/// Loops over a broadcast shape for `N` contiguous operands.
pub(super) struct Plan<const N: usize> {
    /// The output shape.
    pub(super) dims: Vec<usize>,
    count: usize,
    /// Length and the operands' strides of each merged axis, outermost first; never empty.
    axes: Vec<(usize, [usize; N])>,
}

impl<const N: usize> Plan<N> {
    /// Broadcasts the given shapes.
    ///
    /// # Errors
    /// When they do not broadcast, or to something too large.
    pub(super) fn new(shapes: [&[usize]; N]) -> Result<Self> {
        let dims = shape(&shapes)?;
        let count = operand::count(&dims)?;
        let mut axes: Vec<(usize, [usize; N])> = Vec::new();
        let mut next = [1; N];
        // From the innermost axis outwards; an axis joins the one inside it when all strides allow.
        for back in 1..=dims.len() {
            let length = dims[dims.len() - back];
            let mut strides = [0; N];
            for (operand, shape) in shapes.iter().enumerate() {
                let dim = shape.len().checked_sub(back).map_or(1, |axis| shape[axis]);
                strides[operand] = if dim == 1 { 0 } else { next[operand] };
                next[operand] *= dim;
            }
            if length == 1 {
                continue;
            }
            match axes.last_mut() {
                Some((inner, steps)) if (0..N).all(|k| strides[k] == *inner * steps[k]) => {
                    *inner *= length;
                }
                _ => axes.push((length, strides)),
            }
        }
        if axes.is_empty() {
            axes.push((1, [0; N]));
        }
        axes.reverse();
        Ok(Self { dims, count, axes })
    }

    /// Strides of the operands along the innermost axis: 0 or 1.
    fn steps(&self) -> [usize; N] {
        self.axes[self.axes.len() - 1].1
    }

    /// Visits the given range of the output row by row, with the operands' offsets at its start.
    fn rows(&self, range: Range<usize>, mut visit: impl FnMut(Range<usize>, [usize; N])) {
        let (outer, (inner, steps)) = match self.axes.split_last() {
            Some((last, outer)) if !range.is_empty() => (outer, *last),
            _ => return,
        };
        let mut column = range.start % inner;
        let mut index = vec![0; outer.len()];
        let mut offsets = [0; N];
        let mut row = range.start / inner;
        for (axis, (length, strides)) in outer.iter().enumerate().rev() {
            index[axis] = row % length;
            row /= length;
            for k in 0..N {
                offsets[k] += index[axis] * strides[k];
            }
        }
        let mut position = range.start;
        while position < range.end {
            let length = (inner - column).min(range.end - position);
            let mut start = offsets;
            for k in 0..N {
                start[k] += column * steps[k];
            }
            visit(position..position + length, start);
            position += length;
            column = 0;
            for (axis, (length, strides)) in outer.iter().enumerate().rev() {
                index[axis] += 1;
                for k in 0..N {
                    offsets[k] += strides[k];
                }
                if index[axis] < *length {
                    break;
                }
                index[axis] = 0;
                for k in 0..N {
                    offsets[k] -= length * strides[k];
                }
            }
        }
    }
}

/// Combines two operands element by element.
pub(super) fn zip<A, B, O>(plan: &Plan<2>, a: &[A], b: &[B], f: impl Fn(A, B) -> O + Sync) -> Vec<O>
where
    A: Copy + Sync,
    B: Copy + Sync,
    O: Copy + Default + Send,
{
    let mut out = vec![O::default(); plan.count];
    fill(&mut out, |first, chunk| {
        plan.rows(first..first + chunk.len(), |range, [i, j]| {
            let n = range.len();
            let out = &mut chunk[range.start - first..range.end - first];
            match plan.steps() {
                [1, 1] => {
                    for ((out, &a), &b) in out.iter_mut().zip(&a[i..i + n]).zip(&b[j..j + n]) {
                        *out = f(a, b);
                    }
                }
                [1, _] => {
                    let b = b[j];
                    out.iter_mut().zip(&a[i..i + n]).for_each(|(out, &a)| *out = f(a, b));
                }
                [_, 1] => {
                    let a = a[i];
                    out.iter_mut().zip(&b[j..j + n]).for_each(|(out, &b)| *out = f(a, b));
                }
                _ => out.fill(f(a[i], b[j])),
            }
        });
    });
    out
}
