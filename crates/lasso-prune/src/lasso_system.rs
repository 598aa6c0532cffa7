//! The LASSO over channels as a quadratic form in the channel coefficients.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::prelude::*;
use tensor_core::calibrate::{Centred, CentredRows};

use crate::linalg::{add_outer_lower, gather_columns, gather_rows, inner, mirror_lower};
use crate::problem::{CentredStatistics, Problem, Task};

/// Columns of `W^T W`, or entries of the contributions, that are formed at a time.
const PANEL: usize = 256;
const PANEL_BYTES: usize = 32 << 20;

/// `1/2 |Y - sum_i beta_i Z_i|^2 = 1/2 energy - linear . beta + 1/2 beta^T gram beta` with the
/// contributions `Z_i = X_i W_i^T` of the channels, centred, summed over the layers of a task with
/// weight `1/q` each.
///
/// Columns that no channel owns act with coefficient 1, so their contribution is taken off `Y`.
#[derive(Debug, Clone)]
pub struct LassoSystem {
    /// `A_ij = <Z_i, Z_j>`, `c x c`, symmetric.
    pub gram: Mat<f64>,
    /// `b_i = <Z_i, Y>`.
    pub linear: Vec<f64>,
    /// `|Y|^2`.
    pub energy: f64,
}

impl LassoSystem {
    /// The system of a task.
    ///
    /// `A_ij` is the sum over the columns `p` of channel `i` and `q` of channel `j` of
    /// `G_pq (W^T W)_pq`, and `b_i = sum_p <W_p, R_p>`, so no contribution is ever formed; with rows
    /// instead of moments the contributions are formed for a few outputs at a time.
    pub fn new(task: &Task) -> Self {
        let c = task.channels();
        let mut system = Self { gram: Mat::zeros(c, c), linear: vec![0.0; c], energy: 0.0 };
        for (problem, scale) in task.weighted() {
            let layout = Layout::new(problem);
            let (gram, linear) = match &*problem.statistics {
                CentredStatistics::Primal(s) => from_moments(&layout, s),
                CentredStatistics::Dual(s) => from_rows(&layout, s),
            };
            system.add(&gram, &linear, problem.energy(), scale);
        }
        system
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.linear.len()
    }

    /// Adds a layer. Its last row describes the columns nobody owns.
    fn add(&mut self, gram: &Mat<f64>, linear: &[f64], energy: f64, scale: f64) {
        let c = self.channels();
        for j in 0..c {
            for i in 0..c {
                self.gram[(i, j)] += scale * gram[(i, j)];
            }
            self.linear[j] += scale * (linear[j] - gram[(c, j)]);
        }
        self.energy += scale * (energy - 2.0 * linear[c] + gram[(c, c)]);
    }
}

/// The columns of the channels followed by the unowned ones, and their weights.
struct Layout {
    columns: Vec<usize>,
    /// Start of each channel and of the unowned columns, and the end.
    starts: Vec<usize>,
    weight: Mat<f64>,
}

impl Layout {
    fn new(problem: &Problem) -> Self {
        let channels: Vec<usize> = (0..problem.channels()).collect();
        let (mut columns, mut starts) = problem.columns_in_order(&channels);
        columns.extend_from_slice(&problem.fixed);
        starts.push(columns.len());
        let weight = gather_rows((*problem.weight).as_ref(), &columns);
        Self { columns, starts, weight }
    }

    fn parts(&self) -> usize {
        self.starts.len() - 1
    }

    fn range(&self, part: usize) -> std::ops::Range<usize> {
        self.starts[part]..self.starts[part + 1]
    }
}

fn from_moments(layout: &Layout, moments: &Centred) -> (Mat<f64>, Vec<f64>) {
    let Layout { columns, starts, weight } = layout;
    let parts = layout.parts();
    let mut gram = Mat::zeros(parts, parts);
    let mut rest = gram.as_mut();
    let mut panels = Vec::new();
    let mut first = 0;
    while first < parts {
        let mut last = first + 1;
        while last < parts && starts[last + 1] - starts[first] <= PANEL {
            last += 1;
        }
        let (panel, tail) = rest.split_at_col_mut(last - first);
        panels.push((first, panel));
        rest = tail;
        first = last;
    }
    panels.into_par_iter().for_each(|(first, gram)| {
        // W^T W for the columns of these parts, on and below their diagonal.
        let (top, end) = (starts[first], starts[first + gram.ncols()]);
        let below = weight.subrows(top, columns.len() - top);
        let panel = weight.subrows(top, end - top);
        let mut products = Mat::zeros(below.nrows(), panel.nrows());
        matmul(products.as_mut(), Accum::Replace, below, panel.transpose(), 1.0, Par::Seq);
        let mut row = vec![0.0; columns.len() - top];
        for (j, mut sums) in gram.col_iter_mut().enumerate() {
            for q in layout.range(first + j) {
                let moment = moments.gram.col_as_slice(columns[q]);
                for (value, &column) in row.iter_mut().zip(&columns[top..]) {
                    *value = moment[column];
                }
                let product = products.col_as_slice(q - top);
                for i in first + j..parts {
                    let range = starts[i] - top..starts[i + 1] - top;
                    sums[i] += dot(&row[range.clone()], &product[range]);
                }
            }
        }
    });
    mirror_lower(&mut gram);

    let outputs = weight.ncols();
    let linear = (0..parts)
        .map(|i| {
            let entries = layout.range(i).flat_map(|q| (0..outputs).map(move |o| (q, o)));
            entries.map(|(q, o)| weight[(q, o)] * moments.cross[(columns[q], o)]).sum()
        })
        .collect();
    (gram, linear)
}

fn from_rows(layout: &Layout, rows: &CentredRows) -> (Mat<f64>, Vec<f64>) {
    let parts = layout.parts();
    let (samples, all) = (rows.x.nrows(), rows.y.ncols());
    let width = (PANEL_BYTES / 8 / (samples * parts).max(1)).clamp(1, all);
    let mut gram = Mat::zeros(parts, parts);
    let mut linear = vec![0.0; parts];
    let inputs: Vec<Mat<f64>> = (0..parts)
        .map(|i| gather_columns(rows.x.as_ref(), &layout.columns[layout.range(i)]))
        .collect();
    for first in (0..all).step_by(width) {
        let outputs = width.min(all - first);
        // Column i holds Z_i for these outputs, sample by sample.
        let mut contributions = Mat::<f64>::zeros(samples * outputs, parts);
        let response = rows.y.subcols(first, outputs);
        for (i, input) in inputs.iter().enumerate() {
            let range = layout.range(i);
            let weight = layout.weight.submatrix(range.start, first, range.len(), outputs);
            let mut z = Mat::zeros(samples, outputs);
            matmul(z.as_mut(), Accum::Replace, input, weight, 1.0, Par::Seq);
            linear[i] += inner(z.as_ref(), response);
            let column = contributions.col_as_slice_mut(i);
            for o in 0..outputs {
                column[o * samples..(o + 1) * samples].copy_from_slice(z.col_as_slice(o));
            }
        }
        add_outer_lower(gram.as_mut(), contributions.transpose(), 1.0);
    }
    mirror_lower(&mut gram);
    (gram, linear)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
