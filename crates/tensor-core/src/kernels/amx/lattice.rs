//! How a convolution without padding and stride is made of any other.

use super::super::geometry::{ConvGeometry, WindowAxis};

/// The values of a channel as planes with the padding in them, one for each remainder by the
/// strides (*phase*) that a tap reads.
///
/// Planes are stored row after row of `width` values. Counted like this, output position `p` reads
/// for each tap the value at `p + shift` of the tap's phase. `width` exceeds the output's own, so
/// that some positions belong to no output.
#[derive(Debug)]
pub(super) struct Lattice {
    /// Values of a row.
    pub(super) width: usize,
    /// Output positions, those of no output included.
    pub(super) positions: usize,
    /// Values from one plane to the next, with room behind the last position for whole tiles.
    pub(super) length: usize,
    /// Remainders of the phases along rows and columns.
    phases: Vec<(usize, usize)>,
    /// Phase and shift of each tap.
    pub(super) taps: Vec<(usize, usize)>,
    rows: WindowAxis,
    columns: WindowAxis,
    /// Rows of a plane.
    height: usize,
}

/// Positions that a tile may run over the last one: two tiles of columns, or the terms of one.
const SLACK: usize = 64;

impl Lattice {
    pub(super) fn new(g: &ConvGeometry) -> Self {
        let (rows, columns) = (g.rows, g.columns);
        let last = |axis: &WindowAxis| (axis.kernel - 1) * axis.dilation / axis.stride;
        let width = columns.output + last(&columns);
        let height = rows.output + last(&rows);
        let (mut phases, mut taps) = (Vec::new(), Vec::new());
        for row in 0..rows.kernel {
            for column in 0..columns.kernel {
                let (row, column) = (row * rows.dilation, column * columns.dilation);
                let phase = (row % rows.stride, column % columns.stride);
                let known = phases.iter().position(|known| *known == phase);
                let index = known.unwrap_or(phases.len());
                if known.is_none() {
                    phases.push(phase);
                }
                taps.push((index, row / rows.stride * width + column / columns.stride));
            }
        }
        let positions = rows.output * width;
        // An odd number of cache lines, so that planes do not compete for the same cache sets.
        let lines = (height * width + last(&columns) + SLACK).div_ceil(32);
        let length = 32 * (lines | 1);
        Self { width, positions, length, phases, taps, rows, columns, height }
    }

    /// Planes of one channel.
    pub(super) fn phases(&self) -> usize {
        self.phases.len()
    }

    /// Rows of a phase that hold input values.
    pub(super) fn spans(&self, phase: usize) -> impl Iterator<Item = Span> + '_ {
        let (row, column) = self.phases[phase];
        let (rows, columns) = (&self.rows, &self.columns);
        let first = columns.pad_begin.saturating_sub(column).div_ceil(columns.stride);
        let from = first * columns.stride + column - columns.pad_begin;
        let reach = columns.input.saturating_sub(from).div_ceil(columns.stride);
        let count = reach.min(self.width.saturating_sub(first));
        (0..self.height).filter_map(move |y| {
            let source = (y * rows.stride + row).checked_sub(rows.pad_begin)?;
            let inside = source < rows.input && count > 0;
            inside.then_some(Span {
                from: source * columns.input + from,
                to: y * self.width + first,
                count,
            })
        })
    }

    /// Distance between neighbouring values of a span in the input.
    pub(super) fn stride(&self) -> usize {
        self.columns.stride
    }

    /// The output positions within `count` lattice positions from `start`.
    pub(super) fn outputs(&self, start: usize, count: usize) -> impl Iterator<Item = Segment> + '_ {
        let (width, output) = (self.width, self.columns.output);
        let end = (start + count).min(self.positions);
        (start / width..end.div_ceil(width)).filter_map(move |row| {
            let begin = (row * width).max(start);
            let end = (row * width + output).min(end);
            (begin < end).then(|| Segment {
                lane: begin - start,
                count: end - begin,
                position: row * output + begin - row * width,
            })
        })
    }
}

/// Neighbouring values of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// First value within the channel of the input.
    pub(super) from: usize,
    /// First value within the plane.
    pub(super) to: usize,
    pub(super) count: usize,
}

/// Neighbouring outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// First lattice position, counted from the start that was asked for.
    pub(super) lane: usize,
    pub(super) count: usize,
    /// First output position.
    pub(super) position: usize,
}
