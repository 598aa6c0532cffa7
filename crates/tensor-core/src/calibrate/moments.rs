//! Second moments of a layer's inputs and responses.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use std::cell::RefCell;

use super::checks::{check_block, check_dimensions, check_same, no_rows};
use super::panels::{add_gram_panel, add_panel, mirror_lower, panels_of};
use crate::kernels::{ColumnPanels, widest};
use crate::{Error, Result};

/// Rows converted to `f64` at a time: large enough for the matrix product to run at its peak, small
/// enough that the buffer stays a few megabytes.
const CHUNK_ROWS: usize = 512;

/// Rows whose products are summed in one go when [`Moments::blocked`]: the more, the less often the
/// whole matrix passes through memory, and the less of them the caches hold.
const BLOCKED_ROWS: usize = 1024;

/// Width of the column panels that threads work on. It does not depend on the thread count, so the
/// sums are the same for any number of threads.
const PANEL: usize = 192;

thread_local! {
    /// Memory for the panels of a block of rows.
    static PANELS: RefCell<[ColumnPanels; 2]> = RefCell::default();
}

/// Second moments of `S` rows `x` (length `p`) and `y` (length `n`).
///
/// ```
/// use tensor_core::calibrate::Moments;
///
/// let mut moments = Moments::new(2, 1)?;
/// moments.push(&[1.0, 0.0, 3.0, 2.0], &[5.0, 7.0])?; // two rows
/// let centred = moments.centred()?;
/// assert_eq!(centred.mean_x, [2.0, 1.0]);
/// assert_eq!(centred.gram[(0, 1)], 2.0);
/// assert_eq!(centred.energy, 2.0);
/// # Ok::<(), tensor_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Moments {
    pub(super) rows: usize,
    /// What all sums are of differences from: zero, or when blocked the means of the first rows.
    pub(super) shift_x: Vec<f32>,
    pub(super) shift_y: Vec<f32>,
    pub(super) sum_x: Vec<f64>,
    pub(super) sum_y: Vec<f64>,
    pub(super) sum_y2: Vec<f64>,
    /// `X^T X`; only the lower triangle is kept up to date.
    pub(super) gram: Mat<f64>,
    /// `X^T Y`, `p x n`.
    pub(super) cross: Mat<f64>,
    pub(super) is_blocked: bool,
}

/// Differences below this have products that vanish in 32-bit floats.
const SMALLEST: f32 = 1e-12;

/// What rounding moves the eigenvalues of [blocked](Moments::blocked) moments by, relative to the
/// Frobenius norm: a little above what is seen of strongly correlated columns.
const ROUNDING: f64 = 1e-8;

/// Moments about the mean: what least squares with an intercept needs.
#[derive(Debug, Clone)]
pub struct Centred {
    /// Number of rows `S`.
    pub rows: usize,
    /// Mean input, length `p`.
    pub mean_x: Vec<f64>,
    /// Mean response, length `n`.
    pub mean_y: Vec<f64>,
    /// `sum (x - mean x)(x - mean x)^T`, `p x p`, both triangles filled.
    pub gram: Mat<f64>,
    /// `sum (x - mean x)(y - mean y)^T`, `p x n`.
    pub cross: Mat<f64>,
    /// `sum |y - mean y|^2`, the energy that a reconstruction has to explain.
    pub energy: f64,
    /// Eigenvalues of `gram` below this are rounding errors; 0 where sums are exact.
    pub rounding: f64,
}

impl Moments {
    /// Empty statistics of `inputs` input columns and `outputs` responses.
    ///
    /// # Errors
    /// When either is zero, or the matrices would not fit the address space.
    pub fn new(inputs: usize, outputs: usize) -> Result<Self> {
        check_dimensions(inputs, outputs)?;
        Self::bytes(inputs, outputs)
            .filter(|&bytes| bytes < isize::MAX as u128)
            .ok_or_else(|| Error::invalid(format!("{inputs} input columns are too many")))?;
        Ok(Self {
            rows: 0,
            shift_x: vec![0.0; inputs],
            shift_y: vec![0.0; outputs],
            sum_x: vec![0.0; inputs],
            sum_y: vec![0.0; outputs],
            sum_y2: vec![0.0; outputs],
            gram: Mat::zeros(inputs, inputs),
            cross: Mat::zeros(inputs, outputs),
            is_blocked: false,
        })
    }

