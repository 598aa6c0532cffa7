//! What a pattern may set to zero, the least important first.

use crate::{Grid, Pattern};
use tensor_core::{Error, Result};

/// The units (weights, or blocks of them) of one weight that may go, in the order in which they go.
///
/// Scores are not negative; a unit that is masked already scores below any other, so that masks
/// only grow. Of equal scores the unit with the higher index goes first: the lower index is kept.
#[derive(Debug, Clone)]
pub(crate) struct Candidates {
    grid: Grid,
    pattern: Pattern,
    /// Score and unit.
    order: Vec<(f32, u32)>,
}

/// The score of what is masked already.
const MASKED: f32 = -1.0;

impl Candidates {
    /// From one score per weight, in the order of the tensor, and what is masked already.
    ///
    /// # Errors
    /// `E0433` when a score is not finite.
    pub(crate) fn new(
        scores: &[f32],
        grid: Grid,
        pattern: Pattern,
        kept: Option<&[bool]>,
    ) -> Result<Self> {
        if scores.len() != grid.count() || kept.is_some_and(|kept| kept.len() != scores.len()) {
            return Err(Error::internal("scores or mask of another shape than the weight"));
        }
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            let message = format!("weight {at} is {}", scores[at]);
            return Err(Error::invalid(message).code_is("E0433"));
        }
        let of = |place: usize| match kept {
            Some(kept) if !kept[place] => MASKED,
            _ => scores[place],
        };
        let mut order = match pattern {
            Pattern::Unstructured => {
                (0..scores.len()).map(|place| (of(place), place as u32)).collect()
            }
            Pattern::NM(n, m) => groups(&grid, n, m, of),
            Pattern::Block(..) | Pattern::Rows => blocks(&grid, sides(&grid, pattern), of),
        };
        order.sort_unstable_by(earlier);
        Ok(Self { grid, pattern, order })
    }

    /// Most weights that may go.
    pub(crate) fn capacity(&self) -> usize {
        self.units().map(|(_, size)| size).sum()
    }

    /// Score and size of each unit, in their order.
    pub(crate) fn units(&self) -> impl Iterator<Item = (f32, usize)> {
        self.order.iter().map(|&(score, unit)| (score, self.size(unit as usize)))
    }

    /// Weights of the units that are masked already; of an N:M group no more than it may lose.
    pub(crate) fn masked(&self) -> usize {
        self.units().take_while(|&(score, _)| score == MASKED).map(|(_, size)| size).sum()
    }

    /// Which weights stay when `count` of them go, or as near to that as whole units allow; rather
    /// fewer than more.
    pub(crate) fn without(&self, count: usize) -> Vec<bool> {
        let mut keep = vec![true; self.grid.count()];
        let mut gone = 0;
        for &(_, unit) in &self.order {
            let size = self.size(unit as usize);
            // Half of the unit or more would be too much.
            if gone >= count || 2 * (count - gone) <= size && size > count - gone {
                break;
            }
            gone += size;
            self.mark(unit as usize, &mut keep);
        }
        keep
    }

    fn size(&self, unit: usize) -> usize {
        match self.pattern {
            Pattern::Unstructured | Pattern::NM(..) => 1,
            _ => {
                let (rows, columns) = extent(&self.grid, sides(&self.grid, self.pattern), unit);
                rows.len() * columns.len()
            }
        }
    }

    fn mark(&self, unit: usize, keep: &mut [bool]) {
        match self.pattern {
            Pattern::Unstructured | Pattern::NM(..) => keep[unit] = false,
            _ => {
                let (rows, columns) = extent(&self.grid, sides(&self.grid, self.pattern), unit);
                for row in rows {
                    for column in columns.clone() {
                        keep[self.grid.place(row, column)] = false;
                    }
                }
            }
        }
    }
}

/// By score; of equal ones the higher index.
fn earlier(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))
}

/// The weights of each group of `m` inputs beyond the `n` largest.
fn groups(grid: &Grid, n: usize, m: usize, score: impl Fn(usize) -> f32) -> Vec<(f32, u32)> {
    let mut found = Vec::new();
    let mut group: Vec<(f32, u32)> = Vec::with_capacity(m);
    for row in 0..grid.rows() {
        for tap in 0..grid.taps() {
            for start in (0..grid.inputs()).step_by(m) {
                let end = (start + m).min(grid.inputs());
                group.clear();
                group.extend((start..end).map(|input| {
                    let place = grid.place(row, tap * grid.inputs() + input);
                    (score(place), place as u32)
                }));
                group.sort_unstable_by(earlier);
                found.extend_from_slice(&group[..Pattern::removable(n, m, end - start)]);
            }
        }
    }
    found
}

/// Rows and columns of a whole block.
fn sides(grid: &Grid, pattern: Pattern) -> (usize, usize) {
    match pattern {
        Pattern::Block(height, width) => (height, width.min(grid.inputs().max(1))),
        _ => (1, grid.columns().max(1)),
    }
}

/// Blocks across: blocks do not reach from one tap into the next, rows do.
fn blocks_across(grid: &Grid, width: usize) -> (usize, usize) {
    if width > grid.inputs() {
        return (1, 1);
    }
    (grid.taps(), grid.inputs().div_ceil(width))
}

/// Blocks down: they do not reach from one group of rows into the next. Of each group so many, and
/// its rows.
fn blocks_down(grid: &Grid, height: usize) -> (usize, usize) {
    let rows = grid.rows() / grid.groups();
    (rows.div_ceil(height), rows)
}

/// The rows and columns of a block.
fn extent(
    grid: &Grid,
    (height, width): (usize, usize),
    unit: usize,
) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let (taps, per_tap) = blocks_across(grid, width);
    let (down, across) = (unit / (taps * per_tap), unit % (taps * per_tap));
    let (per_group, group_rows) = blocks_down(grid, height);
    let (group, down) = (down / per_group, down % per_group);
    let first = group * group_rows;
    let rows = first + down * height..first + ((down + 1) * height).min(group_rows);
    if taps == 1 && per_tap == 1 {
        return (rows, 0..grid.columns());
    }
    let (tap, block) = (across / per_tap, across % per_tap);
    let first = tap * grid.inputs();
    let end = ((block + 1) * width).min(grid.inputs());
    (rows, first + block * width..first + end)
}

/// Every block with the mean score of its weights; those masked already count as zero, and a block
/// of nothing else as masked.
fn blocks(grid: &Grid, sides: (usize, usize), score: impl Fn(usize) -> f32) -> Vec<(f32, u32)> {
    let (taps, per_tap) = blocks_across(grid, sides.1);
    let count = grid.groups() * blocks_down(grid, sides.0).0 * taps * per_tap;
    (0..count)
        .map(|unit| {
            let (rows, columns) = extent(grid, sides, unit);
            let size = rows.len() * columns.len();
            let mut sum = 0.0;
            let mut is_masked = true;
            for row in rows {
                for column in columns.clone() {
                    let value = score(grid.place(row, column));
                    is_masked &= value == MASKED;
                    sum += f64::from(value.max(0.0));
                }
            }
            let mean = if is_masked { MASKED } else { (sum / size.max(1) as f64) as f32 };
            (mean, unit as u32)
        })
        .collect()
}
