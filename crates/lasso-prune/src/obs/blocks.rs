//! The diagonal blocks that removal costs follow from.

use faer::MatRef;

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

    /// Follows the update `C_i -= U_i U_i^T`, `W_i -= U_i Q`, given `u = U_i` and
    /// `e = 1/2 U_i Q Q^T - W_i Q^T` (with `W_i` before the update): then `V_i += e u^T + u e^T`.
    pub(crate) fn update(&mut self, channel: usize, u: MatRef<'_, f64>, e: MatRef<'_, f64>) {
        let (k, start) = (self.widths[channel], self.starts[channel]);
        let inverse = &mut self.inverse[start..start + k * k];
        let products = &mut self.products[start..start + k * k];
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

    /// `tr(C_i^-1 V_i)`; infinite when `C_i` has no positive pivots left, which means that the error
    /// without the channel is beyond what the numbers can express.
    pub(crate) fn cost(&self, channel: usize) -> f64 {
        let k = self.widths[channel];
        let range = self.starts[channel]..self.starts[channel] + k * k;
        let products = &self.products[range.clone()];
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