    /// Takes products of differences from the mean of the first rows, in `f32`, and sums them so over
    /// a few dozen rows, in `f64` above that, which takes a fraction of the time and leaves errors of
    /// some 1e-8 of the variances, far below any useful ridge. Differences may lose the bits behind
    /// the seventeenth (see [`ColumnPanels`]).
    #[must_use]
    pub fn blocked(self) -> Self {
        Self { is_blocked: true, ..self }
    }

    /// Bytes that the matrices of these dimensions take.
    pub(super) fn bytes(inputs: usize, outputs: usize) -> Option<u128> {
        let (p, n) = (inputs as u128, outputs as u128);
        p.checked_mul(p.checked_add(n)?)?.checked_mul(8)
    }

    /// Number of rows seen.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of input columns `p`.
    pub fn inputs(&self) -> usize {
        self.sum_x.len()
    }

    /// Number of responses `n`.
    pub fn outputs(&self) -> usize {
        self.sum_y.len()
    }

    /// Adds a block of rows: `x` is `s x p` and `y` is `s x n`, both row-major.
    ///
    /// Products and sums are in `f64` unless [`blocked`](Self::blocked): the least-squares systems
    /// built on `G` have condition numbers up to 1e7, where plain `f32` sums would decide the solution.
    ///
    /// # Errors
    /// When the lengths do not describe the same number of rows, or a number is NaN or infinite;
    /// the statistics are then unchanged.
    pub fn push(&mut self, x: &[f32], y: &[f32]) -> Result<()> {
        let (p, n) = (self.inputs(), self.outputs());
        check_block(x, y, p, n)?;
        if self.rows == 0 {
            self.is_blocked &= [x, y].iter().all(|v| v.iter().any(|v| v.abs() > SMALLEST));
        }
        if self.is_blocked {
            self.push_blocked(x, y);
            return Ok(());
        }
        let mut x64 = Vec::new();
        let mut y64 = Vec::new();
        for (x, y) in x.chunks(CHUNK_ROWS * p).zip(y.chunks(CHUNK_ROWS * n)) {
            x64.clear();
            x64.extend(x.iter().map(|&v| f64::from(v)));
            y64.clear();
            y64.extend(y.iter().map(|&v| f64::from(v)));
            self.push_chunk(&x64, &y64);
        }
        Ok(())
    }

    fn push_blocked(&mut self, x: &[f32], y: &[f32]) {
        let (p, n) = (self.inputs(), self.outputs());
        if self.rows == 0 && !y.is_empty() {
            self.shift_x = means(x, p);
            self.shift_y = means(y, n);
        }
        self.rows += y.len() / n;
        let Self { shift_x, shift_y, sum_x, sum_y, sum_y2, .. } = self;
        widest(|| {
            for row in y.chunks_exact(n) {
                for ((sum, &v), shift) in sum_y2.iter_mut().zip(row).zip(&*shift_y) {
                    *sum += f64::from(v - shift).powi(2);
                }
            }
        });
        // Taken, not borrowed: while it waits below, this thread may push to other moments.
        let mut panels = PANELS.take();
        for (x, y) in x.chunks(BLOCKED_ROWS * p).zip(y.chunks(BLOCKED_ROWS * n)) {
            panels[0].fill(x, shift_x, sum_x);
            panels[1].fill(y, shift_y, sum_y);
            let gram = panels_of(self.gram.as_mut(), ColumnPanels::WIDTH).into_iter();
            let cross = panels_of(self.cross.as_mut(), ColumnPanels::WIDTH).into_iter();
            let gram = gram.enumerate().map(|(j, (_, panel))| (0, j, panel));
            let cross = cross.enumerate().map(|(j, (_, panel))| (1, j, panel));
            let tasks: Vec<_> = gram.chain(cross).collect();
            tasks.into_par_iter().for_each(|(factor, j, panel)| {
                // The Gram matrix is symmetric.
                let first = if factor == 0 { j } else { 0 };
                add_panel(panel, &panels[0], (&panels[factor], j), first);
            });
        }
        PANELS.set(panels);
    }

    fn push_chunk(&mut self, x: &[f64], y: &[f64]) {
        let (p, n) = (self.inputs(), self.outputs());
        let rows = x.len() / p;
        for row in x.chunks_exact(p) {
            for (sum, v) in self.sum_x.iter_mut().zip(row) {
                *sum += v;
            }
        }
        for row in y.chunks_exact(n) {
            for ((sum, sum2), v) in self.sum_y.iter_mut().zip(&mut self.sum_y2).zip(row) {
                *sum += v;
                *sum2 += v * v;
            }
        }
        self.rows += rows;

        let x = MatRef::from_row_major_slice(x, rows, p);
        let y = MatRef::from_row_major_slice(y, rows, n);
        let gram = panels_of(self.gram.as_mut(), PANEL);
        let cross = panels_of(self.cross.as_mut(), PANEL);
        rayon::join(
            || gram.into_par_iter().for_each(|(start, panel)| add_gram_panel(panel, x, start)),
            || {
                cross.into_par_iter().for_each(|(start, panel)| {
                    let y = y.subcols(start, panel.ncols());
                    matmul(panel, Accum::Add, x.transpose(), y, 1.0, Par::Seq);
                });
            },
        );
    }

