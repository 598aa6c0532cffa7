//! The diagonal blocks that removal costs follow from.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::linalg::trace_of_quotient;

/// Blocks from this width on are worth calls of matrix routines.
const WIDE: usize = 16;

/// Operations from which on a task is worth handing to another thread.
const TASK: usize = 100_000;

/// For every channel `i` two `k x k` matrices: `C_i`, the block of the inverse Hessian (up to a
/// factor that both share), and `V_i = W_i W_i^T`, the products of its weights over the outputs.
/// Removing the channel costs `tr(C_i^-1 V_i)`.
pub(crate) struct Blocks {
    widths: Vec<usize>,
    /// Where a channel's `k * k` entries start, column by column.
    starts: Vec<usize>,
    inverse: Vec<f64>,
    products: Vec<f64>,
}

impl Blocks {
    pub(crate) fn new(widths: Vec<usize>) -> Self {
        let mut starts = Vec::with_capacity(widths.len());
        let mut total = 0;
        for width in &widths {
            starts.push(total);
            total += width * width;
        }
        Self { widths, starts, inverse: vec![0.0; total], products: vec![0.0; total] }
    }

    pub(crate) fn width(&self, channel: usize) -> usize {
        self.widths[channel]
    }

    /// Sets both matrices of a channel; the lower triangles are read.
    pub(crate) fn set(
        &mut self,
        channel: usize,
        inverse: MatRef<'_, f64>,
        products: MatRef<'_, f64>,
    ) {
        let (k, start) = (self.widths[channel], self.starts[channel]);
        for j in 0..k {
            for i in j..k {
                for at in [start + j * k + i, start + i * k + j] {
                    self.inverse[at] = inverse[(i, j)];
                    self.products[at] = products[(i, j)];
                }
            }
        }
    }

    /// Follows the update `C_i -= U_i U_i^T`, `W_i -= U_i Q` of the `kept` channels, given `u = U`
    /// and `e = 1/2 U Q Q^T - W Q^T` (with `W` before the update), where the rows of channel `i`
    /// start at `offsets[i]`: then `V_i += e_i u_i^T + u_i e_i^T`.
    pub(crate) fn update(
        &mut self,
        kept: &[usize],
        offsets: &[usize],
        u: MatRef<'_, f64>,
        e: MatRef<'_, f64>,
    ) {
        let mut is_kept = vec![false; self.widths.len()];
        kept.iter().for_each(|&i| is_kept[i] = true);
        let (mut inverse, mut products) = (&mut *self.inverse, &mut *self.products);
        let mut tasks = Vec::with_capacity(kept.len());
        for (i, &k) in self.widths.iter().enumerate() {
            let (c, v);
            (c, inverse) = inverse.split_at_mut(k * k);
            (v, products) = products.split_at_mut(k * k);
            if is_kept[i] {
                tasks.push((offsets[i], k, c, v));
            }
        }
        let widest = self.widths.iter().copied().max().unwrap_or(0);
        let least = TASK / (3 * widest * widest * u.ncols()).max(1);
        tasks.into_par_iter().with_min_len(least.max(1)).for_each(|(at, k, c, v)| {
            update_block(k, c, v, u.subrows(at, k), e.subrows(at, k));
        });
    }

    /// [`cost`](Self::cost) of each of `kept`, in their order.
    pub(crate) fn costs(&self, kept: &[usize]) -> Vec<f64> {
        let widest = self.widths.iter().copied().max().unwrap_or(0);
        let least = TASK / widest.pow(3).max(1);
        kept.par_iter().with_min_len(least.max(1)).map(|&i| self.cost(i)).collect()
    }

    /// `tr(C_i^-1 V_i)`; infinite when `C_i` has no positive pivots left, which means that the error
    /// without the channel is beyond what the numbers can express.
    pub(crate) fn cost(&self, channel: usize) -> f64 {
        let k = self.widths[channel];
        let range = self.starts[channel]..self.starts[channel] + k * k;
        let products = &self.products[range.clone()];
        if k >= WIDE {
            let inverse = MatRef::from_column_major_slice(&self.inverse[range], k, k);
            let products = MatRef::from_column_major_slice(products, k, k);
            return trace_of_quotient(inverse, products).unwrap_or(f64::INFINITY);
        }
        let Some(root) = inverse_root(&self.inverse[range], k) else { return f64::INFINITY };
        // tr(L^-1 V L^-T), row by row of L^-1.
        let mut cost = 0.0;
        for r in 0..k {
            let row = &root[r * k..=r * k + r];
            for (j, y) in row.iter().enumerate() {
                let column = &products[j * k..=j * k + r];
                cost += y * row.iter().zip(column).map(|(x, v)| x * v).sum::<f64>();
            }
        }
        cost
    }
}

/// The update of one channel's `k x k` matrices.
fn update_block(
    k: usize,
    inverse: &mut [f64],
    products: &mut [f64],
    u: MatRef<'_, f64>,
    e: MatRef<'_, f64>,
) {
    if k >= WIDE {
        let inverse = MatMut::from_column_major_slice_mut(inverse, k, k);
        matmul(inverse, Accum::Add, u, u.transpose(), -1.0, Par::Seq);
        for (a, b) in [(e, u), (u, e)] {
            let products = MatMut::from_column_major_slice_mut(products, k, k);
            matmul(products, Accum::Add, a, b.transpose(), 1.0, Par::Seq);
        }
        return;
    }
    for (u, e) in u.col_iter().zip(e.col_iter()) {
        for j in 0..k {
            let (uj, ej) = (u[j], e[j]);
            let (inverse, products) = (&mut inverse[j * k..], &mut products[j * k..]);
            for (i, (u, e)) in u.iter().zip(e.iter()).enumerate() {
                inverse[i] -= u * uj;
                products[i] += e * uj + u * ej;
            }
        }
    }
}

/// Row-major `L^-1` with `L L^T = a`, for `k x k` symmetric `a`.
fn inverse_root(a: &[f64], k: usize) -> Option<Vec<f64>> {
    let mut lower = vec![0.0; k * k];
    for i in 0..k {
        for j in 0..=i {
            let known: f64 = (0..j).map(|t| lower[i * k + t] * lower[j * k + t]).sum();
            let rest = a[j * k + i] - known;
            if i == j {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                lower[i * k + i] = rest.sqrt();
            } else {
                lower[i * k + j] = rest / lower[j * k + j];
            }
        }
    }
    let mut inverse = vec![0.0; k * k];
    for i in 0..k {
        let pivot = lower[i * k + i];
        inverse[i * k + i] = 1.0 / pivot;
        for j in 0..i {
            let sum: f64 = (j..i).map(|t| lower[i * k + t] * inverse[t * k + j]).sum();
            inverse[i * k + j] = -sum / pivot;
        }
    }
    Some(inverse)
}
