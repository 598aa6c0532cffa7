//! A convolution as a vertical and a horizontal one.

use faer::Mat;
use tensor_core::{Error, Result};

/// The factors of a weight `W (n, c, kh, kw)` by the singular value decomposition of the matrix with rows
/// `(c, kh)` and columns `(n, kw)`: the best approximation of the weight by
/// `sum_r H[o, r, j] V[r, c, i]`.
#[derive(Debug, Clone)]
pub struct Spatial {
    sizes: [usize; 4],
    /// `V`, one column per rank, rows `(c, kh)`; columns are orthogonal.
    pub vertical: Mat<f64>,
    /// `H`, one column per rank, rows `(n, kw)`; columns have the norms of those of `vertical`.
    pub horizontal: Mat<f64>,
}

impl Spatial {
    /// Largest rank that says more than a smaller one.
    pub fn full_rank([n, c, kh, kw]: [usize; 4]) -> usize {
        (c * kh).min(n * kw)
    }

    /// Factors of every rank, the most important first.
    ///
    /// # Errors
    /// When the weight does not have these sizes, or its decomposition fails.
    pub fn new(weight: &[f32], sizes: [usize; 4]) -> Result<Self> {
        let [n, c, kh, kw] = sizes;
        if weight.len() != n * c * kh * kw || weight.is_empty() {
            return Err(Error::invalid(format!(
                "a weight of {} elements is not {n} x {c} x {kh} x {kw}",
                weight.len()
            )));
        }
        let at = |o: usize, ch: usize, i: usize, j: usize| ((o * c + ch) * kh + i) * kw + j;
        let matrix = Mat::from_fn(c * kh, n * kw, |row, column| {
            f64::from(weight[at(column / kw, row / kh, row % kh, column % kw)])
        });
        let svd = matrix.thin_svd().map_err(|_| failed())?;
        let roots: Vec<f64> =
            svd.S().column_vector().iter().map(|s: &f64| s.max(0.0).sqrt()).collect();
        let scaled = |a: faer::MatRef<'_, f64>| {
            Mat::from_fn(a.nrows(), roots.len(), |i, r| a[(i, r)] * roots[r])
        };
        Ok(Self { sizes, vertical: scaled(svd.U()), horizontal: scaled(svd.V()) })
    }

    /// The first `rank` factors.
    #[must_use]
    pub fn truncated(&self, rank: usize) -> Self {
        let rank = rank.min(self.vertical.ncols());
        let first = |a: &Mat<f64>| super::columns(a, 0..rank);
        Self {
            sizes: self.sizes,
            vertical: first(&self.vertical),
            horizontal: first(&self.horizontal),
        }
    }

    /// Number of factors.
    pub fn rank(&self) -> usize {
        self.vertical.ncols()
    }

    /// From the columns `(c, kh, kw)` of a patch to the columns `(r, kw)` that the horizontal
    /// convolution reads of what the vertical one gives: `x' = x T`. Both ways of a padded tap give 0.
    pub fn transform(&self) -> Mat<f64> {
        let [_, _, kh, kw] = self.sizes;
        Mat::from_fn(self.vertical.nrows() * kw, self.rank() * kw, |from, to| {
            let (row, j) = (from / kw, from % kw);
            let (ch, i) = (row / kh, row % kh);
            if j == to % kw { self.vertical[(ch * kh + i, to / kw)] } else { 0.0 }
        })
    }

    /// The weight of the vertical convolution, `(r, c, kh, 1)` row-major.
    pub fn vertical_weight(&self) -> Vec<f32> {
        let rows = self.vertical.nrows();
        (0..self.rank() * rows).map(|i| self.vertical[(i % rows, i / rows)] as f32).collect()
    }

    /// The weight of the horizontal convolution, `(n, r, 1, kw)` row-major.
    pub fn horizontal_weight(&self) -> Vec<f32> {
        let [n, _, _, kw] = self.sizes;
        let rank = self.rank();
        let at = |i: usize| {
            let (o, rest) = (i / (rank * kw), i % (rank * kw));
            self.horizontal[(o * kw + rest % kw, rest / kw)] as f32
        };
        (0..n * rank * kw).map(at).collect()
    }
}

pub(super) fn failed() -> Error {
    Error::invalid("a matrix cannot be decomposed: it holds what is not finite")
}
