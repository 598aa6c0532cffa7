//! Layers small enough to remove one unit at a time.

use super::eliminate::{Rows, eliminate};
use super::fit::{Fit, Solved};
use super::linear::{inverse, solve};
use crate::Pattern;
use faer::Mat;
use rayon::prelude::*;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use tensor_core::Result;

/// The removals of every block of rows of a layer, in their order.
pub(super) struct Exact<'a> {
    fit: &'a Fit,
    units: Vec<Vec<usize>>,
    /// Hessian and minimum of each group.
    minima: Vec<(Mat<f64>, Mat<f64>)>,
    blocks: Vec<Block>,
}

/// Rows of one group that share a mask.
struct Block {
    group: usize,
    /// Outputs within the group.
    outputs: std::ops::Range<usize>,
    /// Units and what the removal of each costs.
    removals: Vec<(usize, f64)>,
}

/// The next removal of a block of rows: greater the less each of its weights costs, of equal ones
/// the later.
struct Next {
    rate: f64,
    at: usize,
    /// Its weights.
    size: usize,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        other.rate.total_cmp(&self.rate).then(self.at.cmp(&other.at))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Next {}

impl<'a> Exact<'a> {
    /// Eliminates every block of rows as far as the pattern allows.
    pub(super) fn new(fit: &'a Fit) -> Result<Self> {
        let shape = fit.shape;
        let (p, n) = (shape.columns(), shape.group_outputs());
        let (units, groups) = units(fit.pattern, p / shape.taps.max(1), shape.taps);
        let height = match fit.pattern {
            Pattern::Block(height, _) => height,
            _ => 1,
        };
        let mut minima = Vec::new();
        let mut inverses: Vec<Vec<f64>> = Vec::new();
        for (problem, original) in fit.problems.iter().zip(&fit.original) {
            let hessian = problem.hessian();
            let minimum = solve(hessian.as_ref(), problem.target(original.as_ref()).as_ref())?;
            let inverse = inverse(hessian.as_ref())?;
            inverses.push((0..p).flat_map(|j| inverse.col_as_slice(j).to_vec()).collect());
            minima.push((hessian, minimum));
        }
        let places: Vec<(usize, std::ops::Range<usize>)> = (0..shape.groups)
            .flat_map(|g| (0..n).step_by(height).map(move |o| (g, o..(o + height).min(n))))
            .collect();
        let blocks = places
            .into_par_iter()
            .map(|(group, outputs)| {
                let minimum = &minima[group].1;
                let weights = outputs.clone().map(|o| minimum.col_as_slice(o)).collect();
                let groups = groups.as_ref().map(|(of, most)| (of.as_slice(), most.clone()));
                let inverse = &inverses[group];
                let is_zero = |column: &usize| {
                    let place = |o: usize| (group * n + o) * p + column;
                    !outputs.clone().any(|o| fit.nonzero[place(o)])
                };
                let zero: Vec<usize> = (0..p).filter(is_zero).collect();
                let removals =
                    eliminate(Rows { inverse, weights, zero: &zero, units: &units, groups });
                Block { group, outputs, removals }
            })
            .collect();
        Ok(Self { fit, units, minima, blocks })
    }

    /// Removes the cheapest units of all rows until `count` weights are gone, or as near to it as
    /// whole units come, and solves for what stays. Zeros that are there already go first; those
    /// beyond what a group may lose, or within a unit that stays, are left out too.
    pub(super) fn without(&self, count: usize) -> Result<Solved> {
        let fit = self.fit;
        let (p, n) = (fit.shape.columns(), fit.shape.group_outputs());
        let taken = self.taken(count);
        if fit.nonzero.contains(&false) {
            let keep = fit.and_nonzero(self.kept(&taken));
            return Ok(Solved { weights: fit.fitted(&keep)?, keep });
        }
        let solved = self
            .blocks
            .par_iter()
            .zip(&taken)
            .map(|(block, &taken)| self.solve(block, taken))
            .collect::<Result<Vec<_>>>()?;
        let mut weights: Vec<Mat<f64>> = fit.original.iter().map(|w| w * 0.0).collect();
        let mut keep = vec![false; fit.grid.count()];
        for (block, (kept, values)) in self.blocks.iter().zip(solved) {
            for (j, output) in block.outputs.clone().enumerate() {
                for (i, &column) in kept.iter().enumerate() {
                    weights[block.group][(column, output)] = values[(i, j)];
                    keep[(block.group * n + output) * p + column] = true;
                }
            }
        }
        Ok(Solved { weights, keep })
    }

