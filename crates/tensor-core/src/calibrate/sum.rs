//! Statistics over the rows of all processes.

use super::{Moments, Rows, Statistics};
use crate::group::Group;
use crate::{Error, Result};

impl Statistics {
    /// The statistics of the rows that all processes have seen, on each of them. Moments add up; rows
    /// stand in the order of the processes' ranks.
    ///
    /// # Errors
    /// When the rows outgrow their memory limit, or a process cannot be reached.
    pub fn sum_over(&mut self, group: &Group) -> Result<()> {
        if group.is_alone() {
            return Ok(());
        }
        match self {
            Self::Moments(moments) => moments.sum_over(group),
            Self::Rows(rows) => rows.sum_over(group),
        }
    }
}

impl Moments {
    fn sum_over(&mut self, group: &Group) -> Result<()> {
        let (p, n) = (self.inputs(), self.outputs());
        // About one origin, that of the first process, they add up number by number.
        let shifts = group.broadcast(|| Ok(bytes_of(&[&self.shift_x, &self.shift_y])))?;
        let shifts = floats_of(&shifts);
        let (shift_x, shift_y) = shifts.split_at_checked(p).ok_or_else(torn)?;
        let mut all = Self::new(p, n)?;
        all.shift_x.copy_from_slice(shift_x);
        all.shift_y.copy_from_slice(shift_y);
        all.add(self);
        let counts = [self.rows as f64, f64::from(u8::from(self.is_blocked))];
        let mut values = Vec::with_capacity(2 + p + 2 * n + p * (p + 1) / 2 + p * n);
        values.extend(counts);
        all.numbers(|numbers| values.extend_from_slice(numbers));
        group.sum_f64(&mut values)?;
        let (counts, mut rest) = values.split_at(2);
        all.numbers(|numbers| {
            let (own, others) = rest.split_at(numbers.len());
            numbers.copy_from_slice(own);
            rest = others;
        });
        (all.rows, all.is_blocked) = (counts[0] as usize, counts[1] > 0.0);
        *self = all;
        Ok(())
    }

    /// All sums, in an order of their own.
    fn numbers(&mut self, mut visit: impl FnMut(&mut [f64])) {
        for sums in [&mut self.sum_x, &mut self.sum_y, &mut self.sum_y2] {
            visit(sums);
        }
        for j in 0..self.gram.ncols() {
            visit(&mut self.gram.col_as_slice_mut(j)[j..]);
        }
        for j in 0..self.cross.ncols() {
            visit(self.cross.col_as_slice_mut(j));
        }
    }
}

impl Rows {
    fn sum_over(&mut self, group: &Group) -> Result<()> {
        let own = std::mem::take(&mut self.x);
        let x = group.gather(bytes_of(&[&own]))?;
        let own = std::mem::take(&mut self.y);
        let y = group.gather(bytes_of(&[&own]))?;
        x.iter().zip(&y).try_for_each(|(x, y)| self.push(&floats_of(x), &floats_of(y)))
    }
}

fn bytes_of(values: &[&[f32]]) -> Vec<u8> {
    values.iter().flat_map(|values| values.iter().flat_map(|value| value.to_le_bytes())).collect()
}

fn floats_of(bytes: &[u8]) -> Vec<f32> {
    let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    values.collect()
}

fn torn() -> Error {
    Error::internal("the first process has statistics of another layer")
}
