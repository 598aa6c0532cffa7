//! The exact LASSO path by homotopy: least-angle regression with drops.

use std::collections::BTreeSet;

use crate::lasso_system::LassoSystem;
use crate::model::PathStep;

/// A channel whose part outside the span of the active ones holds less than this share of its
/// energy is a combination of them and cannot enter.
const COLLINEAR: f64 = 1e-10;

/// The path ends when the penalty has fallen to this share of its start.
const END_OF_PATH: f64 = 1e-12;

/// What happens at a knot of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A channel becomes active.
    Enter(usize),
    /// A channel's coefficient reaches zero and leaves.
    Leave(usize),
}

/// A point where the active set changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knot {
    /// The penalty there.
    pub lambda: f64,
    /// The change.
    pub event: Event,
}

/// The path from the empty set down to the wanted number of channels.
#[derive(Debug, Clone)]
pub struct Path {
    /// Penalty at the end.
    pub lambda: f64,
    /// Coefficients at the end, one per channel.
    pub coefficients: Vec<f64>,
    /// Active channels at the end, in the order in which they entered.
    pub active: Vec<usize>,
    /// The knots, from the largest penalty down.
    pub knots: Vec<Knot>,
}

impl Path {
    /// Active channels behind each knot.
    pub fn steps(&self) -> Vec<PathStep> {
        let mut kept = 0_usize;
        let step = |knot: &Knot| {
            kept = match knot.event {
                Event::Enter(_) => kept + 1,
                Event::Leave(_) => kept.saturating_sub(1),
            };
            PathStep { penalty: knot.lambda, kept }
        };
        self.knots.iter().map(step).collect()
    }

    /// Channels in the order of their first entry.
    pub fn entries(&self) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        self.knots
            .iter()
            .filter_map(|knot| match knot.event {
                Event::Enter(i) if seen.insert(i) => Some(i),
                _ => None,
            })
            .collect()
    }
}

/// Follows the minimiser of `1/2 |Y - sum_i beta_i Z_i|^2 + lambda |beta|_1` as `lambda` falls,
/// until `keep` channels are active (Efron et al. 2004, section 3.1; the `beta` step of He et al.
/// 2017, equation 2, without their search for `lambda`).
///
/// Between knots the solution is linear in `lambda`, so the path is exact and there is no tolerance
/// on the count. It ends early, with fewer active channels, when no further channel correlates
/// with the residual: the rest are dead or combinations of the active ones.
pub fn lasso_path(system: &LassoSystem, keep: usize) -> Path {
    let mut state = State::new(system);
    let largest = state.lambda;
    // Degenerate ties could make channels enter and leave without progress.
    let max_events = 16 * system.channels() + 64;
    let mut knots = Vec::new();
    if largest > 0.0 && largest.is_finite() {
        while state.active.len() < keep && knots.len() < max_events {
            let (direction, change) = state.direction();
            let (step, event) = state.next_event(&direction, &change);
            state.advance(step, &direction, &change);
            let Some(event) = event else { break };
            if state.lambda <= END_OF_PATH * largest {
                break;
            }
            if state.apply(event) {
                knots.push(Knot { lambda: state.lambda, event });
            }
        }
    }
    Path {
        lambda: state.lambda.max(0.0),
        coefficients: state.coefficients,
        active: state.active,
        knots,
    }
}

struct State<'a> {
    system: &'a LassoSystem,
    lambda: f64,
    coefficients: Vec<f64>,
    /// Correlation of every contribution with the residual.
    correlation: Vec<f64>,
    active: Vec<usize>,
    is_active: Vec<bool>,
    /// Sign of the correlation of the active channels, in their order.
    signs: Vec<f64>,
    /// Found to be combinations of the active channels.
    collinear: Vec<bool>,
    /// The channel that left at the last knot and the sign it had.
    left: Option<(usize, f64)>,
    factor: Factor,
}

impl<'a> State<'a> {
    fn new(system: &'a LassoSystem) -> Self {
        let c = system.channels();
        let lambda = system.linear.iter().fold(0.0, |max: f64, b| max.max(b.abs()));
        Self {
            system,
            lambda,
            coefficients: vec![0.0; c],
            correlation: system.linear.clone(),
            active: Vec::new(),
            is_active: vec![false; c],
            signs: Vec::new(),
            collinear: vec![false; c],
            left: None,
            factor: Factor::default(),
        }
    }

    /// How the active coefficients change per unit of falling penalty, and by how much every
    /// correlation falls.
    fn direction(&self) -> (Vec<f64>, Vec<f64>) {
        let direction = self.factor.solve(&self.signs);
        let mut change = vec![0.0; self.system.channels()];
        for (&i, &d) in self.active.iter().zip(&direction) {
            for (a, g) in change.iter_mut().zip(self.system.gram.col_as_slice(i)) {
                *a += d * g;
            }
        }
        (direction, change)
    }

