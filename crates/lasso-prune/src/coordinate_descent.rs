//! LASSO by cyclic coordinate descent on the system.

use tensor_core::Result;

use crate::lasso_system::LassoSystem;
use crate::penalty_search::LassoSolver;

/// Sweeps end when no coefficient changed its contribution by more than this share of `|Y|`.
const TOLERANCE: f64 = 1e-9;

/// Bound on the sweeps for one penalty.
const MAX_SWEEPS: usize = 10_000;

/// Coordinate descent that starts from its previous solution.
pub(crate) struct CoordinateDescent<'a> {
    system: &'a LassoSystem,
    beta: Vec<f64>,
    /// `b - A beta`.
    correlation: Vec<f64>,
}

impl<'a> CoordinateDescent<'a> {
    pub(crate) fn new(system: &'a LassoSystem) -> Self {
        Self { system, beta: vec![0.0; system.channels()], correlation: system.linear.clone() }
    }

    /// Minimises along one coordinate and returns the change of its contribution, `|Z_i| |change|`.
    fn update(&mut self, i: usize, lambda: f64) -> f64 {
        let diagonal = self.system.gram[(i, i)];
        if diagonal <= 0.0 {
            return 0.0;
        }
        let old = self.beta[i];
        let target = self.correlation[i] + diagonal * old;
        let new = target.signum() * (target.abs() - lambda).max(0.0) / diagonal;
        let change = new - old;
        if change == 0.0 {
            return 0.0;
        }
        self.beta[i] = new;
        for (r, a) in self.correlation.iter_mut().zip(self.system.gram.col_as_slice(i)) {
            *r -= change * a;
        }
        change.abs() * diagonal.sqrt()
    }
}

impl LassoSolver for CoordinateDescent<'_> {
    /// Full sweeps alternate with sweeps over the non-zero coefficients until those settle.
    fn solve(&mut self, lambda: f64) -> Result<Vec<f64>> {
        let tolerance = TOLERANCE * self.system.energy.max(0.0).sqrt();
        let mut sweeps = 0;
        while sweeps < MAX_SWEEPS {
            let mut largest = 0.0f64;
            for i in 0..self.system.channels() {
                largest = largest.max(self.update(i, lambda));
            }
            sweeps += 1;
            if largest <= tolerance {
                break;
            }
            let active: Vec<usize> =
                (0..self.system.channels()).filter(|&i| self.beta[i] != 0.0).collect();
            while sweeps < MAX_SWEEPS {
                let largest = active.iter().map(|&i| self.update(i, lambda)).fold(0.0, f64::max);
                sweeps += 1;
                if largest <= tolerance {
                    break;
                }
            }
        }
        Ok(self.beta.clone())
    }
}
