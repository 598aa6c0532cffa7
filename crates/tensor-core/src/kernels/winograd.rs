//! 3 x 3 convolutions by Winograd's minimal filtering `F(2 x 2, 3 x 3)` (Lavin and Gray 2016): 16
//! multiplications instead of 36 for each 2 x 2 tile of outputs.

use super::block::{Block, LEFT_SLACK, PANEL, ROWS, SECTIONS, multiply};
use super::epilogue::Finish;
use super::geometry::{ConvGeometry, WindowAxis};
use super::parallel::{Output, filled, for_each, threads, with_scratch};
use super::patches::{PatchPlan, Patches};
use super::simd::{Kernel, SECTION, Simd, dispatch};
use crate::Result;
use std::cell::RefCell;
use std::ops::Range;

/// Numbers of a transformed tile.
const POINTS: usize = 16;

/// Outputs of a tile.
const OUTPUTS: usize = 4;

/// Channels below which the transforms cost more than they save, and above which a panel of
/// transformed inputs leaves the cache.
const CHANNELS: std::ops::RangeInclusive<usize> = 16..=1024;

/// Tiles that small images are joined to, so that few lanes of a panel stay empty.
const SET: usize = 768;

/// Most sets that share the location of a panel.
const MAX_BUNDLE: usize = 8;

/// Channels that are gathered at a time.
const GATHERED: usize = 8;

/// Is the transform made for this convolution?
pub(super) fn suits(g: &ConvGeometry) -> bool {
    let plain = |w: &WindowAxis| {
        w.kernel == 3 && w.stride == 1 && w.dilation == 1 && w.output >= 4 && w.pad_begin < 3
    };
    g.groups == 1
        && plain(&g.rows)
        && plain(&g.columns)
        && CHANNELS.contains(&g.in_channels)
        && g.out_channels >= *CHANNELS.start()
}

/// A transformed weight.
#[derive(Debug)]
pub(super) struct WinogradWeight {
    /// For each of the [`POINTS`] a matrix `rows x channels`, as of [`pack_rows`].
    values: Vec<f32>,
    rows: usize,
    /// Input channels with a weight that is not zero: the others take no work.
    channels: Vec<usize>,
}

impl WinogradWeight {
    /// Transforms a weight `outputs x inputs x 3 x 3` by `G w G^T`.
    pub(super) fn new(weight: &[f32], rows: usize) -> Self {
        let inputs = weight.len() / (9 * rows);
        let at = |row: usize, channel: usize| &weight[(row * inputs + channel) * 9..][..9];
        let is_used =
            |channel: &usize| (0..rows).any(|r| at(r, *channel).iter().any(|w| *w != 0.0));
        let channels: Vec<usize> = (0..inputs).filter(is_used).collect();
        let depth = channels.len();
        let mut values = vec![0.0; POINTS * rows * depth + LEFT_SLACK];
        for row in 0..rows {
            // Blocks of rows as of `pack_rows`.
            let first = row / ROWS * ROWS;
            let count = ROWS.min(rows - first);
            for (term, &channel) in channels.iter().enumerate() {
                let place = first * depth + term * count + row - first;
                for (point, value) in transform_filter(at(row, channel)).into_iter().enumerate() {
                    values[point * rows * depth + place] = value;
                }
            }
        }
        Self { values, rows, channels }
    }
}

/// `G w G^T` of a filter of 3 x 3 weights, rounded once.
fn transform_filter(w: &[f32]) -> [f32; POINTS] {
    let points = |[a, b, c]: [f64; 3]| {
        let (even, odd) = (0.5 * (a + c), 0.5 * b);
        [a, even + odd, even - odd, c]
    };
    let columns = [0, 1, 2].map(|x| points([0, 1, 2].map(|y| f64::from(w[3 * y + x]))));
    let mut out = [0.0; POINTS];
    for y in 0..4 {
        for (x, value) in points(columns.map(|column| column[y])).into_iter().enumerate() {
            out[4 * y + x] = value as f32;
        }
    }
    out
}

