//! Channel selection by LASSO, with a choice of solvers.

use tensor_core::Result;

use crate::baseline::descending;
use crate::coordinate_descent::CoordinateDescent;
#[cfg(feature = "linfa")]
use crate::elastic_net::ElasticNetSolver;
use crate::exchange::exchange;
use crate::homotopy::lasso_path;
use crate::lasso_system::LassoSystem;
use crate::model::PathStep;
use crate::params::ValidSelection;
use crate::penalty_search::{LassoSolver, search};
use crate::problem::Task;
use crate::selector::Selector;

/// Selects by `min 1/2 |Y - sum_i beta_i Z_i|^2 + lambda |beta|_1` (He et al. 2017, equation 2, on
/// the contributions as they are, like the authors' code), then exchanges single channels while
/// the error with refitted weights, equation 1, falls.
///
/// The penalised problem holds `W` fixed, so it misjudges channels whose part others can take over
/// once their weights are refitted; a few exchanges repair that.
pub(crate) struct Lasso {
    /// `None` for the exact path.
    solver: Option<BuildSolver>,
    ridge: f64,
    exchanges: usize,
}

type BuildSolver = fn(&LassoSystem) -> Result<Box<dyn LassoSolver + '_>>;

impl Lasso {
    /// The exact path.
    pub(crate) fn homotopy(params: &ValidSelection) -> Self {
        Self { solver: None, ridge: params.ridge(), exchanges: params.exchanges() }
    }

    /// Coordinate descent on the system.
    pub(crate) fn coordinate_descent(params: &ValidSelection) -> Self {
        let solver: BuildSolver = |system| Ok(Box::new(CoordinateDescent::new(system)));
        Self { solver: Some(solver), ..Self::homotopy(params) }
    }

    /// `linfa-elasticnet` on the factored system.
    #[cfg(feature = "linfa")]
    pub(crate) fn linfa(params: &ValidSelection) -> Self {
        let solver: BuildSolver = |system| Ok(Box::new(ElasticNetSolver::new(system)?));
        Self { solver: Some(solver), ..Self::homotopy(params) }
    }
}

impl Selector for Lasso {
    /// The order in which channels enter the path. A channel that entered and left again keeps its
    /// place, so the first `k` differ from [`select`](Selector::select) where the path has drops.
    fn order(&self, task: &Task) -> Result<Vec<usize>> {
        let system = LassoSystem::new(task);
        let path = lasso_path(&system, task.channels());
        Ok(fill(&system, path.entries(), task.channels()))
    }

    fn select(&self, task: &Task, keep: usize) -> Result<Vec<usize>> {
        self.select_traced(task, keep).map(|(kept, _)| kept)
    }

    fn select_traced(&self, task: &Task, keep: usize) -> Result<(Vec<usize>, Vec<PathStep>)> {
        task.check_keep(keep)?;
        if keep == task.channels() {
            return Ok(((0..keep).collect(), Vec::new()));
        }
        let system = LassoSystem::new(task);
        let mut steps = Vec::new();
        let chosen = match self.solver {
            None => {
                let path = lasso_path(&system, keep);
                steps = path.steps();
                path.active
            }
            Some(solver) => search(solver(&system)?.as_mut(), &system, keep, &mut steps)?,
        };
        let kept = exchange(task, &fill(&system, chosen, keep), self.ridge, self.exchanges)?;
        Ok((kept, steps))
    }
}

/// Extends `chosen` to `keep` channels. What the LASSO leaves out at every penalty is dead or a
/// combination of chosen channels; of these, those that alone explain most come first.
fn fill(system: &LassoSystem, mut chosen: Vec<usize>, keep: usize) -> Vec<usize> {
    let mut is_chosen = vec![false; system.channels()];
    for &i in &chosen {
        is_chosen[i] = true;
    }
    let alone: Vec<f64> = (0..system.channels())
        .map(|i| {
            let (a, b) = (system.gram[(i, i)], system.linear[i]);
            if a > 0.0 { b * b / a } else { 0.0 }
        })
        .collect();
    chosen.extend(descending(&alone).into_iter().filter(|&i| !is_chosen[i]));
    chosen.truncate(keep);
    chosen
}