    /// Adds the rows that `other` has seen.
    ///
    /// # Errors
    /// When the dimensions differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        check_same((self.inputs(), self.outputs()), (other.inputs(), other.outputs()))?;
        if other.rows == 0 {
            return Ok(());
        }
        match self.rows {
            0 => *self = other.clone(),
            _ => self.add(other),
        }
        Ok(())
    }

    /// As [`merge`](Self::merge), of the same dimensions, about the own shifts.
    pub(super) fn add(&mut self, other: &Self) {
        // What the others' shifts are, seen from mine.
        let from = |mine: &[f32], theirs: &[f32]| -> Vec<f64> {
            theirs.iter().zip(mine).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
        };
        let (s, t) = (from(&self.shift_x, &other.shift_x), from(&self.shift_y, &other.shift_y));
        let rows = other.rows as f64;
        add_moments(&mut self.gram, &other.gram, (&s, &other.sum_x), (&s, &other.sum_x), rows);
        add_moments(&mut self.cross, &other.cross, (&s, &other.sum_x), (&t, &other.sum_y), rows);
        for ((mine, sum), shift) in self.sum_x.iter_mut().zip(&other.sum_x).zip(&s) {
            *mine += sum + rows * shift;
        }
        for ((mine, sum), shift) in self.sum_y.iter_mut().zip(&other.sum_y).zip(&t) {
            *mine += sum + rows * shift;
        }
        let squares = self.sum_y2.iter_mut().zip(&other.sum_y2);
        for ((mine, square), (sum, shift)) in squares.zip(other.sum_y.iter().zip(&t)) {
            *mine += square + shift * (2.0 * sum + rows * shift);
        }
        self.rows += other.rows;
        self.is_blocked |= other.is_blocked;
    }

    /// Moments about the mean. Consumes the statistics, because a copy of `G` can be large.
    ///
    /// # Errors
    /// When no row was pushed.
    pub fn centred(self) -> Result<Centred> {
        if self.rows == 0 {
            return Err(no_rows());
        }
        let Self { rows, sum_x, sum_y, sum_y2, mut gram, mut cross, is_blocked, .. } = self;
        let count = rows as f64;
        // Means of the differences from the shifts.
        let rest_x: Vec<f64> = sum_x.iter().map(|s| s / count).collect();
        let p = rest_x.len();
        for j in 0..p {
            let column = gram.col_as_slice_mut(j);
            for (g, m) in column.iter_mut().zip(&rest_x).skip(j) {
                *g -= m * sum_x[j];
            }
            // Rounding can leave a constant input with a variance just below zero.
            column[j] = column[j].max(0.0);
        }
        mirror_lower(&mut gram);
        for (j, &sum) in sum_y.iter().enumerate() {
            for (r, m) in cross.col_as_slice_mut(j).iter_mut().zip(&rest_x) {
                *r -= m * sum;
            }
        }
        let energy =
            sum_y2.iter().zip(&sum_y).map(|(s2, s)| (s2 - s * s / count).max(0.0)).sum::<f64>();
        let mean = |(s, shift): (&f64, &f32)| f64::from(*shift) + s / count;
        let mean_x = sum_x.iter().zip(&self.shift_x).map(mean).collect();
        let mean_y = sum_y.iter().zip(&self.shift_y).map(mean).collect();
        let rounding = if is_blocked { ROUNDING * gram.norm_l2() } else { 0.0 };
        Ok(Centred { rows, mean_x, mean_y, gram, cross, energy, rounding })
    }
}

/// The mean row.
fn means(values: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; columns];
    widest(|| {
        for row in values.chunks_exact(columns) {
            sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
        }
    });
    let rows = (values.len() / columns) as f64;
    sums.into_iter().map(|sum| (sum / rows) as f32).collect()
}