/// Neighbouring outputs of one image within a panel of tiles.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// First place in [`Scatter::order`], and number of places.
    first: usize,
    len: usize,
    image: usize,
    /// First output position within the image.
    position: usize,
}

/// Where the outputs of a panel of tiles go.
#[derive(Debug, Default)]
struct Scatter {
    /// Outputs in ascending order of image and position: `output of the tile * PANEL + lane`.
    order: Vec<u32>,
    runs: Vec<Run>,
    /// Image, position and source of every output.
    places: Vec<(usize, usize, u32)>,
}

impl Scatter {
    /// Prepares a panel of `len` tiles from `start`, counted over a set of images.
    fn locate(&mut self, g: &ConvGeometry, tiles: &ConvGeometry, start: usize, len: usize) {
        let (height, width) = (g.rows.output, g.columns.output);
        let (per_image, per_row) = (tiles.output_area(), tiles.columns.output);
        self.places.clear();
        for lane in 0..len {
            let (image, tile) = ((start + lane) / per_image, (start + lane) % per_image);
            for output in 0..OUTPUTS {
                let y = tile / per_row * 2 + output / 2;
                let x = tile % per_row * 2 + output % 2;
                if y < height && x < width {
                    self.places.push((image, y * width + x, (output * PANEL + lane) as u32));
                }
            }
        }
        self.places.sort_unstable();
        self.order.clear();
        self.runs.clear();
        for (first, &(image, position, source)) in self.places.iter().enumerate() {
            self.order.push(source);
            match self.runs.last_mut() {
                Some(run) if run.image == image && run.position + run.len == position => {
                    run.len += 1;
                }
                _ => self.runs.push(Run { first, len: 1, image, position }),
            }
        }
    }
}

thread_local! {
    static PLACES: RefCell<(Patches, Scatter)> = RefCell::default();
}

/// The convolution of `x`, which must hold [`ConvGeometry::input_count`] elements.
///
/// # Errors
/// When there is no memory for the output.
pub(super) fn forward(
    x: &[f32],
    weight: &WinogradWeight,
    g: &ConvGeometry,
    finish: &Finish,
) -> Result<Vec<f32>> {
    assert!(x.len() == g.input_count() && weight.rows == g.out_channels, "operands");
    // Input tiles of 4 x 4 overlap by two: they are the patches of another convolution.
    let axis =
        |w: &WindowAxis| WindowAxis { output: w.output.div_ceil(2), kernel: 4, stride: 2, ..*w };
    let tiles = ConvGeometry { rows: axis(&g.rows), columns: axis(&g.columns), ..*g };
    let per_image = tiles.output_area();
    let images = SET.div_ceil(per_image.max(1)).clamp(1, g.batch.max(1));
    let panels = (images * per_image).div_ceil(PANEL);
    let sets = g.batch.div_ceil(images);
    let bundle = (sets / (4 * threads())).clamp(1, MAX_BUNDLE);
    let places = sets.div_ceil(bundle) * panels;
    let blocks = g.out_channels.div_ceil(ROWS);
    let parts = threads().div_ceil(places.max(1)).min(blocks);
    let rows = blocks.div_ceil(parts) * ROWS;
    let parts = g.out_channels.div_ceil(rows);
    let plan = PatchPlan::new(&tiles);
    let depth = weight.channels.len();
    let scratch = (POINTS * depth + POINTS * GATHERED + POINTS * ROWS + 2 * OUTPUTS) * PANEL;
    let work = bundle * PANEL * depth * rows.min(g.out_channels) * POINTS;
    // SAFETY: every output position lies in one tile of one set, and every row in one part.
    unsafe {
        filled(g.output_count(), |output| {
            for_each(places * parts, work, |task| {
                let (place, part) = (task / parts, task % parts);
                let (first_set, panel) = (place / panels * bundle, place % panels);
                let start = panel * PANEL;
                let rows = part * rows..((part + 1) * rows).min(g.out_channels);
                with_scratch(scratch, |scratch| {
                    PLACES.with_borrow_mut(|(patches, scatter)| {
                        let mut located = 0;
                        for set in first_set..(first_set + bundle).min(sets) {
                            let first_image = set * images;
                            let count = (g.batch - first_image).min(images) * per_image;
                            let len = PANEL.min(count.saturating_sub(start));
                            if len == 0 {
                                continue;
                            }
                            if len != located {
                                patches.locate(&plan, start, len);
                                scatter.locate(g, &tiles, start, len);
                                located = len;
                            }
                            dispatch(Panel {
                                x,
                                weight,
                                g,
                                plan: &plan,
                                finish,
                                output,
                                patches,
                                scatter,
                                first_image,
                                rows: rows.clone(),
                                len,
                                scratch: &mut *scratch,
                            });
                        }
                    });
                });
            });
        })
    }
}

