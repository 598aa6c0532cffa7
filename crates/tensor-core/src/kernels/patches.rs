//! Gathers the input patches of a tile of output positions into a panel.

use super::block::{PANEL, SECTIONS};
use super::geometry::ConvGeometry;
use super::simd::{Fill, SECTION, Simd};

/// Lanes of a section that read evenly spaced input elements: lane `l` reads element
/// `offset + l * stride` of the channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) offset: isize,
    /// A contiguous set of lanes.
    pub(super) lanes: u16,
}

/// Neighbouring output positions of one output row within one section.
#[derive(Debug, Clone, Copy)]
struct Segment {
    section: usize,
    lane: usize,
    len: usize,
    image: usize,
    row: usize,
    column: usize,
}

/// Neighbouring output positions of one image within a tile.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageRun {
    /// First lane of the tile.
    pub(super) lane: usize,
    /// Lanes.
    pub(super) len: usize,
    /// Image, counted from the first of the set.
    pub(super) image: usize,
    /// First output position within the image.
    pub(super) position: usize,
}

/// What is the same for all tiles of a convolution.
#[derive(Debug)]
pub(super) struct PatchPlan {
    geometry: ConvGeometry,
    /// Output columns whose tap falls inside the input, by tap along the width.
    inside: Vec<(usize, usize)>,
}

impl PatchPlan {
    pub(super) fn new(geometry: &ConvGeometry) -> Self {
        let columns = &geometry.columns;
        let inside = (0..columns.kernel).map(|tap| columns.inside(tap)).collect();
        Self { geometry: *geometry, inside }
    }
}

/// Where the lanes of one tile read, for every tap.
#[derive(Debug, Default)]
pub(super) struct Patches {
    segments: Vec<Segment>,
    images: Vec<ImageRun>,
    runs: Vec<Run>,
    /// End in `runs` of each section of each tap.
    ends: Vec<u32>,
    sections: usize,
}

impl Patches {
    /// Prepares a tile of `len` output positions from `start`, counted over a set of images.
    pub(super) fn locate(&mut self, plan: &PatchPlan, start: usize, len: usize) {
        self.split(plan, start, len);
        self.runs.clear();
        self.ends.clear();
        let g = &plan.geometry;
        let (stride, width) = (g.columns.stride, g.columns.input);
        let image_step = g.in_channels * g.input_area();
        for tap_row in 0..g.rows.kernel {
            for (tap_column, &(begin, end)) in plan.inside.iter().enumerate() {
                let shift =
                    (tap_column * g.columns.dilation) as isize - g.columns.pad_begin as isize;
                let mut segments = self.segments.iter().peekable();
                for section in 0..self.sections {
                    while let Some(s) = segments.next_if(|s| s.section == section) {
                        let first = s.column.max(begin);
                        let last = (s.column + s.len).min(end);
                        let Some(row) = g.rows.source(s.row, tap_row) else { continue };
                        if first >= last {
                            continue;
                        }
                        let lane = s.lane + first - s.column;
                        let lanes = ((1_u32 << (last - first)) - 1) << lane;
                        let origin = (s.image * image_step + row * width) as isize;
                        let column = (s.column * stride) as isize - (s.lane * stride) as isize;
                        self.runs
                            .push(Run { offset: origin + column + shift, lanes: lanes as u16 });
                    }
                    self.ends.push(self.runs.len() as u32);
                }
            }
        }
    }

    /// Images that the tile spans.
    pub(super) fn images(&self) -> &[ImageRun] {
        &self.images
    }

    /// Gathers terms `first..first + count` into `panel`, one row of [`PANEL`] columns per term.
    ///
    /// # Safety
    /// The instruction set of `S` must be there. `source` must point to the first input channel of
    /// the group in the first image of the set, in an input of the plan's geometry, and `panel`
    /// must hold `count * PANEL` elements.
    #[inline(always)]
    pub(super) unsafe fn gather<S: Simd>(
        &self,
        plan: &PatchPlan,
        source: *const f32,
        first: usize,
        count: usize,
        panel: *mut f32,
    ) {
        // SAFETY: as the caller.
        unsafe { self.gather_rows::<S>(plan, source, first, count, panel, PANEL) }
    }

    /// As [`gather`](Self::gather), with `step` elements between the rows of the panel.
    ///
    /// # Safety
    /// As there, for rows of [`PANEL`] elements at every multiple of `step`.
    #[inline(always)]
    pub(super) unsafe fn gather_rows<S: Simd>(
        &self,
        plan: &PatchPlan,
        source: *const f32,
        first: usize,
        count: usize,
        panel: *mut f32,
        step: usize,
    ) {
        let g = &plan.geometry;
        let (taps, area) = (g.taps(), g.input_area());
        let mut begin = 0;
        for (place, &end) in self.ends.iter().enumerate() {
            let (tap, section) = (place / self.sections, place % self.sections);
            let runs = &self.runs[begin..end as usize];
            begin = end as usize;
            // Terms of this tap are `channel * taps + tap`.
            let from = first.saturating_sub(tap).div_ceil(taps);
            let to = (first + count).saturating_sub(tap).div_ceil(taps);
            if from >= to {
                continue;
            }
            let row = from * taps + tap - first;
            // SAFETY: `locate` made runs from positions inside the input, and rows `row`,
            // `row + taps`, ... lie in the panel.
            unsafe {
                S::fill_sections(Fill {
                    runs,
                    stride: g.columns.stride,
                    rows: to - from,
                    source: source.wrapping_add(from * area),
                    source_step: area,
                    to: panel.add(row * step + section * SECTION),
                    to_step: taps * step,
                });
            }
        }
    }

    /// Splits the tile where rows, images and sections end.
    fn split(&mut self, plan: &PatchPlan, start: usize, len: usize) {
        let g = &plan.geometry;
        let (area, width) = (g.output_area(), g.columns.output);
        self.segments.clear();
        self.images.clear();
        self.sections = len.div_ceil(SECTION).min(SECTIONS);
        let (mut image, mut position) = (start / area, start % area);
        let (mut row, mut column) = (position / width, position % width);
        let mut lane = 0;
        while lane < len {
            let place = lane % SECTION;
            let run = (width - column).min(SECTION - place).min(len - lane);
            self.segments.push(Segment {
                section: lane / SECTION,
                lane: place,
                len: run,
                image,
                row,
                column,
            });
            match self.images.last_mut() {
                Some(last) if last.image == image => last.len += run,
                _ => self.images.push(ImageRun { lane, len: run, image, position }),
            }
            lane += run;
            position += run;
            column += run;
            if column == width {
                (row, column) = (row + 1, 0);
            }
            if position == area {
                (image, position, row) = (image + 1, 0, 0);
            }
        }
    }
}
