//! Convolution as a product of packed weights with panels of input patches.

use super::block::{Block, LEFT_SLACK, PANEL, ROWS, depth_step, multiply, pack_rows};
use super::epilogue::Finish;
use super::geometry::ConvGeometry;
use super::lattice_conv;
use super::parallel::{Output, filled, for_each, threads, with_scratch};
use super::patches::{PatchPlan, Patches};
use super::simd::{Kernel, Simd, dispatch};
use super::sparse::SparseWeight;
use super::winograd::WinogradWeight;
use crate::Result;
use std::cell::RefCell;
use std::sync::OnceLock;

/// Output positions that small images are joined to, so that few lanes of a panel stay empty.
const SET: usize = 768;

/// Most sets that share the location of a tile, so that their inputs stay in cache.
const MAX_BUNDLE: usize = 8;

/// Most rows of weights that meet a panel before the next panel is gathered.
const MAX_ROWS: usize = 256;

/// Rows of weights up to which a pointwise convolution reads its input in place.
const MAX_DIRECT_ROWS: usize = 64;

/// A convolution weight in the order in which the kernel reads it.
#[derive(Debug)]
pub struct PackedConv {
    /// Groups one after the other, each as of [`pack_rows`].
    values: Vec<f32>,
    /// Rows of one group.
    rows: usize,
    /// Terms of one row.
    depth: usize,
    /// The transformed weight, made when it is first used.
    winograd: OnceLock<WinogradWeight>,
    /// The weight without its zeros; `values` is empty then.
    sparse: Option<SparseWeight>,
}

impl From<SparseWeight> for PackedConv {
    fn from(sparse: SparseWeight) -> Self {
        let (rows, depth) = (sparse.rows(), sparse.depth());
        Self { values: Vec::new(), rows, depth, winograd: OnceLock::new(), sparse: Some(sparse) }
    }
}

impl PackedConv {
    /// Packs a weight `outputs x depth`, where `depth` counts the input channels of one group
    /// times the kernel positions. `groups` must divide `outputs`.
    ///
    /// # Panics
    /// When `values` does not hold `outputs * depth` elements.
    pub fn new(values: &[f32], groups: usize, outputs: usize, depth: usize) -> Self {
        assert_eq!(values.len(), outputs * depth, "elements of the weight");
        let rows = outputs / groups.max(1);
        let mut packed = vec![0.0; values.len() + LEFT_SLACK];
        for g in 0..groups {
            let range = g * rows * depth..(g + 1) * rows * depth;
            let weight = &values[range.clone()];
            pack_rows(rows, depth, &mut packed[range], |row, term| weight[row * depth + term]);
        }
        Self { values: packed, rows, depth, winograd: OnceLock::new(), sparse: None }
    }

    /// The weight without its zeros, if it is kept so and is of this geometry.
    pub(super) fn sparse(&self, g: &ConvGeometry) -> Option<&SparseWeight> {
        self.sparse.as_ref().filter(|sparse| sparse.fits(g))
    }

    /// The transformed form of the same `weight`, which must be that of a 3 x 3 convolution.
    pub(super) fn winograd(&self, weight: &[f32]) -> &WinogradWeight {
        self.winograd.get_or_init(|| WinogradWeight::new(weight, self.rows))
    }

    /// The packed rows, and slack behind them.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Does it hold a weight of this geometry?
    pub(super) fn fits(&self, g: &ConvGeometry) -> bool {
        self.rows == g.group_outputs()
            && self.depth == g.depth()
            && self.values.len() == g.weight_count() + LEFT_SLACK
    }
}

thread_local! {
    static PATCHES: RefCell<Patches> = RefCell::default();
}

/// The convolution of `x`, which must hold [`ConvGeometry::input_count`] elements.
///
/// # Errors
/// When there is no memory for the output.
pub(super) fn forward(
    x: &[f32],
    weight: &PackedConv,
    g: &ConvGeometry,
    finish: &Finish,
) -> Result<Vec<f32>> {
    assert!(x.len() == g.input_count() && weight.fits(g), "operands of the convolution");
    if lattice_conv::suits(g) {
        return lattice_conv::forward(x, weight, g, finish);
    }
    let area = g.output_area();
    let images = SET.div_ceil(area.max(1)).clamp(1, g.batch.max(1));
    let tiles = (images * area).div_ceil(PANEL);
    let sets = g.batch.div_ceil(images);
    // Sets of equal size share what is located for a tile.
    let bundle = (sets / (4 * threads())).clamp(1, MAX_BUNDLE);
    let places = g.groups * sets.div_ceil(bundle) * tiles;
    let blocks = g.group_outputs().div_ceil(ROWS);
    let parts = threads().div_ceil(places.max(1)).min(blocks);
    let rows = (blocks.div_ceil(parts) * ROWS).min(MAX_ROWS);
    let parts = g.group_outputs().div_ceil(rows);
    let plan = PatchPlan::new(g);
    let depth = g.depth();
    let step = depth_step(depth);
    // SAFETY: every output position lies in one tile of one set, and every row in one part.
    unsafe {
        filled(g.output_count(), |output| {
            for_each(places * parts, bundle * PANEL * depth * rows, |task| {
                let (place, part) = (task / parts, task % parts);
                let (rest, tile) = (place / tiles, place % tiles);
                let (group, first_set) = (rest % g.groups, rest / g.groups * bundle);
                let first_row = part * rows;
                let rows = first_row..(first_row + rows).min(g.group_outputs());
                let start = tile * PANEL;
                with_scratch((step + rows.len()) * PANEL, |scratch| {
                    PATCHES.with_borrow_mut(|patches| {
                        let mut located = 0;
                        for set in first_set..(first_set + bundle).min(sets) {
                            let first_image = set * images;
                            let positions = (g.batch - first_image).min(images) * area;
                            let len = PANEL.min(positions.saturating_sub(start));
                            if len == 0 {
                                continue;
                            }
                            if len != located {
                                patches.locate(&plan, start, len);
                                located = len;
                            }
                            let (panel, sums) = scratch.split_at_mut(step * PANEL);
                            dispatch(Tile {
                                x,
                                weight,
                                g,
                                plan: &plan,
                                finish,
                                output,
                                patches,
                                group,
                                first_image,
                                rows: rows.clone(),
                                len,
                                panel,
                                sums,
                                step,
                            });
                        }
                    });
                });
            });
        })
    }
}