/// One panel of tiles for some rows of the weight.
struct Panel<'a> {
    x: &'a [f32],
    weight: &'a WinogradWeight,
    g: &'a ConvGeometry,
    plan: &'a PatchPlan,
    finish: &'a Finish<'a>,
    output: &'a Output<'a>,
    patches: &'a Patches,
    scatter: &'a Scatter,
    first_image: usize,
    rows: Range<usize>,
    len: usize,
    scratch: &'a mut [f32],
}

impl Kernel for Panel<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let g = self.g;
        let depth = self.weight.channels.len();
        let (inputs, rest) = self.scratch.split_at_mut(POINTS * depth * PANEL);
        let (gathered, rest) = rest.split_at_mut(POINTS * GATHERED * PANEL);
        let (products, outputs) = rest.split_at_mut(POINTS * ROWS * PANEL);
        let (results, ordered) = outputs.split_at_mut(OUTPUTS * PANEL);
        let lanes = self.len.next_multiple_of(SECTION).min(SECTIONS * SECTION);
        let source =
            self.x.as_ptr().wrapping_add(self.first_image * g.in_channels * g.input_area());
        let mut term = 0;
        for first in (0..g.in_channels).step_by(GATHERED) {
            let count = GATHERED.min(g.in_channels - first);
            let used = self.weight.channels[term..].iter().take_while(|&&c| c < first + count);
            let used = used.count();
            if used == 0 {
                continue;
            }
            // SAFETY: `source` is the first image of the set, and the panel holds that many rows.
            unsafe {
                let to = gathered.as_mut_ptr();
                self.patches.gather::<S>(self.plan, source, first * POINTS, count * POINTS, to);
            }
            for &channel in &self.weight.channels[term..term + used] {
                let from = &gathered[(channel - first) * POINTS * PANEL..][..POINTS * PANEL];
                let to = &mut inputs[term * PANEL..];
                // SAFETY: `from` holds a tile of panels; the last of `to` starts a row before its end.
                unsafe { transform_input::<S>(from, to, depth * PANEL, lanes) };
                term += 1;
            }
        }
        for row in self.rows.clone().step_by(ROWS) {
            let rows = ROWS.min(g.out_channels - row);
            for point in 0..POINTS {
                let left = &self.weight.values[(point * self.weight.rows + row) * depth..];
                let left = &left[..rows * depth + LEFT_SLACK];
                let right = &inputs[point * depth * PANEL..][..depth * PANEL];
                let sums = &mut products[point * ROWS * PANEL..][..rows * PANEL];
                // SAFETY: the slices have the sizes of the block.
                unsafe {
                    multiply::<S>(Block {
                        rows,
                        columns: self.len,
                        depth,
                        left: left.as_ptr(),
                        left_step: rows,
                        right: right.as_ptr(),
                        right_step: PANEL,
                        sums: sums.as_mut_ptr(),
                        add: false,
                    });
                }
            }
            for r in 0..rows {
                let from = &products[r * PANEL..][..((POINTS - 1) * ROWS + 1) * PANEL];
                // SAFETY: `from` reaches to the end of the row's last point.
                unsafe { transform_output::<S>(from, results, lanes) };
                for (to, &from) in ordered.iter_mut().zip(&self.scatter.order) {
                    *to = results[from as usize];
                }
                let channel = row + r;
                for run in &self.scatter.runs {
                    let image = self.first_image + run.image;
                    let start = (image * g.out_channels + channel) * g.output_area() + run.position;
                    // SAFETY: no other task writes these rows of these tiles.
                    unsafe {
                        let out = self.output.part(start, run.len);
                        let sums = &ordered[run.first..run.first + run.len];
                        self.finish.write::<S>(channel, sums, out, start);
                    }
                }
            }
        }
    }
}