/// Adds `moments` of `rows` rows of which `(shift, sums)` are the differences between the origins
/// and the sums about their own: `M + s T^T + S t^T + rows s t^T`.
fn add_moments(
    to: &mut Mat<f64>,
    moments: &Mat<f64>,
    (s, sums): (&[f64], &[f64]),
    (t, other_sums): (&[f64], &[f64]),
    rows: f64,
) {
    panels_of(to.as_mut(), PANEL).into_par_iter().for_each(|(first, panel)| {
        for (j, column) in panel.col_iter_mut().enumerate() {
            let j = first + j;
            let (shift, sum) = (t[j], other_sums[j]);
            let terms = moments.col_as_slice(j).iter().zip(s.iter().zip(sums));
            for (entry, (moment, (s, sums))) in column.iter_mut().zip(terms) {
                *entry += moment + (s * (sum + rows * shift) + sums * shift);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Small integers, so that every sum is exact whatever its order.
    fn integers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11 + i * i % 13) % 17) as f32 - 5.0).collect()
    }

    /// Far from zero and with more columns than a panel, so that products of the values themselves
    /// would lose the digits of the variances.
    #[test]
    fn blocked_moments_keep_the_variances_of_large_values() {
        let (rows, p, n) = (2 * BLOCKED_ROWS + 9, ColumnPanels::WIDTH + 5, 3);
        let far = |values: Vec<f32>| values.into_iter().map(|v| 300.0 + 0.37 * v).collect();
        let (x, y): (Vec<f32>, Vec<f32>) = (far(integers(rows * p, 1)), far(integers(rows * n, 2)));
        let centred = |moments: Moments| {
            let mut moments = moments;
            // In two parts, as batches come.
            let half = rows / 2;
            moments.push(&x[..half * p], &y[..half * n]).unwrap();
            moments.push(&x[half * p..], &y[half * n..]).unwrap();
            moments.centred().unwrap()
        };
        let exact = centred(Moments::new(p, n).unwrap());
        let blocked = centred(Moments::new(p, n).unwrap().blocked());
        let scale = (0..p).map(|i| exact.gram[(i, i)]).fold(0.0, f64::max);
        let pairs = [(&exact.gram, &blocked.gram), (&exact.cross, &blocked.cross)];
        for (what, (exact, blocked)) in ["G", "R"].into_iter().zip(pairs) {
            let error = (exact - blocked).norm_max();
            assert!(error <= 1e-6 * scale, "{what} is off by {error} of {scale}");
        }
        assert_eq!(exact.rounding, 0.0);
        assert!((exact.gram - blocked.gram).norm_l2() <= 10.0 * blocked.rounding);
    }

    /// Products of such numbers vanish in `f32`.
    #[test]
    fn tiny_values_are_summed_exactly() {
        let (rows, p, n) = (40, 3, 2);
        let tiny =
            |values: Vec<f32>| -> Vec<f32> { values.into_iter().map(|v| 1e-20 * v).collect() };
        let (x, y) = (tiny(integers(rows * p, 1)), integers(rows * n, 2));
        let centred = |mut moments: Moments| {
            moments.push(&x, &y).unwrap();
            moments.centred().unwrap()
        };
        let exact = centred(Moments::new(p, n).unwrap());
        let blocked = centred(Moments::new(p, n).unwrap().blocked());
        assert!(exact.gram[(0, 0)] > 0.0);
        assert_eq!((exact.gram, exact.cross), (blocked.gram, blocked.cross));
    }

    #[test]
    fn matches_plain_loops() {
        // More columns than a panel and more rows than a chunk, neither a multiple.
        let (rows, p, n) = (CHUNK_ROWS + 7, PANEL + 5, 3);
        let (x, y) = (integers(rows * p, 1), integers(rows * n, 2));
        let mut moments = Moments::new(p, n).unwrap();
        moments.push(&x, &y).unwrap();
        let at = |i: usize, j: usize| -> f64 {
            (0..rows).map(|r| f64::from(x[r * p + i]) * f64::from(x[r * p + j])).sum()
        };
        for (i, j) in [(0, 0), (3, 1), (PANEL, PANEL - 1), (p - 1, 0), (p - 1, p - 1)] {
            assert_eq!(moments.gram[(i, j)], at(i, j), "G[{i}, {j}]");
        }
        let cross: f64 = (0..rows).map(|r| f64::from(x[r * p + 4]) * f64::from(y[r * n + 2])).sum();
        assert_eq!(moments.cross[(4, 2)], cross);

        let centred = moments.centred().unwrap();
        let mean = |c: usize| (0..rows).map(|r| f64::from(x[r * p + c])).sum::<f64>() / rows as f64;
        let expected: f64 = (0..rows)
            .map(|r| (f64::from(x[r * p + 1]) - mean(1)) * (f64::from(x[r * p + 3]) - mean(3)))
            .sum();
        for value in [centred.gram[(1, 3)], centred.gram[(3, 1)]] {
            assert!((value - expected).abs() < 1e-9 * expected.abs().max(1.0));
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (rows, p, n) = (700, PANEL * 2 + 9, 5);
        let x: Vec<f32> = (0..rows * p).map(|i| (i as f32 * 0.37).sin()).collect();
        let y: Vec<f32> = (0..rows * n).map(|i| (i as f32 * 0.11).cos()).collect();
        let run = |threads, is_blocked| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut moments = Moments { is_blocked, ..Moments::new(p, n).unwrap() };
                moments.push(&x, &y).unwrap();
                moments.centred().unwrap()
            })
        };
        for is_blocked in [false, true] {
            let (one, three) = (run(1, is_blocked), run(3, is_blocked));
            assert_eq!(one.gram, three.gram);
            assert_eq!(one.cross, three.cross);
        }
    }

    /// Small integers in both parts, the second far from the first: each has shifts of its own.
    #[test]
    fn parts_with_other_means_merge_to_the_moments_of_all_rows() {
        let (rows, p, n) = (64, 5, 3);
        let (x, y) = (integers(2 * rows * p, 1), integers(2 * rows * n, 2));
        let far = |values: &[f32], by: f32| -> Vec<f32> {
            let (near, far) = values.split_at(values.len() / 2);
            near.iter().copied().chain(far.iter().map(|v| v + by)).collect()
        };
        let (x, y) = (far(&x, 40.0), far(&y, -25.0));
        let mut exact = Moments::new(p, n).unwrap();
        exact.push(&x, &y).unwrap();
        let part = |from: usize| {
            let mut part = Moments::new(p, n).unwrap().blocked();
            part.push(&x[from * p..(from + rows) * p], &y[from * n..(from + rows) * n]).unwrap();
            part
        };
        let (mut merged, second) = (part(0), part(rows));
        assert_ne!(merged.shift_x, second.shift_x);
        merged.merge(&second).unwrap();
        let (exact, merged) = (exact.centred().unwrap(), merged.centred().unwrap());
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * a.abs().max(1.0);
        assert!(close(exact.energy, merged.energy), "{} {}", exact.energy, merged.energy);
        for i in 0..p {
            assert!(close(exact.mean_x[i], merged.mean_x[i]));
            assert!((0..p).all(|j| close(exact.gram[(i, j)], merged.gram[(i, j)])));
            assert!((0..n).all(|o| close(exact.cross[(i, o)], merged.cross[(i, o)])));
        }
        assert!((0..n).all(|o| close(exact.mean_y[o], merged.mean_y[o])));
    }

    #[test]
    fn merging_equals_one_pass() {
        let (p, n) = (4, 2);
        let (x, y) = (integers(30 * p, 3), integers(30 * n, 4));
        let mut whole = Moments::new(p, n).unwrap();
        whole.push(&x, &y).unwrap();
        let mut first = Moments::new(p, n).unwrap();
        first.push(&x[..11 * p], &y[..11 * n]).unwrap();
        let mut second = Moments::new(p, n).unwrap();
        second.push(&x[11 * p..], &y[11 * n..]).unwrap();
        first.merge(&second).unwrap();
        assert_eq!(first.rows(), 30);
        assert_eq!(first.gram, whole.gram);
        assert_eq!(first.cross, whole.cross);
        assert_eq!(first.sum_y2, whole.sum_y2);
    }

    #[test]
    fn refuses_bad_blocks_and_stays_as_it_was() {
        let mut moments = Moments::new(2, 1).unwrap();
        assert!(moments.push(&[1.0, 2.0, 3.0], &[1.0]).is_err());
        assert!(moments.push(&[1.0, 2.0], &[1.0, 2.0]).is_err());
        let error = moments.push(&[1.0, f32::NAN], &[1.0]).unwrap_err();
        assert!(error.message().contains("input column 1"), "{error}");
        assert!(moments.push(&[1.0, 2.0], &[f32::INFINITY]).is_err());
        let error = moments.push(&[1.0, -2e15], &[1.0]).unwrap_err();
        assert!(error.hint_text().is_some_and(|hint| hint.contains("1e15")), "{error}");
        assert_eq!(moments.rows(), 0);
        assert!(moments.merge(&Moments::new(3, 1).unwrap()).is_err());
        assert!(moments.centred().is_err());
        assert!(Moments::new(0, 1).is_err());
        assert!(Moments::new(usize::MAX, 1).is_err());
    }
}