/// One tile of output positions for some rows of weights of one group.
struct Tile<'a> {
    x: &'a [f32],
    weight: &'a PackedConv,
    g: &'a ConvGeometry,
    plan: &'a PatchPlan,
    finish: &'a Finish<'a>,
    output: &'a Output<'a>,
    patches: &'a Patches,
    group: usize,
    first_image: usize,
    rows: std::ops::Range<usize>,
    len: usize,
    panel: &'a mut [f32],
    sums: &'a mut [f32],
    step: usize,
}

impl Tile<'_> {
    /// The panel in place: rows of the input itself, when the convolution is pointwise and the
    /// tile is full and within one image.
    #[inline(always)]
    fn in_place(&self) -> Option<usize> {
        let g = self.g;
        let pointwise = g.rows.is_pointwise() && g.columns.is_pointwise();
        match self.patches.images() {
            [run] if pointwise && self.len == PANEL && self.rows.len() <= MAX_DIRECT_ROWS => {
                let channel =
                    (self.first_image + run.image) * g.in_channels + self.group * g.group_inputs();
                Some(channel * g.input_area() + run.position)
            }
            _ => None,
        }
    }

    /// Applies the epilogue to finished rows.
    #[inline(always)]
    unsafe fn finish_rows<S: Simd>(&self, first: usize, count: usize) {
        let g = self.g;
        let area = g.output_area();
        for row in first..first + count {
            let channel = self.group * g.group_outputs() + row;
            let sums = &self.sums[(row - self.rows.start) * PANEL..][..PANEL];
            for run in self.patches.images() {
                let image = self.first_image + run.image;
                let start = (image * g.out_channels + channel) * area + run.position;
                // SAFETY: no other task writes these rows of this tile.
                unsafe {
                    let out = self.output.part(start, run.len);
                    self.finish.write::<S>(
                        channel,
                        &sums[run.lane..run.lane + run.len],
                        out,
                        start,
                    );
                }
            }
        }
    }
}

impl Kernel for Tile<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let g = self.g;
        let depth = g.depth();
        let weight = &self.weight.values[self.group * g.group_outputs() * depth..];
        let in_place = self.in_place();
        let first_channel = self.first_image * g.in_channels + self.group * g.group_inputs();
        let source = self.x.as_ptr().wrapping_add(first_channel * g.input_area());
        for term in (0..depth).step_by(self.step) {
            let terms = self.step.min(depth - term);
            let (right, right_step) = match in_place {
                Some(start) => (self.x[start + term * g.input_area()..].as_ptr(), g.input_area()),
                None => {
                    let panel = self.panel.as_mut_ptr();
                    // SAFETY: `source` and the panel are as `gather` wants them.
                    unsafe { self.patches.gather::<S>(self.plan, source, term, terms, panel) };
                    (panel.cast_const(), PANEL)
                }
            };
            let last = term + terms == depth;
            for row in self.rows.clone().step_by(ROWS) {
                // Blocks hold eight rows, counted from the first row of the group.
                let rows = ROWS.min(g.group_outputs() - row);
                let left = &weight[row * depth + term * rows..][..terms * rows + LEFT_SLACK];
                let sums = &mut self.sums[(row - self.rows.start) * PANEL..][..rows * PANEL];
                // SAFETY: slices are checked above; a panel in place is a full tile of rows
                // within one image.
                unsafe {
                    multiply::<S>(Block {
                        rows,
                        columns: self.len,
                        depth: terms,
                        left: left.as_ptr(),
                        left_step: rows,
                        right,
                        right_step,
                        sums: sums.as_mut_ptr(),
                        add: term > 0,
                    });
                    if last {
                        self.finish_rows::<S>(row, rows);
                    }
                }
            }
        }
    }
}