/// `a - b`, exact but for one rounding.
#[inline(always)]
unsafe fn sub<S: Simd>(a: S::Vector, b: S::Vector) -> S::Vector {
    // SAFETY: as the caller.
    unsafe { S::mul_add(S::splat(-1.0), b, a) }
}

/// One row of `B^T d`.
#[inline(always)]
unsafe fn input_points<S: Simd>(d: [S::Vector; 4]) -> [S::Vector; 4] {
    // SAFETY: as the caller.
    unsafe {
        [sub::<S>(d[0], d[2]), S::add(d[1], d[2]), sub::<S>(d[2], d[1]), sub::<S>(d[1], d[3])]
    }
}

/// `B^T d B` of the tiles in the lanes: rows of panels in, one row every `step` elements out.
///
/// # Safety
/// The instruction set of `S` must be there; `from` must hold [`POINTS`] rows, and `to` a row of
/// panels at each step. `lanes` is a whole number of sections, at most a panel.
#[inline(always)]
unsafe fn transform_input<S: Simd>(from: &[f32], to: &mut [f32], step: usize, lanes: usize) {
    debug_assert!(from.len() >= POINTS * PANEL && to.len() >= (POINTS - 1) * step + PANEL);
    for lane in (0..lanes).step_by(S::LANES) {
        // SAFETY: `lane` and a vector from it lie within a row.
        unsafe {
            let at = |y: usize, x: usize| S::load(from.as_ptr().add((y * 4 + x) * PANEL + lane));
            let mut columns = [[S::splat(0.0); 4]; 4];
            for (x, column) in columns.iter_mut().enumerate() {
                *column = input_points::<S>([at(0, x), at(1, x), at(2, x), at(3, x)]);
            }
            for y in 0..4 {
                let row = columns.map(|column| column[y]);
                for (x, value) in input_points::<S>(row).into_iter().enumerate() {
                    S::store(to.as_mut_ptr().add((y * 4 + x) * step + lane), value);
                }
            }
        }
    }
}

/// One row of `A^T m`.
#[inline(always)]
unsafe fn output_points<S: Simd>(m: [S::Vector; 4]) -> [S::Vector; 2] {
    // SAFETY: as the caller.
    unsafe { [S::add(S::add(m[0], m[1]), m[2]), sub::<S>(sub::<S>(m[1], m[2]), m[3])] }
}

/// `A^T m A` of the tiles in the lanes: a row of panels every [`ROWS`] in, [`OUTPUTS`] rows out.
///
/// # Safety
/// The instruction set of `S` must be there; `from` must hold a row of panels for every point.
#[inline(always)]
unsafe fn transform_output<S: Simd>(from: &[f32], to: &mut [f32], lanes: usize) {
    debug_assert!(from.len() >= ((POINTS - 1) * ROWS + 1) * PANEL && to.len() >= OUTPUTS * PANEL);
    for lane in (0..lanes).step_by(S::LANES) {
        // SAFETY: `lane` and a vector from it lie within a row.
        unsafe {
            let at =
                |y: usize, x: usize| S::load(from.as_ptr().add((y * 4 + x) * ROWS * PANEL + lane));
            let mut columns = [[S::splat(0.0); 2]; 4];
            for (x, column) in columns.iter_mut().enumerate() {
                *column = output_points::<S>([at(0, x), at(1, x), at(2, x), at(3, x)]);
            }
            for y in 0..2 {
                let row = columns.map(|column| column[y]);
                for (x, value) in output_points::<S>(row).into_iter().enumerate() {
                    S::store(to.as_mut_ptr().add((y * 2 + x) * PANEL + lane), value);
                }
            }
        }
    }
}
