//! Weights as streams of what is not zero.

use super::super::geometry::ConvGeometry;
use super::sweep::WIDTH;
use std::ops::Range;

/// Rows of the weight that share a stream in [`SparseForm::Quads`].
pub(super) const QUAD: usize = 4;

/// Most terms of one part of the depth: so many rows of a panel stay in the second cache level
/// beside the sums.
const MAX_STEP: usize = 1024;

/// Most terms of one part where most of a panel in the first cache level pays: streams are then so
/// long that putting sums aside between parts costs little.
const NEAR_STEP: usize = 160;

/// Share of weights above which streams are that long.
const NEAR_DENSITY: f64 = 0.15;

/// What one entry of a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SparseForm {
    /// One weight: for zeros without a pattern.
    Single,
    /// One term of four neighbouring outputs, counted from the first: for blocks of 4 outputs and
    /// their multiples. A row of the panel is read once for all four.
    Quads,
}

impl SparseForm {
    /// Outputs that share a stream.
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Quads => QUAD,
        }
    }
}

/// A constant weight `outputs x depth` without its zeros.
#[derive(Debug)]
pub struct SparseWeight {
    form: SparseForm,
    rows: usize,
    depth: usize,
    step: usize,
    /// End in `terms` of the stream of each block of outputs, part by part of the depth.
    ends: Vec<usize>,
    /// Where each entry's term begins in the panel of its part.
    terms: Vec<u32>,
    /// The weights of each entry.
    values: Vec<f32>,
}

/// The weights of one block of outputs and one part of the depth.
pub(super) struct Stream<'a> {
    pub(super) terms: &'a [u32],
    pub(super) values: &'a [f32],
}

impl SparseWeight {
    /// Takes apart a weight `outputs x depth`, where `depth` counts input channels times kernel
    /// positions.
    ///
    /// # Panics
    /// When `values` does not hold `outputs * depth` elements.
    pub fn new(values: &[f32], outputs: usize, depth: usize, form: SparseForm) -> Self {
        assert_eq!(values.len(), outputs * depth, "elements of the weight");
        let count = form.rows();
        let kept = kept(values, outputs, depth, form) as f64;
        let step = step(depth, kept / values.len().max(1) as f64);
        let mut weight = Self {
            form,
            rows: outputs,
            depth,
            step,
            ends: Vec::new(),
            terms: Vec::new(),
            values: Vec::new(),
        };
        for first_term in (0..depth).step_by(step) {
            let terms = first_term..(first_term + step).min(depth);
            for row in (0..outputs).step_by(count) {
                for term in terms.clone() {
                    let column = |r: usize| match row + r < outputs {
                        true => values[(row + r) * depth + term],
                        false => 0.0,
                    };
                    if (0..count).any(|r| column(r) != 0.0) {
                        weight.terms.push(((term - first_term) * WIDTH) as u32);
                        weight.values.extend((0..count).map(column));
                    }
                }
                weight.ends.push(weight.terms.len());
            }
        }
        weight
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Terms of one output.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// What one entry holds.
    pub fn form(&self) -> SparseForm {
        self.form
    }

    /// Weights that are multiplied, as a share of all; zeros inside blocks count.
    pub fn density(&self) -> f64 {
        self.values.len() as f64 / (self.rows * self.depth).max(1) as f64
    }

    /// Does it hold a weight of this geometry?
    pub(in super::super) fn fits(&self, g: &ConvGeometry) -> bool {
        g.groups == 1 && self.rows == g.out_channels && self.depth == g.depth()
    }

    /// The parts of the depth.
    pub(super) fn parts(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.depth).step_by(self.step).map(|first| first..(first + self.step).min(self.depth))
    }

    /// Terms of the longest part.
    pub(super) fn step(&self) -> usize {
        self.step
    }

    /// The stream of a block of outputs in a part of the depth.
    pub(super) fn stream(&self, part: usize, block: usize) -> Stream<'_> {
        let place = part * self.rows.div_ceil(self.form.rows()) + block;
        let first = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        let entries = first..self.ends[place];
        let count = self.form.rows();
        Stream {
            values: &self.values[entries.start * count..entries.end * count],
            terms: &self.terms[entries],
        }
    }
}

/// Weights of `outputs x depth` that a form multiplies.
pub(super) fn kept(values: &[f32], outputs: usize, depth: usize, form: SparseForm) -> usize {
    assert_eq!(values.len(), outputs * depth, "elements of the weight");
    match form {
        SparseForm::Single => values.iter().filter(|&&value| value != 0.0).count(),
        SparseForm::Quads => {
            let used = |rows: &[f32]| {
                let any = |&term: &usize| rows.iter().skip(term).step_by(depth).any(|&v| v != 0.0);
                (0..depth).filter(any).count() * QUAD
            };
            values.chunks((QUAD * depth).max(1)).map(used).sum()
        }
    }
}

/// Terms of equal parts of the depth; they depend on nothing but the weight.
fn step(depth: usize, density: f64) -> usize {
    let most = if density > NEAR_DENSITY { NEAR_STEP } else { MAX_STEP };
    depth.div_ceil(depth.div_ceil(most).max(1)).max(1)
}