    /// The distance to the next knot and what happens there; `None` at the end of the path.
    fn next_event(&self, direction: &[f64], change: &[f64]) -> (f64, Option<Event>) {
        let mut step = self.lambda;
        let mut event = None;
        for (j, (&fall, &correlation)) in change.iter().zip(&self.correlation).enumerate() {
            if self.is_active[j] || self.collinear[j] {
                continue;
            }
            for sign in [1.0, -1.0] {
                if self.left == Some((j, sign)) {
                    continue;
                }
                let closing = 1.0 - sign * fall;
                // A gap below zero is rounding at a tie.
                let gap = (self.lambda - sign * correlation).max(0.0);
                if closing > f64::EPSILON && gap < step * closing {
                    step = gap / closing;
                    event = Some(Event::Enter(j));
                }
            }
        }
        for ((&i, &d), &sign) in self.active.iter().zip(direction).zip(&self.signs) {
            let beta = self.coefficients[i];
            // A channel that entered at a tie of several may point the wrong way from zero.
            let astray = beta == 0.0 && d * sign < 0.0;
            if (beta * d < 0.0 || astray) && -beta / d < step {
                step = -beta / d;
                event = Some(Event::Leave(i));
            }
        }
        (step, event)
    }

    fn advance(&mut self, step: f64, direction: &[f64], change: &[f64]) {
        for (&i, d) in self.active.iter().zip(direction) {
            self.coefficients[i] += step * d;
        }
        for (r, a) in self.correlation.iter_mut().zip(change) {
            *r -= step * a;
        }
        self.lambda -= step;
        // The active correlations all equal the penalty; keep rounding from pulling them apart.
        for (&i, sign) in self.active.iter().zip(&self.signs) {
            self.correlation[i] = sign * self.lambda;
        }
    }

    /// Changes the active set; false when the channel turns out to be collinear.
    fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Enter(j) => {
                let gram = &self.system.gram;
                let column: Vec<f64> = self.active.iter().map(|&i| gram[(i, j)]).collect();
                if !self.factor.push(&column, gram[(j, j)]) {
                    self.collinear[j] = true;
                    return false;
                }
                self.signs.push(if self.correlation[j] < 0.0 { -1.0 } else { 1.0 });
                self.active.push(j);
                self.is_active[j] = true;
                self.left = None;
            }
            Event::Leave(i) => {
                if let Some(position) = self.active.iter().position(|&a| a == i) {
                    self.active.remove(position);
                    let sign = self.signs.remove(position);
                    self.factor.remove(position);
                    self.left = Some((i, sign));
                }
                self.is_active[i] = false;
                self.coefficients[i] = 0.0;
                // The span shrank, so what was a combination may be one no longer.
                self.collinear.fill(false);
            }
        }
        true
    }
}

/// The lower Cholesky factor of the active part of the system, row by row.
#[derive(Default)]
struct Factor {
    rows: Vec<Vec<f64>>,
}

impl Factor {
    /// Appends a row and column; false when that would make the matrix singular.
    fn push(&mut self, column: &[f64], diagonal: f64) -> bool {
        let mut row = self.forward(column);
        let pivot = diagonal - row.iter().map(|v| v * v).sum::<f64>();
        if pivot.is_nan() || pivot <= COLLINEAR * diagonal {
            return false;
        }
        row.push(pivot.sqrt());
        self.rows.push(row);
        true
    }

    /// Deletes a row and column; Givens rotations restore the triangle.
    fn remove(&mut self, position: usize) {
        self.rows.remove(position);
        for k in position..self.rows.len() {
            let (a, b) = (self.rows[k][k], self.rows[k][k + 1]);
            let radius = a.hypot(b);
            let (cos, sin) = (a / radius, b / radius);
            for row in &mut self.rows[k..] {
                let (x, y) = (row[k], row[k + 1]);
                row[k] = cos * x + sin * y;
                row[k + 1] = cos * y - sin * x;
            }
            self.rows[k].truncate(k + 1);
        }
    }

    fn forward(&self, rhs: &[f64]) -> Vec<f64> {
        let mut x: Vec<f64> = Vec::with_capacity(rhs.len() + 1);
        for (row, b) in self.rows.iter().zip(rhs) {
            let known: f64 = row.iter().zip(&x).map(|(l, v)| l * v).sum();
            x.push((b - known) / row[x.len()]);
        }
        x
    }

    fn solve(&self, rhs: &[f64]) -> Vec<f64> {
        let mut x = self.forward(rhs);
        for (i, row) in self.rows.iter().enumerate().rev() {
            x[i] /= row[i];
            let value = x[i];
            for (v, l) in x[..i].iter_mut().zip(row) {
                *v -= value * l;
            }
        }
        x
    }
}