    /// What stays when each block of rows loses so many units.
    fn kept(&self, taken: &[usize]) -> Vec<bool> {
        let (p, n) = (self.fit.shape.columns(), self.fit.shape.group_outputs());
        let mut keep = vec![true; self.fit.grid.count()];
        for (block, &taken) in self.blocks.iter().zip(taken) {
            for &(unit, _) in &block.removals[..taken] {
                for output in block.outputs.clone() {
                    let row = &mut keep[(block.group * n + output) * p..][..p];
                    self.units[unit].iter().for_each(|&column| row[column] = false);
                }
            }
        }
        keep
    }

    /// How many units each block of rows loses: always the cheapest next one.
    fn taken(&self, count: usize) -> Vec<usize> {
        let mut taken = vec![0; self.blocks.len()];
        let next = |at: usize, taken: usize| -> Option<Next> {
            let &(unit, cost) = self.blocks[at].removals.get(taken)?;
            let size = self.units[unit].len() * self.blocks[at].outputs.len();
            Some(Next { rate: cost / size as f64, at, size })
        };
        let mut queue: BinaryHeap<Next> = (0..taken.len()).filter_map(|at| next(at, 0)).collect();
        let mut gone = 0;
        while gone < count {
            let Some(Next { at, size, .. }) = queue.pop() else { break };
            if 2 * (count - gone) <= size && size > count - gone {
                break;
            }
            taken[at] += 1;
            gone += size;
            queue.extend(next(at, taken[at]));
        }
        taken
    }

    /// The columns that a block keeps, and their optimal weights, a column per output.
    fn solve(&self, block: &Block, taken: usize) -> Result<(Vec<usize>, Mat<f64>)> {
        let (hessian, minimum) = &self.minima[block.group];
        let mut is_kept = vec![true; hessian.nrows()];
        for &(unit, _) in &block.removals[..taken] {
            self.units[unit].iter().for_each(|&column| is_kept[column] = false);
        }
        let kept: Vec<usize> = (0..is_kept.len()).filter(|&i| is_kept[i]).collect();
        let gone: Vec<usize> = (0..is_kept.len()).filter(|&i| !is_kept[i]).collect();
        let outputs = block.outputs.clone();
        let start = outputs.start;
        let own = |rows: &[usize]| {
            Mat::from_fn(rows.len(), outputs.len(), |i, j| minimum[(rows[i], start + j)])
        };
        if kept.is_empty() || gone.is_empty() {
            let values = own(&kept);
            return Ok((kept, values));
        }
        // H_KK (w_K - w*_K) = H_KG w*_G: what goes is carried by what stays.
        let inner = Mat::from_fn(kept.len(), kept.len(), |i, j| hessian[(kept[i], kept[j])]);
        let outer = Mat::from_fn(kept.len(), gone.len(), |i, j| hessian[(kept[i], gone[j])]);
        let change = solve(inner.as_ref(), (outer * own(&gone)).as_ref())?;
        let values = own(&kept) + change;
        Ok((kept, values))
    }
}

/// Columns of the units of a row, and the group of each unit with what each group may lose. Columns
/// go input by input, tap by tap.
type Units = (Vec<Vec<usize>>, Option<(Vec<usize>, Vec<usize>)>);

fn units(pattern: Pattern, inputs: usize, taps: usize) -> Units {
    let columns = inputs * taps;
    let single = || (0..columns).map(|column| vec![column]).collect();
    match pattern {
        Pattern::Unstructured => (single(), None),
        Pattern::NM(n, m) => {
            let across = inputs.div_ceil(m);
            let of = (0..columns).map(|column| column % taps * across + column / taps / m);
            let length = |group: usize| m.min(inputs - group % across * m);
            let most = (0..taps * across).map(|group| Pattern::removable(n, m, length(group)));
            (single(), Some((of.collect(), most.collect())))
        }
        Pattern::Block(_, width) => {
            let mut units = Vec::new();
            for tap in 0..taps {
                for start in (0..inputs).step_by(width) {
                    let end = (start + width).min(inputs);
                    units.push((start..end).map(|input| input * taps + tap).collect());
                }
            }
            (units, None)
        }
        Pattern::Rows => (vec![(0..columns).collect()], None),
    }
}
