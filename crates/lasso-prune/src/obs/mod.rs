//! Backward elimination by the group optimal-brain-surgeon rule.

mod blocks;
mod dual;
mod primal;

pub(crate) use blocks::Blocks;

use tensor_core::Result;

use crate::exchange::exchange;
use crate::params::ValidSelection;
use crate::problem::{CentredStatistics, Task};
use crate::reconstruct::check_ridge;
use crate::selector::Selector;

/// The order in which channels are removed, and what each removal costs.
#[derive(Debug, Clone)]
pub struct Elimination {
    /// Removed channels, the first removed first.
    pub removed: Vec<usize>,
    /// Channels never removed, ascending.
    pub kept: Vec<usize>,
    /// Objective before any removal and after each one: the ridge-regularised squared error of the
    /// best weights, relative to the response energy and averaged over the layers.
    pub objective: Vec<f64>,
}

/// Removes channels one at a time, always the one whose removal raises the least-squares error
/// least, until `keep` are left.
///
/// With `H = X^T X + ridge` the best weights of the remaining channels have the error
/// `q - tr(R^T H^-1 R)`, and taking out channel `i` raises it by exactly
///
/// ```text
/// tr(W_i [(H^-1)_ii]^-1 W_i^T)
/// ```
///
/// (optimal brain surgeon, Hassibi and Stork 1993, for a group of columns and all outputs at once,
/// always with the re-fitted weights `W`). `H^-1` and `W` of the remaining channels follow by a
/// low-rank update. Channels read by several layers cost the sum over layers, each divided by its
/// response energy. At a tie the channel with the larger index goes.
///
/// # Errors
/// When `ridge` (relative to the mean diagonal of `H`) is too small for a singular `H`.
pub fn eliminate(task: &Task, keep: usize, ridge: f64) -> Result<Elimination> {
    check_ridge(ridge)?;
    let mut kept: Vec<usize> = (0..task.channels()).collect();
    let mut layers: Vec<(Box<dyn Eliminator + '_>, f64)> = Vec::new();
    for (problem, weight) in task.weighted() {
        let lambda = problem.absolute_ridge(ridge);
        let mut state: Box<dyn Eliminator + '_> = match &*problem.statistics {
            CentredStatistics::Primal(s) => Box::new(primal::State::new(problem, s, lambda)?),
            CentredStatistics::Dual(s) => Box::new(dual::State::new(problem, s, lambda)?),
        };
        if let Some(next) = state.successor(&kept)? {
            state = next;
        }
        layers.push((state, weight));
    }
    let count = layers.len().max(1) as f64;
    let mut removed = Vec::new();
    let mut current = layers.iter().map(|(s, weight)| s.objective() * weight / count).sum();
    let mut objective = vec![current];
    while kept.len() > keep {
        let mut costs = vec![0.0; task.channels()];
        for (state, weight) in &layers {
            for (&i, cost) in kept.iter().zip(state.costs(&kept)) {
                costs[i] += *weight / count * cost;
            }
        }
        let Some(cheapest) = cheapest(&kept, &costs) else { break };
        let channel = kept.remove(cheapest);
        for (state, _) in &mut layers {
            state.remove(channel, &kept)?;
            if let Some(next) = state.successor(&kept)? {
                *state = next;
            }
        }
        current += costs[channel].max(0.0);
        objective.push(current);
        removed.push(channel);
    }
    Ok(Elimination { removed, kept, objective })
}

/// Position in `kept` of the lowest cost; the last one of a tie.
fn cheapest(kept: &[usize], costs: &[f64]) -> Option<usize> {
    (0..kept.len()).rev().min_by(|&a, &b| costs[kept[a]].total_cmp(&costs[kept[b]]))
}

/// One layer's state during elimination.
trait Eliminator {
    /// The ridge objective with all channels.
    fn objective(&self) -> f64;

    /// What the removal of each of the `kept` channels costs, in their order.
    fn costs(&self, kept: &[usize]) -> Vec<f64>;

    /// Removes a channel; `kept` are those that remain.
    fn remove(&mut self, channel: usize, kept: &[usize]) -> Result<()>;

    /// A state to go on with instead of this one.
    ///
    /// # Errors
    /// When it cannot be set up.
    fn successor(&mut self, _kept: &[usize]) -> Result<Option<Box<dyn Eliminator>>> {
        Ok(None)
    }
}

/// Selection by [`eliminate`], then [`exchange`].
pub(crate) struct Obs {
    ridge: f64,
    exchanges: usize,
}

impl Obs {
    pub(crate) fn new(params: &ValidSelection) -> Self {
        Self { ridge: params.ridge(), exchanges: params.exchanges() }
    }
}

impl Selector for Obs {
    /// The reverse of the order of removal.
    fn order(&self, task: &Task) -> Result<Vec<usize>> {
        let elimination = eliminate(task, 0, self.ridge)?;
        Ok(elimination.removed.into_iter().rev().collect())
    }

    fn select(&self, task: &Task, keep: usize) -> Result<Vec<usize>> {
        task.check_keep(keep)?;
        let elimination = eliminate(task, keep, self.ridge)?;
        exchange(task, &elimination.kept, self.ridge, self.exchanges)
    }
}
